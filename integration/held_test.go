package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A message that cannot be decoded, and an event that its handler cannot apply,
// stop their own keys and nothing else (I6, I7); the group's offset stays at or
// below them (I5); and a process without the fault applies them, in order, with
// all that waited behind them.
func TestAFaultyMessageHoldsItsOwnKeyUntilAFixedProcessAppliesIt(t *testing.T) {
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
	at := s.produceRaw(events, func(p planned) *kgo.Record {
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
	held := []string{"o3", "o4", "o5", "o6"}

	a := s.member(member{Name: "a", Group: "billing", Handlers: faulty, SlowRetry: 200 * time.Millisecond})
	s.awaitEffects(len(events)-len(held)*(sh.perKey-middle+1), "aggregate <> ''")
	// Each poison event was tried beyond its tries, slowly, and each time rolled back.
	s.await("every poison event is tried slowly", func(ctx context.Context) (bool, string, error) {
		var tries, found int
		err := s.pool.QueryRow(ctx, `SELECT coalesce(min(n), 0), count(*) FROM (SELECT count(*) AS n FROM failure GROUP BY event_id) f`).Scan(&tries, &found)
		return found == len(poison) && tries >= 5, fmt.Sprintf("%d events, at least %d tries", found, tries), err
	})
	n, err := s.effects(s.ctx, "aggregate = ANY($1) AND sequence >= $2", held, middle)
	require.NoError(t, err)
	require.Zero(t, n, "effects of held events, or of events behind them")
	s.requireHeldBack("billing", at, func(p planned) bool { return p.ID == undecodable.ID || p.ID == poison[p.Aggregate] })
	a.stop(t)
	s.requireHeldBack("billing", at, func(p planned) bool { return p.ID == undecodable.ID || p.ID == poison[p.Aggregate] })

	fixed := s.member(member{Name: "fixed", Group: "billing", Handlers: healthy, Lenient: true})
	s.awaitDrained("billing")
	fixed.stop(t)
	s.requireEffectsOnce("billing")
}

// A message that is no event at all, with a key and without one, is never
// acknowledged and never loops: the keys beside it go on, across a restart.
func TestAMessageThatIsNoEventIsHeldAndTheOthersGoOn(t *testing.T) {
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

	for _, name := range []string{"a", "b"} {
		p := s.member(member{Name: name, Group: "billing", Handlers: hs, SlowRetry: 100 * time.Millisecond})
		s.await("all but the garbage is applied", func(ctx context.Context) (bool, string, error) {
			n, err := s.effects(ctx, "grp = 'billing'")
			wanted := s.wanted("billing")
			return n >= wanted, fmt.Sprintf("%d of %d effects", n, wanted), err
		})
		s.awaitLog(p, "undecodable")
		p.stop(t)
		offsets, err := s.committed(s.ctx, "billing")
		require.NoError(t, err)
		require.Equal(t, garbage[0].Offset, offsets[0], "the committed offset must be that of the first message that was not handled")
	}
	s.requireEffectsOnce("billing")
}

// wanted is how many effects the plan asks of a group.
func (s *scene) wanted(group string) (n int) {
	s.t.Helper()
	require.NoError(s.t, s.pool.QueryRow(s.ctx, `SELECT count(*) FROM taker JOIN plan USING (type) WHERE grp = $1`, group).Scan(&n))
	return n
}

// awaitLog waits until the process has written the text.
func (s *scene) awaitLog(p *process, text string) {
	s.t.Helper()
	s.await(fmt.Sprintf("%s writes %q", p.name, text), func(context.Context) (bool, string, error) {
		return p.wrote(text), "not written", nil
	})
}

// place is where an event stands.
type place struct {
	partition int32
	offset    int64
}

// produceRaw publishes the records that record makes, in order, and says where
// each event went.
func (s *scene) produceRaw(events []planned, record func(planned) *kgo.Record) map[planned]place {
	s.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.brokers...))
	require.NoError(s.t, err)
	defer cl.Close()
	at := map[planned]place{}
	records := make([]*kgo.Record, 0, len(events))
	for _, p := range events {
		records = append(records, record(p))
	}
	require.NoError(s.t, cl.ProduceSync(s.ctx, records...).FirstErr())
	for i, p := range events {
		at[p] = place{records[i].Partition, records[i].Offset}
	}
	return at
}

// requireHeldBack fails when the group's offset is past an event that is held.
func (s *scene) requireHeldBack(group string, at map[planned]place, held func(planned) bool) {
	s.t.Helper()
	offsets, err := s.committed(s.ctx, group)
	require.NoError(s.t, err)
	found := 0
	for p, stands := range at {
		if held(p) {
			found++
			require.LessOrEqual(s.t, offsets[stands.partition], stands.offset,
				"event %s of %s stands at %v and is held", p.ID, p.Aggregate, stands)
		}
	}
	require.Positive(s.t, found)
}
