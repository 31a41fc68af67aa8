package router

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

var minutely = Config{DeadLetters: DeadLetters{Poll: time.Minute}}

func (b *bookkeeping) ask(t *testing.T) {
	t.Helper()
	_, err := b.box.Letters().Ask(t.Context(), deadletter.Request{Group: "billing", Kind: deadletter.RequestRetry, Filter: deadletter.Filter{Group: "billing"}},
		deadletter.Act{Who: "tester", Reason: "test"})
	require.NoError(t, err)
}

// A refund that the bank takes tomorrow: parked until then, applied by itself, and
// what waited behind it after it.
func TestALongDelayIsRetriedByItselfWhenItIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBookkeeping(t)
		began := time.Now()
		var ran []time.Duration
		g := newRig(t, minutely, b.charge("charge", func(_ context.Context, e event.Of[placed]) error {
			if e.Sequence() == 1 {
				ran = append(ran, time.Since(began))
			}
			if len(ran) == 1 {
				return handlers.RetryAfter(2 * time.Hour)
			}
			return nil
		})).start(t)
		require.True(t, g.sub.offer(at(1, record(t, "order.placed", "o-1", 1, placed{}))))
		require.True(t, g.sub.offer(at(2, record(t, "order.placed", "o-1", 2, placed{}))))
		time.Sleep(time.Minute)
		require.Equal(t, []string{`1 keys with 2 events parked for handler "charge" since 2000-01-01T00:00:00Z: see tidings dlq list`}, g.Warnings(t.Context()))
		time.Sleep(2*time.Hour + time.Minute) // polls are up to 66 s apart
		require.Len(t, ran, 2)
		require.InDelta(t, 2*time.Hour, ran[1], float64(2*time.Minute))
		require.Equal(t, []string{"charge o-1/1", "charge o-1/2"}, b.effects(t))
		require.Empty(t, b.parked(t))
		require.Empty(t, g.Warnings(t.Context()))
		require.NoError(t, g.end())
	})
}

// Nobody applies an event after its deadline by himself, also not one that waited
// behind another; who asks for it has it applied.
func TestADeadlineThatPassesAmongTheDeadLettersIsHeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBookkeeping(t)
		h := b.charge("charge", func(ctx context.Context, e event.Of[placed]) error {
			if e.Sequence() == 1 && handlers.LastError(ctx) == nil {
				return handlers.RetryAfter(24 * time.Hour)
			}
			return nil
		}).With(handlers.Settings{Deadline: time.Hour})
		g := newRig(t, minutely, h).start(t)
		require.True(t, g.sub.offer(at(1, record(t, "order.placed", "o-1", 1, placed{}))))
		require.True(t, g.sub.offer(at(2, record(t, "order.placed", "o-1", 2, placed{}))))
		time.Sleep(63 * time.Minute)
		require.Equal(t, []string{"charge deadline", "charge behind"}, b.summary(t))
		require.False(t, b.parked(t)[0].due.Valid)
		require.Contains(t, b.parked(t)[0].err, `handler "charge" takes events until 1h0m0s after their time`)
		require.Empty(t, b.effects(t))
		b.ask(t)
		time.Sleep(3 * time.Minute)
		require.Equal(t, []string{"charge o-1/1", "charge o-1/2"}, b.effects(t))
		require.NoError(t, g.end())
	})
}

func TestParkedEventsOfAHandlerThatIsGoneAreReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBookkeeping(t)
		old := newRig(t, minutely, b.charge("bill", func(context.Context, event.Of[placed]) error { return handlers.Reject(errDeclined) })).start(t)
		require.True(t, old.sub.offer(at(1, placedRecord(t))))
		require.NoError(t, old.end())

		g := newRig(t, minutely, b.charge("charge", nil)).start(t)
		time.Sleep(10 * time.Minute)
		var told []map[string]any
		for _, line := range g.logs.lines(slog.LevelWarn) {
			if line["handler"] == "bill" {
				told = append(told, line)
			}
		}
		require.Len(t, told, 1)
		require.Contains(t, told[0]["msg"], "a handler that is no longer in the group has parked events")
		require.Equal(t, []string{`handler "bill" is no longer in the group and has parked events: hand them to another one (tidings dlq reassign) or discard them`}, g.Warnings(t.Context()))
		_, err := b.box.Letters().Reassign(t.Context(), inbox.Handler{Group: "billing", Name: "bill"}, inbox.Handler{Group: "billing", Name: "charge"}, deadletter.Act{Who: "tester", Reason: "renamed"})
		require.NoError(t, err)
		b.ask(t)
		time.Sleep(10 * time.Minute)
		require.Equal(t, []string{"charge o-1/1"}, b.effects(t), "by one that had no event of its own yet")
		require.Empty(t, g.Warnings(t.Context()))
		require.NoError(t, g.end())
	})
}

// A stop waits for the retry that runs, like for a message, and names a handler
// that ignores it.
func TestAStopWaitsForRunningRetries(t *testing.T) {
	for name, deaf := range map[string]bool{"heeds": false, "ignores": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBookkeeping(t)
				started, release := make(chan struct{}), make(chan struct{})
				g := newRig(t, Config{StopTimeout: time.Minute, StopGrace: 10 * time.Second, DeadLetters: DeadLetters{Poll: time.Minute, Lease: time.Hour}},
					b.charge("charge", func(ctx context.Context, _ event.Of[placed]) error {
						if handlers.LastError(ctx) == nil {
							return handlers.Reject(errDeclined)
						}
						close(started)
						done := ctx.Done()
						if deaf {
							done = nil
						}
						select {
						case <-release:
						case <-done:
						}
						return ctx.Err()
					}).With(handlers.Settings{Timeout: -1})).start(t)
				require.True(t, g.sub.offer(at(17, placedRecord(t))))
				b.ask(t)
				<-started
				began := time.Now()
				err := g.end()
				if deaf {
					require.Equal(t, 70*time.Second, time.Since(began))
					var stuck *StuckError
					require.ErrorAs(t, err, &stuck)
					require.Len(t, stuck.Handlers, 1)
					require.EqualValues(t, 17, stuck.Handlers[0].Offset)
				} else {
					require.Equal(t, time.Minute, time.Since(began))
					require.NoError(t, err)
				}
				close(release)
				synctest.Wait()
				require.Len(t, b.parked(t), 1, "what was cut short has not failed")
				require.Equal(t, 1, b.parked(t)[0].attempts)
			})
		})
	}
}
