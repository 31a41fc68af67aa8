package integration

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox/pgxinbox"
)

// inBatches is the handler of a spec with a Batch. The events whose first tries
// fail do so in a batch too, after all of it was written.
func inBatches[T any](e effects, h handlerSpec, box *pgxinbox.Inbox) handlers.Handler {
	return handlers.Batch(h.Name, box, func(ctx context.Context, tx pgx.Tx, es []event.Of[T]) error {
		var failed []uuid.UUID
		for _, ev := range es {
			if err := e.write(ctx, tx, h.Name, ev.Event); err != nil {
				return err
			}
			if handlers.Attempt(ctx) <= failures(h, ev.ID()) {
				failed = append(failed, ev.ID())
			}
		}
		if h.Work > 0 {
			if err := work(ctx, h.Work); err != nil {
				return err
			}
		}
		if len(failed) == 0 {
			return nil
		}
		err := errOnPurpose
		for _, id := range failed {
			err = errors.Join(err, e.fail(ctx, h.Name, id))
		}
		return err
	}).With(handlers.Settings{MinBackoff: 10 * time.Millisecond, MaxBackoff: 100 * time.Millisecond}).Of(handlers.BatchSettings{Max: h.Batch})
}

// Members that apply events in batches die of SIGKILL in the middle of them,
// others take over, and some events fail at first: I3, I4 and I5 for each event
// of a batch.
func TestAProcessKilledInTheMiddleOfABatchLosesAndDoublesNothing(t *testing.T) {
	s := newScene(t, stage{})
	events := plan("o", size(shape{60, 40}, shape{500, 100}))
	s.expect(events)
	hs := []handlerSpec{{Name: "book", Type: changed, Batch: 100, Failing: 0.005, Work: 10 * time.Millisecond}}
	s.takes("billing", hs)
	spec := func(name string) member {
		return member{Name: name, Group: "billing", Handlers: hs, Session: 2 * time.Second}
	}
	s.produce(producer{})
	s.member(spec("survivor"))
	for i := range size(3, 8) {
		name := fmt.Sprintf("victim-%d", i)
		victim := s.member(spec(name))
		s.awaitEffects(size(100, 1000), "member = $1", name)
		s.await("it is in the middle of a batch", func(ctx context.Context) (bool, string, error) {
			var open int
			err := s.pool.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity
				WHERE datname = current_database() AND state LIKE 'idle in transaction%'`).Scan(&open)
			return open > 0, fmt.Sprintf("%d transactions at work", open), err
		})
		victim.kill(t)
		lag, err := s.lag(s.ctx, "billing")
		require.NoError(t, err)
		require.Positive(t, lag, "the kill must be amid the work")
	}
	last := s.member(spec("last"))
	s.awaitDrained("billing")
	last.stop(t)
	s.processes[1].stop(t)
	s.requireEffectsOnce("billing")
	var transactions, applied int
	require.NoError(t, s.pool.QueryRow(s.ctx, `SELECT count(DISTINCT xmin::text), count(*) FROM effect`).Scan(&transactions, &applied))
	require.Less(t, 5*transactions, applied, "the effects were written in batches")
	t.Logf("%d effects in %d transactions", applied, transactions)
	_, failed := s.failures("billing")
	require.Positive(t, failed, "some events must have failed first")
}
