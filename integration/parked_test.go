package integration

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/handlers/inbox/pgxinbox"
)

// A message that cannot be decoded, and an event that its handler cannot apply,
// stop their own keys and nothing else: they are parked with what follows them,
// and acknowledged (I5, I6, I7). A process without the fault applies them when
// somebody asks, in order, with all that waits behind them.
func TestAFaultyMessageParksItsOwnKeyUntilAFixedProcessAppliesIt(t *testing.T) {
	s := newScene(t, stage{partitions: 2})
	sh := size(shape{60, 20}, shape{300, 100})
	events := plan("o", sh)
	s.expect(events)
	catalog, err := newCatalog()
	require.NoError(t, err)

	// One event in the middle of each of three keys' lives is poison to its
	// handler, one of another key is undecodable to this version of the service.
	const middle = 5
	poison := map[string]uuid.UUID{}
	var undecodable planned
	for _, e := range events {
		if e.Sequence != middle {
			continue
		}
		switch e.Aggregate {
		case "o3", "o4", "o5":
			poison[e.Aggregate] = e.ID
		case "o6":
			undecodable = e
		}
	}
	require.Len(t, poison, 3)
	s.produceRaw(events, func(p planned) *kgo.Record {
		r := s.record(catalog, p)
		if p.ID == undecodable.ID {
			r.Value = fmt.Appendf(nil, `{"amount":"%d"}`, p.Sequence)
		}
		return r
	})

	healthy := []handlerSpec{{Name: "open", Type: placed}, {Name: "book", Type: changed, Tries: 3}, {Name: "settle", Type: closed}}
	faulty := append([]handlerSpec{}, healthy...)
	for _, id := range poison {
		faulty[1].Poison = append(faulty[1].Poison, id)
	}
	s.takes("billing", healthy)
	behind := sh.perKey - middle + 1 // the event itself included

	a := s.member(member{Name: "a", Group: "billing", Handlers: faulty})
	// The last event of a key has another handler, which has not failed: only the
	// undecodable message holds that one back too.
	s.awaitEffects(len(events)-len(poison)*(behind-1)-behind, "aggregate <> ''")
	s.awaitAcknowledged("billing")
	n, err := s.effects(s.ctx, "aggregate = ANY($1) AND sequence >= $2 AND handler = 'book' OR aggregate = 'o6' AND sequence >= $2",
		[]string{"o3", "o4", "o5"}, middle)
	require.NoError(t, err)
	require.Zero(t, n, "effects of parked events, or of events behind them")
	tries, failed := s.failures("billing")
	require.Equal(t, 3*len(poison), tries, "each poison event was tried as often as its handler wants")
	require.Equal(t, len(poison), failed)
	a.stop(t)

	// The poison is parked for its handler, the undecodable message for all three.
	want := map[inbox.Cause]int64{inbox.CauseError: 3, inbox.CauseUndecodable: 3}
	letters := deadLetters(t, s.pool)
	counts, err := letters.Count(s.ctx, deadletter.Filter{Group: "billing"}, deadletter.ByCause)
	require.NoError(t, err)
	for _, c := range counts {
		require.Equal(t, want[inbox.Cause(c.Group[deadletter.ByCause])], c.Keys, "keys by the cause of their heads: %v", c.Group)
	}
	require.Len(t, counts, len(want))

	fixed := s.member(member{Name: "fixed", Group: "billing", Handlers: healthy, Lenient: true})
	s.retryParked(letters, "billing")
	fixed.stop(t)
	// The other handlers have settled the undecodable message without an effect.
	s.requireEffectsOnce("billing", effectless{handler: "open", event: undecodable.ID}, effectless{handler: "settle", event: undecodable.ID})
	counts, err = letters.Count(s.ctx, deadletter.Filter{Group: "billing"})
	require.NoError(t, err)
	for _, c := range counts {
		require.Zero(t, c.Events, "parked events are left")
	}
}

// deadLetters is the store of the database that the pool is of.
func deadLetters(t *testing.T, pool *pgxpool.Pool) deadletter.Store {
	t.Helper()
	box, err := pgxinbox.New(pgxinbox.Config{Pool: pool})
	require.NoError(t, err)
	return box.Letters()
}

