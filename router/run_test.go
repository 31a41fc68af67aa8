package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// running is a handler that runs until release is closed or, unless it is deaf,
// its context ends.
func running(name string, deaf bool, started, release chan struct{}) handlers.Handler {
	return handlers.On(name, func(ctx context.Context, _ event.Of[placed]) error {
		close(started)
		done := ctx.Done()
		if deaf {
			done = nil
		}
		select {
		case <-release:
			return nil
		case <-done:
			return ctx.Err()
		}
	}).With(handlers.Settings{Timeout: -1})
}

func TestStopLetsRunningHandlersFinishAndAcknowledgesThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		started, release := make(chan struct{}), make(chan struct{})
		g := newRig(t, Config{StopTimeout: time.Minute}, running("a", false, started, release)).start(t)
		acked := make(chan bool, 1)
		d := at(1, placedRecord(t))
		go func() { acked <- g.sub.offer(d) }()
		<-started
		g.stop()
		time.Sleep(50 * time.Second)
		require.ErrorContains(t, g.Ready(t.Context()), `router of group "billing" is stopping`)
		select {
		case <-g.done:
			t.Fatal("Run returned while a handler runs")
		default:
		}
		close(release)
		require.NoError(t, <-g.done)
		require.True(t, <-acked)
		require.False(t, g.sub.closed, "what was given is not closed")
	})
}

func TestStopCancelsHandlersAtTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		started := make(chan struct{})
		g := newRig(t, Config{StopTimeout: time.Minute}, running("a", false, started, nil)).start(t)
		acked := make(chan bool, 1)
		d := at(1, placedRecord(t))
		go func() { acked <- g.sub.offer(d) }()
		<-started
		began := time.Now()
		require.NoError(t, g.end())
		require.Equal(t, time.Minute, time.Since(began))
		require.False(t, <-acked, "a cancelled handler has not finished")
	})
}

func TestHandlersThatIgnoreTheirContextAreNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		started, release := make(chan struct{}), make(chan struct{})
		g := newRig(t, Config{StopTimeout: time.Minute, StopGrace: 10 * time.Second}, running("deaf", true, started, release)).start(t)
		rec := placedRecord(t)
		go g.sub.offer(at(17, rec))
		<-started
		began := time.Now()
		err := g.end()
		require.Equal(t, 70*time.Second, time.Since(began))
		require.ErrorIs(t, err, ErrHandlerStuck)
		var stuck *StuckError
		require.ErrorAs(t, err, &stuck)
		require.Len(t, stuck.Handlers, 1)
		e, decodeErr := event.FromKafka(rec)
		require.NoError(t, decodeErr)
		require.EqualError(t, err, fmt.Sprintf(`router: handler "deaf" has been on order.placed %s (orders/3@17) for 1m10s: its context is cancelled and it does not return: pass the context on to whatever it waits for`, e.ID()))
		require.ErrorIs(t, g.Live(t.Context()), ErrHandlerStuck)
		close(release)
		synctest.Wait()
		require.NoError(t, g.Live(t.Context()))
	})
}

func TestAHandlerFarBeyondItsTimeoutMakesTheProcessUnlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		started, release := make(chan struct{}), make(chan struct{})
		h := handlers.On("deaf", func(context.Context, event.Of[placed]) error {
			close(started)
			<-release
			return nil
		}).With(handlers.Settings{Timeout: 10 * time.Second})
		g := newRig(t, Config{}, h).start(t)
		d := at(17, placedRecord(t))
		go g.sub.offer(d)
		<-started
		time.Sleep(time.Minute)
		require.NoError(t, g.Live(t.Context()))
		time.Sleep(time.Minute)
		require.ErrorIs(t, g.Live(t.Context()), ErrHandlerStuck)
		close(release)
		require.NoError(t, g.end())
	})
}

func TestMessagesThatComeDuringTheDrainAreHandled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		started, release := make(chan struct{}), make(chan struct{})
		quick := handlers.On("quick", func(context.Context, event.Of[canceled]) error { j.add("quick"); return nil })
		g := newRig(t, Config{}, running("slow", false, started, release), quick).start(t)
		first := make(chan bool, 1)
		d := at(2, placedRecord(t))
		go func() { first <- g.sub.offer(d) }()
		<-started
		g.stop()
		synctest.Wait()
		require.True(t, g.sub.offer(at(1, record(t, "order.canceled", "o-2", 1, canceled{}))), "it fills a gap below what is running")
		close(release)
		require.True(t, <-first)
		require.NoError(t, <-g.done)
		require.Equal(t, []string{"quick"}, j.all())
	})
}

func TestASubscriptionThatEndsByItselfEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		g := newRig(t, Config{}, onPlaced("a", &j, nil))
		payments := &memSubscriber{}
		require.NoError(t, g.Subscribe(Subscription{Topic: "payments", Subscriber: payments, Handlers: []handlers.Handler{onPlaced("b", &j, nil)}}))
		g.start(t)
		payments.topic("payments").end()
		require.EqualError(t, <-g.done, `router: the subscription to "payments" of group "billing" ended by itself: its subscriber was closed or gave up; see its log`)
	})
}

func TestASubscriberThatFailsToSubscribeEndsRunAndTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		g := newRig(t, Config{}, onPlaced("a", &j, nil))
		payments := &memSubscriber{fail: errors.New("no broker reachable")}
		require.NoError(t, g.Subscribe(Subscription{Topic: "payments", Subscriber: payments, Handlers: []handlers.Handler{onPlaced("b", &j, nil)}}))
		require.EqualError(t, g.Run(t.Context()), `router: subscribing to "payments" for group "billing": no broker reachable`)
		_, open := <-g.sub.topic("orders").out
		require.False(t, open, "the subscription opened before it has ended")
	})
}

func TestSubscriptionsThatDoNotEndAreNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		g := newRig(t, Config{StopTimeout: time.Minute}, onPlaced("a", &j, nil)).start(t)
		orders := g.sub.topic("orders")
		orders.inFlight.Add(1)
		require.EqualError(t, g.end(), `router: the subscription to "orders" of group "billing" did not end within 1m5s of the stop: its subscriber may be cut off from its brokers`)
		orders.inFlight.Done()
	})
}

func TestEachInboxIsKeptOnceAndAgainWhenItsUpkeepFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		var kept atomic.Int32
		var down atomic.Bool
		down.Store(true)
		fresh := func(inbox.Admission) (inbox.Answer, error) { return inbox.Fresh, nil }
		box := &memInbox{id: "db-1", answer: fresh, keep: func(ctx context.Context) error {
			kept.Add(1)
			if down.Load() {
				return errors.New("connection refused")
			}
			<-ctx.Done()
			return ctx.Err()
		}}
		same := &memInbox{id: "db-1", answer: fresh, keep: func(context.Context) error { t.Error("kept twice"); return nil }}
		g := newRig(t, Config{}, inTx("a", box, &j), inTx("b", same, &j)).start(t)
		synctest.Wait()
		require.EqualError(t, g.Ready(t.Context()), "upkeep of inbox db-1 fails: connection refused")
		require.NotEmpty(t, g.logs.lines(slog.LevelError))
		require.True(t, g.sub.offer(at(1, placedRecord(t))), "messages flow all the same")
		down.Store(false)
		time.Sleep(2 * time.Second)
		require.NoError(t, g.Ready(t.Context()))
		require.EqualValues(t, 2, kept.Load())
		require.NoError(t, g.end())
	})
}

func TestReadyFollowsTheRoutersLifeAndItsSubscribers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		g := newRig(t, Config{}, onPlaced("a", &j, nil))
		require.EqualError(t, g.Ready(t.Context()), `router of group "billing" has not been started`)
		g.start(t)
		require.NoError(t, g.Ready(t.Context()))
		g.sub.ready = errors.New("no broker has answered for 30s")
		require.EqualError(t, g.Ready(t.Context()), `subscriber of "orders": no broker has answered for 30s`)
		require.NoError(t, g.Live(t.Context()), "a restart would not help")
		require.NoError(t, g.end())
		require.EqualError(t, g.Ready(t.Context()), `router of group "billing" has stopped`)
		require.EqualError(t, g.Subscribe(Subscription{Topic: "late"}), `router: subscribing to "late": the router of group "billing" already runs: subscribe before Run`)
	})
}

func TestARegularStopLogsNoErrorNorWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		g := newRig(t, Config{}, onPlaced("a", &j, failTimes(1))).start(t)
		g.sub.untilAcked(t, at(1, placedRecord(t)))
		require.NoError(t, g.end())
		require.Empty(t, g.logs.lines(slog.LevelError))
		require.Len(t, g.logs.lines(slog.LevelWarn), 1, "the failed try")
	})
}
