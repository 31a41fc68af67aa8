package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/internal/testenv"
)

// A group without any database, on a real broker: poisoned keys park in Kafka with
// what follows them, in order, through SIGKILLs and rebalances; once the handlers
// are cured and somebody asks, they drain in order, though a member dies in the
// middle of it and new events arrive, which then flow directly again. Every event
// has its effect, the first ones in the order of their key (I3, I5, I6); what is
// repeated is what a plain handler may repeat, and is counted.
func TestAGroupWithoutADatabaseParksInKafkaAndLosesNothing(t *testing.T) {
	s, l := newAlone(t)
	sh := size(shape{30, 30}, shape{80, 120})
	for k := range sh.keys {
		if k%5 == 0 {
			l.Poison[fmt.Sprintf("o%d", k)] = int64(3 + k%7)
		}
	}
	catalog, err := newCatalog()
	require.NoError(t, err)
	var all []planned
	publish := func(from, to int) {
		var events []planned
		for n := from; n <= to; n++ {
			for k := range sh.keys {
				events = append(events, newPlanned(fmt.Sprintf("o%d", k), changed, int64(n)))
			}
		}
		all = append(all, events...)
		s.produceRaw(events, func(p planned) *kgo.Record { return s.record(catalog, p) })
	}
	third := sh.perKey / 3
	publish(1, third)
	a, b := s.loner(l, "a"), s.loner(l, "b")
	s.awaitLines(l, sh.keys*third/2)
	a.kill(t)
	c := s.loner(l, "c")
	publish(third+1, 2*third)
	s.awaitLines(l, sh.keys*third)
	b.stop(t)
	d := s.loner(l, "d")
	s.awaitAcknowledged(l.Group)
	s.step("everything is acknowledged")

	// All of the poisoned keys waits in order, from the poison on, and nothing else.
	letters := s.followLetters(l)
	keys, err := letters.Keys(s.ctx, deadletter.Filter{Group: l.Group}, 0, deadletter.MaxPage)
	require.NoError(t, err)
	require.Len(t, keys, len(l.Poison))
	for _, k := range keys {
		require.Equal(t, l.Handlers[0], k.Handler.Name, "the other handler is untouched")
		parked, err := letters.Letters(s.ctx, k.ID, 0, 1000)
		require.NoError(t, err)
		for i, p := range parked {
			require.Equal(t, l.Poison[string(k.Key)]+int64(i), p.Sequence, "key %s", k.Key)
		}
		require.EqualValues(t, 2*third, parked[len(parked)-1].Sequence, "key %s", k.Key)
	}
	s.requireLines(l, all, func(handler, key string, sequence int64) bool {
		p, poisoned := l.Poison[key]
		return handler == l.Handlers[0] && poisoned && sequence >= p
	})

	require.NoError(t, os.WriteFile(l.Cured, nil, 0o600))
	asked, err := letters.Ask(s.ctx, deadletter.Request{Group: l.Group, Kind: deadletter.RequestRetry, Filter: deadletter.Filter{Group: l.Group}, Rate: 50},
		deadletter.Act{Who: "suite", Reason: "it is fixed"})
	require.NoError(t, err)
	var retrier *process
	s.await("a member retries a key", func(ctx context.Context) (bool, string, error) {
		keys, err := letters.Keys(ctx, deadletter.Filter{Group: l.Group}, 0, deadletter.MaxPage)
		for _, k := range keys {
			for _, p := range []*process{c, d} {
				if k.Member == p.name {
					retrier = p
				}
			}
		}
		return retrier != nil, fmt.Sprintf("%d keys are parked", len(keys)), err
	})
	retrier.kill(t)
	s.step("the one who retried is dead")
	e := s.loner(l, "e")
	publish(2*third+1, 3*third)
	s.await("the request is carried out", func(ctx context.Context) (bool, string, error) {
		q, err := letters.Request(ctx, asked.ID)
		return q.State == deadletter.Done, fmt.Sprintf("%+v", q.Progress), err
	})
	s.awaitAcknowledged(l.Group)
	// What came behind a key in the moment in which it was drained is due at once.
	s.await("nothing is parked", func(ctx context.Context) (bool, string, error) {
		keys, err := letters.Keys(ctx, deadletter.Filter{Group: l.Group}, 0, deadletter.MaxPage)
		return len(keys) == 0, fmt.Sprintf("%d keys", len(keys)), err
	})
	s.step("everything is drained")
	for _, p := range []*process{c, d, e} {
		if p != retrier {
			p.stop(t)
		}
	}
	s.requireLines(l, all, func(string, string, int64) bool { return false })
}

