package router

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
)

// waitsForEver is what the stack must show.
func waitsForEver(release chan struct{}) { <-release }

// A handler that ignores its context is logged once, by name, with the stack of
// its own goroutine and no other's.
func TestAHandlerThatIgnoresItsContextIsLoggedOnceWithItsStack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		deaf := handlers.On("deaf", func(_ context.Context, _ event.Of[placed]) error {
			waitsForEver(release)
			return nil
		}).With(handlers.Settings{Timeout: 10 * time.Second})
		slow := handlers.On("slow", func(context.Context, event.Of[canceled]) error {
			<-release
			return nil
		}).With(handlers.Settings{Timeout: time.Hour})
		g := newRig(t, Config{}, deaf, slow).start(t)
		ended := make(chan bool, 3)
		one, two, other := at(17, placedRecord(t)), at(18, record(t, "order.placed", "o-2", 1, placed{})), at(19, record(t, "order.canceled", "o-3", 1, canceled{}))
		go func() { ended <- g.sub.offer(one) }()
		go func() { ended <- g.sub.offer(other) }()
		time.Sleep(time.Minute)
		go func() { ended <- g.sub.offer(two) }()
		require.Empty(t, g.logs.lines(slog.LevelError))
		time.Sleep(10 * time.Minute)
		lines := g.logs.lines(slog.LevelError)
		require.Len(t, lines, 2, "each attempt once")
		for i, offset := range []float64{17, 18} {
			require.Equal(t, "deaf", lines[i]["handler"])
			require.InDelta(t, offset, lines[i]["offset"], 0)
			require.Contains(t, lines[i]["stack"], "waitsForEver")
			require.NotContains(t, lines[i]["stack"], "\n\n", "one goroutine")
		}
		var stuck *StuckError
		require.ErrorAs(t, g.Live(t.Context()), &stuck)
		require.Len(t, stuck.Handlers, 2)
		require.Contains(t, stuck.Handlers[0].Stack, "waitsForEver")
		close(release)
		for range 3 {
			require.True(t, <-ended)
		}
		require.NoError(t, g.Live(t.Context()))
		require.Empty(t, g.work.stacks)
		require.NoError(t, g.end())
	})
}

func TestAHandlerThatIgnoresTheStopIsNamedWithItsStack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		started, release := make(chan struct{}), make(chan struct{})
		deaf := handlers.On("deaf", func(_ context.Context, _ event.Of[placed]) error {
			close(started)
			waitsForEver(release)
			return nil
		})
		g := newRig(t, Config{StopTimeout: time.Minute}, deaf).start(t)
		d := at(17, placedRecord(t))
		go g.sub.offer(d)
		<-started
		var stuck *StuckError
		require.ErrorAs(t, g.end(), &stuck)
		require.Contains(t, stuck.Handlers[0].Stack, "waitsForEver")
		require.Contains(t, g.logs.lines(slog.LevelError)[0]["stack"], "waitsForEver")
		close(release)
		synctest.Wait()
	})
}

func TestABatchThatIgnoresTheStopIsNamedWithItsStack(t *testing.T) {
	started, release := make(chan struct{}), make(chan struct{})
	db := newBookkeeping(t)
	deaf := db.bulk(func(context.Context, []event.Of[placed]) error {
		close(started)
		waitsForEver(release)
		return nil
	})
	g := newRig(t, Config{StopTimeout: time.Millisecond, StopGrace: time.Millisecond}, deaf).start(t)
	ended := make(chan struct{})
	ds := deliveries(t, "a/1", "b/1")
	go func() {
		defer close(ended)
		offerAll(g, ds...)
	}()
	<-started
	var stuck *StuckError
	require.ErrorAs(t, g.end(), &stuck)
	require.Contains(t, stuck.Handlers[0].Stack, "waitsForEver")
	close(release)
	<-ended
}
