package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/internal/testenv"
)

// Members join, leave and die in quick turns while keys are parked, and more of
// them with each turn, and events flow. Nothing slips past a parked key: neither
// by the member that parks it, nor by the one that takes its partition over
// (I3, I6).
func TestNothingPassesAParkedKeyInManyRebalances(t *testing.T) {
	const partitions = 6
	s := newScene(t, stage{partitions: partitions})
	group := testenv.Name("billing")
	random := newRandom(t)
	turns := size(8, 50)
	hs := []handlerSpec{
		{Name: "open", Type: placed},
		// Keys are parked from the first turn to the last.
		{Name: "book", Type: changed, Tries: 2, Failing: 0.02, Trouble: trouble{Poisoned: 0.5, Spread: size[uint64](20, 100)}},
		{Name: "report", Type: changed, Tries: 2, Trouble: trouble{Poisoned: 0.5, Spread: size[uint64](20, 100)}},
		{Name: "settle", Type: closed},
	}
	s.takes(group, hs)
	crew := s.crew(member{Group: group, Handlers: hs, Session: 2 * time.Second, Lease: 5 * time.Second}, random)
	crew.join()
	crew.join()
	flow := s.flow(group, random, size(200, 400), 300)
	crew.awaitSettled(partitions)
	s.awaitNewEffects(50)
	store := s.letters()
	s.await("a key is parked before the first turn", func(ctx context.Context) (bool, string, error) {
		n, err := store.Count(ctx, deadletter.Filter{Group: group})
		return err == nil && total(n).Keys > 0, "none is", err
	})

	var parked []int64 // keys, after each turn
	for range turns {
		what := "one leaves"
		switch n := random.IntN(3); {
		case len(crew.at) < 2 || n == 0 && len(crew.at) < 4:
			what = "one joins"
			crew.join()
		case n == 1:
			what = "one is killed"
			crew.kill()
		default:
			crew.leave()
		}
		crew.awaitSettled(partitions)
		s.awaitNewEffects(30)
		n, err := store.Count(s.ctx, deadletter.Filter{Group: group})
		require.NoError(t, err)
		parked = append(parked, total(n).Keys)
		s.requireNothingPassed(group, poisonedBy(hs, flow.events()))
		s.step(fmt.Sprintf("%s, %d are left, %d keys with %d events are parked", what, len(crew.at), total(n).Keys, total(n).Events))
	}
	require.Positive(t, parked[0], "keys must be parked from the beginning on")
	require.Greater(t, parked[turns-1], parked[0]+10, "more keys must have been parked in the turns")

	// Whatever was not applied is parked, once, and in the order of its key.
	events := flow.finish(t)
	poison := poisonedBy(hs, events)
	s.awaitAcknowledged(group)
	s.requireNothingPassed(group, poison)
	s.requireParkedOrApplied(group)
	n, err := store.Count(s.ctx, deadletter.Filter{Group: group})
	require.NoError(t, err)
	s.step(fmt.Sprintf("%d events, %d keys with %d events are parked", len(events), total(n).Keys, total(n).Events))
	require.GreaterOrEqual(t, total(n).Keys, int64(len(poison.handlers)))

	s.cure()
	s.retryUntilNone(store, group)
	s.awaitDrained(group)
	crew.stop(t)
	s.requireEffectsOnce(group)
}

// requireParkedOrApplied fails unless each planned event has either its effect or
// its place among the dead letters, for each handler, and each parked key is in
// the order of its sequences, above all that was applied.
func (s *scene) requireParkedOrApplied(group string) {
	s.t.Helper()
	s.await("the ledger can be read", func(ctx context.Context) (bool, string, error) {
		var missing, both, disordered int
		err := s.pool.QueryRow(ctx, `
			WITH wanted AS (
				SELECT t.handler, p.event_id FROM taker t JOIN plan p USING (type) WHERE t.grp = $1
			), letter AS (
				SELECT h.name AS handler, l.event_id, l.id, l.aggregate_id, l.sequence,
					lag(l.sequence, 1, 0::bigint) OVER (PARTITION BY l.parked_key_id ORDER BY l.id) AS predecessor
				FROM tidings.dead_letter l JOIN tidings.handler h ON h.id = l.handler_id WHERE h.grp = $1
			), done AS (
				SELECT handler, event_id, sequence FROM effect WHERE grp = $1
			)
			SELECT (SELECT count(*) FROM wanted LEFT JOIN letter USING (handler, event_id) LEFT JOIN done USING (handler, event_id)
					WHERE letter.id IS NULL AND done.sequence IS NULL),
				(SELECT count(*) FROM letter JOIN done USING (handler, event_id)),
				(SELECT count(*) FROM letter l WHERE l.sequence < l.predecessor OR EXISTS
					(SELECT FROM effect d WHERE d.grp = $1 AND d.handler = l.handler AND d.aggregate = l.aggregate_id AND d.sequence > l.sequence))`,
			group).Scan(&missing, &both, &disordered)
		if err != nil {
			return false, "", err
		}
		require.Zero(s.t, missing, "events neither applied nor parked")
		require.Zero(s.t, both, "events applied and parked")
		require.Zero(s.t, disordered, "parked events out of order")
		return true, "", nil
	})
}
