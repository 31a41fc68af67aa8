package router

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
)

// The bound is the handler's: tries wait for their turn, and that counts for no
// timeout.
func TestNoMoreTriesThanItsConcurrencyRunAtOnce(t *testing.T) {
	for name, c := range map[string]handlers.Concurrency{
		"fixed":    {Max: 3},
		"adaptive": {Max: 3, Adaptive: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var running, most atomic.Int64
				h := handlers.On("charge", func(context.Context, event.Of[placed]) error {
					if n := running.Add(1); n > most.Load() {
						most.Store(n)
					}
					time.Sleep(time.Second)
					running.Add(-1)
					return nil
				}).With(handlers.Settings{Timeout: 1500 * time.Millisecond, Concurrency: c})
				g := newRig(t, Config{}, h).start(t)
				began := time.Now()
				drive(g, keyed(t, 20)...).Wait()
				require.EqualValues(t, 3, most.Load())
				require.Equal(t, 7*time.Second, time.Since(began).Truncate(time.Second))
				require.InDelta(t, 20, g.counter(t, "charge", outcomeApplied), 0)
				require.InDelta(t, 3, testutil.ToFloat64(g.met.concurrency.WithLabelValues("orders", "charge")), 0)
				require.NoError(t, g.end())
			})
		})
	}
}

func TestAMessageThatIsTakenAwayLeavesTheQueueForATurn(t *testing.T) {
	entered := make(chan struct{}, 2)
	release := make(chan struct{})
	h := handlers.On("charge", func(context.Context, event.Of[placed]) error {
		entered <- struct{}{}
		<-release
		return nil
	}).With(handlers.Settings{Concurrency: handlers.Concurrency{Max: 1}})
	g := newRig(t, Config{}, h).start(t)
	ds := keyed(t, 3)
	first := drive(g, ds[0])
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	taken := make(chan bool, 1)
	go func() { taken <- g.sub.offerIn(ctx, ds[1]) }()
	cancel()
	require.False(t, <-taken)
	require.Nil(t, ds[1].State, "it did not fail")
	release <- struct{}{}
	first.Wait()
	third := drive(g, ds[2])
	<-entered
	release <- struct{}{}
	third.Wait()
	require.InDelta(t, 2, g.counter(t, "charge", outcomeApplied), 0)
	require.NoError(t, g.end())
}