// retryParked asks the group to retry all that it has parked, and waits until its
// members have.
func (s *scene) retryParked(letters deadletter.Store, group string) {
	s.t.Helper()
	asked, err := letters.Ask(s.ctx, deadletter.Request{Group: group, Kind: deadletter.RequestRetry, Filter: deadletter.Filter{Group: group}},
		deadletter.Act{Who: "suite", Reason: "it is fixed"})
	require.NoError(s.t, err)
	s.await("the request is carried out", func(ctx context.Context) (bool, string, error) {
		q, err := letters.Request(ctx, asked.ID)
		return q.State == deadletter.Done, fmt.Sprintf("%+v", q.Progress), err
	})
}

// A message that is no event at all, with a key and without one, is parked with
// its bytes for every handler, once: the keys beside it go on, across a restart.
func TestAMessageThatIsNoEventIsParkedAndTheOthersGoOn(t *testing.T) {
	s := newScene(t, stage{partitions: 1})
	events := plan("o", shape{20, 10})
	s.expect(events)
	catalog, err := newCatalog()
	require.NoError(t, err)
	hs := every(0, 0)
	s.takes("billing", hs)

	half := len(events) / 2
	s.produceRaw(events[:half], func(p planned) *kgo.Record { return s.record(catalog, p) })
	garbage := []*kgo.Record{
		{Topic: s.topic, Key: []byte("stranger"), Value: []byte("\x00\xff no event")},
		{Topic: s.topic, Value: nil},
		{Topic: s.topic, Key: []byte("o-garbled"), Value: []byte("{"), Headers: []kgo.RecordHeader{
			{Key: "content-type", Value: []byte("application/cloudevents+json")},
		}},
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.brokers...))
	require.NoError(t, err)
	defer cl.Close()
	for _, r := range garbage {
		require.NoError(t, cl.ProduceSync(s.ctx, r).FirstErr())
	}
	s.produceRaw(events[half:], func(p planned) *kgo.Record { return s.record(catalog, p) })

	letters := deadLetters(t, s.pool)
	for _, name := range []string{"a", "b"} {
		p := s.member(member{Name: name, Group: "billing", Handlers: hs})
		s.awaitLog(p, "partitions assigned")
		s.awaitAcknowledged("billing")
		p.stop(t)
		counts, err := letters.Count(s.ctx, deadletter.Filter{Group: "billing"}, deadletter.ByCause)
		require.NoError(t, err)
		require.Len(t, counts, 1)
		require.Equal(t, string(inbox.CauseUndecodable), counts[0].Group[deadletter.ByCause])
		require.EqualValues(t, len(garbage)*len(hs), counts[0].Events)
	}
	keys, err := letters.Keys(s.ctx, deadletter.Filter{Group: "billing", Handlers: []string{hs[0].Name}}, 0, 100)
	require.NoError(t, err)
	require.Len(t, keys, len(garbage))
	byOffset := map[int64]deadletter.Letter{}
	for _, k := range keys {
		l, err := letters.Letter(s.ctx, k.Head)
		require.NoError(t, err)
		byOffset[l.Place.Offset] = l
	}
	for _, r := range garbage {
		l := byOffset[r.Offset]
		require.NotZero(t, l.ID)
		require.Equal(t, string(r.Key), string(l.Place.Key))
		require.Equal(t, string(r.Value), string(l.Record.Value))
		require.Len(t, l.Record.Headers, len(r.Headers))
	}
	s.requireEffectsOnce("billing")
}

// awaitAcknowledged waits until the group's offsets are at the end of the topic.
func (s *scene) awaitAcknowledged(group string) {
	s.t.Helper()
	s.await(fmt.Sprintf("group %s has acknowledged everything", group), func(ctx context.Context) (bool, string, error) {
		lag, err := s.lag(ctx, group)
		return lag == 0, fmt.Sprintf("lag %d", lag), err
	})
}

// awaitLog waits until the process has written the text.
func (s *scene) awaitLog(p *process, text string) {
	s.t.Helper()
	s.await(fmt.Sprintf("%s writes %q", p.name, text), func(context.Context) (bool, string, error) {
		return p.wrote(text), "not written", nil
	})
}

// produceRaw publishes the records that record makes, in order.
func (s *scene) produceRaw(events []planned, record func(planned) *kgo.Record) {
	s.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.brokers...))
	require.NoError(s.t, err)
	defer cl.Close()
	records := make([]*kgo.Record, 0, len(events))
	for _, p := range events {
		records = append(records, record(p))
	}
	require.NoError(s.t, cl.ProduceSync(s.ctx, records...).FirstErr())
}