// newAlone is a scene without a database, and what its group's members share.
func newAlone(t *testing.T) (*scene, *loner) {
	t.Helper()
	brokers := testenv.Kafka(t)
	ctx, cancel := context.WithTimeoutCause(t.Context(), budget(t), fmt.Errorf("%s is over its budget of %v", t.Name(), budget(t)))
	t.Cleanup(cancel)
	s := &scene{t: t, ctx: ctx, begun: time.Now(), brokers: brokers, prefix: testenv.Name("suite") + "."}
	s.topic = s.prefix + aggregateType
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	require.NoError(t, err)
	t.Cleanup(cl.Close)
	s.admin = kadm.NewClient(cl)
	s.createTopic(s.topic, 6, nil)
	l := &loner{
		Group: testenv.Name("alone"), Brokers: brokers, Topic: s.topic, Ledger: s.prefix + "ledger", Parked: s.prefix + "parked",
		Handlers: []string{"book", "report"}, Work: 2 * time.Millisecond, Poison: map[string]int64{}, Cured: filepath.Join(t.TempDir(), "cured"),
	}
	s.createTopic(l.Ledger, 1, nil)
	return s, l
}

// loner starts a process of the group.
func (s *scene) loner(l *loner, name string) *process {
	s.t.Helper()
	spec := *l
	spec.Name = name
	p := start(s.t, roleLoner, name, spec)
	s.processes = append(s.processes, p)
	return p
}

// followLetters returns the group's dead letters, followed until the end of the test.
func (s *scene) followLetters(l *loner) deadletter.Store {
	s.t.Helper()
	spec := *l
	spec.Name = "suite"
	store, err := spec.letters()
	require.NoError(s.t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.ctx))
	ended := make(chan error, 1)
	go func() { ended <- store.Run(ctx) }()
	s.t.Cleanup(func() { cancel(); require.NoError(s.t, <-ended) })
	s.await("the dead letters are read", func(ctx context.Context) (bool, string, error) {
		err := store.Ready(ctx)
		return err == nil, "", err
	})
	return store.Letters()
}

// awaitLines waits until the ledger has at least n effects.
func (s *scene) awaitLines(l *loner, n int) {
	s.t.Helper()
	s.await(fmt.Sprintf("%d effects are in the ledger", n), func(ctx context.Context) (bool, string, error) {
		ends, err := s.admin.ListEndOffsets(ctx, l.Ledger)
		o, _ := ends.Lookup(l.Ledger, 0)
		return err == nil && o.Offset >= int64(n), fmt.Sprintf("%d effects", o.Offset), err
	})
}

// lines reads the ledger.
func (s *scene) lines(l *loner) []line {
	s.t.Helper()
	ends, err := s.admin.ListEndOffsets(s.ctx, l.Ledger)
	require.NoError(s.t, err)
	end, ok := ends.Lookup(l.Ledger, 0)
	require.True(s.t, ok)
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.brokers...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.Ledger: {0: kgo.NewOffset().AtStart()}}))
	require.NoError(s.t, err)
	defer cl.Close()
	lines := make([]line, 0, end.Offset)
	for int64(len(lines)) < end.Offset {
		fetched := cl.PollFetches(s.ctx)
		require.NoError(s.t, fetched.Err())
		fetched.EachRecord(func(r *kgo.Record) {
			var one line
			require.NoError(s.t, json.Unmarshal(r.Value, &one))
			lines = append(lines, one)
		})
	}
	return lines
}

// requireLines counts every event: the ledger has the effects of all but those that
// wait, the first ones of each key in order, and no others.
func (s *scene) requireLines(l *loner, all []planned, waits func(handler, key string, sequence int64) bool) {
	s.t.Helper()
	type place struct{ handler, key string }
	had, repeated := map[place]int64{}, 0
	members := map[string]int{}
	for _, one := range s.lines(l) {
		at := place{one.Handler, one.Key}
		members[one.Member]++
		switch last := had[at]; {
		case one.Sequence <= last:
			repeated++
		default:
			require.Equal(s.t, last+1, one.Sequence, "I3: handler %s of key %s: lost or out of order: %+v", one.Handler, one.Key, one)
			had[at] = one.Sequence
		}
		require.False(s.t, waits(one.Handler, one.Key, one.Sequence), "%+v was to wait", one)
		if l.Poison[one.Key] == one.Sequence && one.Handler == l.Handlers[0] {
			require.True(s.t, one.Cured, "%+v", one)
		}
	}
	for _, p := range all {
		for _, h := range l.Handlers {
			if !waits(h, p.Aggregate, p.Sequence) {
				require.GreaterOrEqual(s.t, had[place{h, p.Aggregate}], p.Sequence, "I6: handler %s has lost %s/%d", h, p.Aggregate, p.Sequence)
			}
		}
	}
	for at, last := range had {
		require.True(s.t, slices.ContainsFunc(all, func(p planned) bool { return p.Aggregate == at.key && p.Sequence == last }), "%v: %d is a stray", at, last)
	}
	s.step(fmt.Sprintf("lost 0, out of order 0, repeated %d; effects by member: %v", repeated, members))
}
