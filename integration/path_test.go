package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The whole path: a process publishes, two others handle, four handlers, two of
// them for the same type.
func TestAnEventPublishedByOneProcessHasItsEffectOnceAndInOrderInAnother(t *testing.T) {
	s := newScene(t, stage{})
	events := plan("o", size(shape{100, 20}, shape{1000, 100}))
	s.expect(events)
	hs := every(0, 0)
	s.takes("billing", hs)
	s.takes("shipping", hs[3:])

	billing := s.member(member{Name: "billing-a", Group: "billing", Handlers: hs})
	shipping := s.member(member{Name: "shipping-a", Group: "shipping", Handlers: hs[3:]})
	s.produce(producer{})
	n, err := s.produced(s.ctx)
	require.NoError(t, err)
	require.Equal(t, len(events), n, "records in the topic")
	s.awaitDrained("billing")
	s.awaitDrained("shipping")
	billing.stop(t)
	shipping.stop(t)
	s.requireEffectsOnce("billing")
	s.requireEffectsOnce("shipping")
}

// A share of the events is published twice in a row, another once more after
// all others, and the whole plan again by a producer that was killed on its way
// and started anew.
func TestAnEventPublishedTwiceHasItsEffectOnce(t *testing.T) {
	s := newScene(t, stage{})
	events := plan("o", size(shape{80, 15}, shape{500, 100}))
	s.expect(events)
	hs := every(0, 0)
	s.takes("billing", hs)
	a := s.member(member{Name: "a", Group: "billing", Handlers: hs})
	b := s.member(member{Name: "b", Group: "billing", Handlers: hs})

	first := s.producer(producer{Twice: 0.2, Slice: 10, Pace: 2 * time.Millisecond})
	s.awaitProduced(len(events) / 2)
	first.kill(t)
	s.produce(producer{Twice: 0.2})
	n, err := s.produced(s.ctx)
	require.NoError(t, err)
	require.Greater(t, n, len(events)*8/5, "the topic must hold duplicates for the suite to prove anything")
	s.awaitDrained("billing")
	a.stop(t)
	b.stop(t)
	s.requireEffectsOnce("billing")
	t.Logf("%d records of %d events", n, len(events))
}

// Six partitions, read by one process, then by three, then by two, while events
// flow: I3 and I5 across rebalances.
func TestPartitionsMoveBetweenOneThreeAndTwoProcesses(t *testing.T) {
	movePartitions(t, stage{partitions: 6})
}

func movePartitions(t *testing.T, st stage) {
	t.Helper()
	s := newScene(t, st)
	events := plan("o", size(shape{120, 30}, shape{600, 100}))
	s.expect(events)
	hs := []handlerSpec{
		{Name: "open", Type: placed},
		{Name: "book", Type: changed, Work: 2 * time.Millisecond},
		{Name: "settle", Type: closed},
	}
	s.takes("billing", hs)
	spec := func(name string) member { return member{Name: name, Group: "billing", Handlers: hs} }

	a := s.member(spec("a"))
	producing := s.producer(producer{Slice: 20, Pace: 250 * time.Millisecond})
	s.awaitEffects(100, "member = 'a'")
	b, c := s.member(spec("b")), s.member(spec("c"))
	s.awaitShared("billing", "a", "b", "c")
	require.True(t, producing.running(), "events must still flow when three share the partitions")
	a.stop(t)
	s.awaitShared("billing", "b", "c")
	producing.release(t)
	s.awaitDrained("billing")
	b.stop(t)
	c.stop(t)
	s.requireEffectsOnce("billing")
}

// awaitShared waits until each of the named has an effect that is newer than
// this call.
func (s *scene) awaitShared(group string, names ...string) {
	s.t.Helper()
	var from int64
	s.await("the ledger can be read", func(ctx context.Context) (bool, string, error) {
		err := s.pool.QueryRow(ctx, `SELECT coalesce(max(serial), 0) FROM effect`).Scan(&from)
		return err == nil, "", err
	})
	s.await(fmt.Sprintf("%v share the work", names), func(ctx context.Context) (bool, string, error) {
		found, err := s.members(ctx, group, fmt.Sprintf("serial > %d", from))
		for _, name := range names {
			done := false
			for _, f := range found {
				done = done || f == name
			}
			if !done {
				return false, fmt.Sprintf("new effects by %v", found), err
			}
		}
		return true, "", err
	})
}
