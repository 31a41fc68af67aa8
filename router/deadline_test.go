package router

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

func (g *rig) near(handler string) float64 {
	return testutil.ToFloat64(g.met.near.WithLabelValues("orders", handler))
}

// An event that is retried is parked at its deadline, not at the try after it,
// and is counted once when nine tenths of its time have passed.
func TestAnEventIsParkedWhenItsDeadlinePasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBookkeeping(t)
		h := b.charge("charge", fails).With(handlers.Settings{Tries: 1000, MinBackoff: 30 * time.Second, MaxBackoff: 30 * time.Second, Deadline: 10 * time.Minute})
		g := newRig(t, Config{}, h).start(t)
		began := time.Now()
		d := at(1, placedRecord(t))
		for !g.sub.offer(d) {
			if time.Since(began) < 9*time.Minute {
				require.Zero(t, g.near("charge"))
			} else {
				require.InDelta(t, 1, g.near("charge"), 0)
			}
			time.Sleep(d.RetryIn)
		}
		require.Equal(t, 10*time.Minute, time.Since(began))
		require.InDelta(t, 1, g.near("charge"), 0)
		rows := b.parked(t)
		require.Len(t, rows, 1)
		require.Equal(t, string(inbox.CauseDeadline), rows[0].cause)
		require.Greater(t, rows[0].attempts, 15)
		require.NoError(t, g.end())
	})
}

func TestAnEventThatComesNearItsDeadlineIsCountedAndApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBookkeeping(t)
		g := newRig(t, Config{}, b.charge("charge", nil).With(handlers.Settings{Deadline: 72 * time.Minute}), b.charge("notify", nil)).start(t)
		early, late := placedRecord(t), record(t, "order.placed", "o-2", 1, placed{})
		time.Sleep(64 * time.Minute)
		require.True(t, g.sub.offer(at(1, early)))
		require.Zero(t, g.near("charge"))
		time.Sleep(time.Minute)
		require.True(t, g.sub.offer(at(2, late)))
		require.InDelta(t, 1, g.near("charge"), 0)
		require.Len(t, b.effects(t), 4)
		require.NoError(t, g.end())
	})
}

// An event that asks to be tried later than its deadline is due at the deadline:
// then it is parked with that cause. It is counted as near at once.
func TestALongDelayDoesNotOutlastTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBookkeeping(t)
		h := b.charge("charge", func(context.Context, event.Of[placed]) error { return handlers.RetryAfter(24 * time.Hour) }).
			With(handlers.Settings{Deadline: time.Hour})
		g := newRig(t, Config{}, h).start(t)
		began := time.Now()
		require.True(t, g.sub.offer(at(1, placedRecord(t))))
		rows := b.parked(t)
		require.Len(t, rows, 1)
		require.Equal(t, string(inbox.CauseLater), rows[0].cause)
		require.Equal(t, began.Add(time.Hour).UnixMilli(), rows[0].due.Int64)
		require.InDelta(t, 1, g.near("charge"), 0)
		require.NoError(t, g.end())
	})
}

// A delay in its lane can take an event to its deadline: it is counted before.
func TestADelayThatEndsAtTheDeadlineCountsTheEventAsNear(t *testing.T) {
	for name, err := range map[string]error{"asked for": handlers.RetryAfter(50 * time.Second), "backoff": errDeclined} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBookkeeping(t)
				h := b.charge("charge", func(context.Context, event.Of[placed]) error { return err }).
					With(handlers.Settings{Deadline: 30 * time.Second, MinBackoff: 50 * time.Second, MaxBackoff: 50 * time.Second})
				g := newRig(t, Config{}, h).start(t)
				d := at(1, placedRecord(t))
				require.False(t, g.sub.offer(d))
				require.Equal(t, 30*time.Second, d.RetryIn)
				require.InDelta(t, 1, g.near("charge"), 0)
				time.Sleep(d.RetryIn)
				require.True(t, g.sub.offer(d))
				require.Equal(t, string(inbox.CauseDeadline), b.parked(t)[0].cause)
				require.InDelta(t, 1, g.near("charge"), 0)
				require.NoError(t, g.end())
			})
		})
	}
}

// Where nothing can be parked, an event whose deadline passed is held, and not
// applied late.
func TestAPassedDeadlineHoldsWhereNothingCanBeParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tried := 0
		h := handlers.On("charge", func(context.Context, event.Of[placed]) error { tried++; return nil }).With(handlers.Settings{Deadline: time.Hour})
		g := newRig(t, Config{}, h).start(t)
		d := at(1, placedRecord(t))
		time.Sleep(2 * time.Hour)
		for range 3 {
			require.False(t, g.sub.offer(d))
			time.Sleep(d.RetryIn)
		}
		require.Zero(t, tried)
		require.Equal(t, "deadline", g.Held()[0].Reason)
		require.NoError(t, g.end())
	})
}
