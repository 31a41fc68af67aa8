package router

import (
	"context"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/internal/delivery"
)

// listFeed hands out what it has, one after the other.
type listFeed struct {
	left     []*delivery.Delivery
	finished int
	after    func(finished int)
}

func (f *listFeed) Next(values context.Context) *delivery.Context {
	if len(f.left) == 0 {
		return nil
	}
	f.finished++
	if f.after != nil {
		f.after(f.finished)
	}
	d := f.left[0]
	f.left = f.left[1:]
	d.Attempt, d.Feed = d.Attempt+1, f
	return delivery.Start(values, d)
}

// list makes n deliveries, of which the second and later ones are in a feed.
func list(t *testing.T, n int) (*delivery.Delivery, *listFeed) {
	t.Helper()
	f := &listFeed{}
	for i := 2; i <= n; i++ {
		f.left = append(f.left, at(int64(i), record(t, "order.placed", "o-1", int64(i), placed{})))
	}
	d := at(1, record(t, "order.placed", "o-1", 1, placed{}))
	d.Feed = f
	return d, f
}

func sequences(seen *[]int64, fail int64) handlers.Handler {
	return handlers.On("a", func(ctx context.Context, e event.Of[placed]) error {
		*seen = append(*seen, e.Sequence())
		if message.HandlerNameFromCtx(ctx) != "billing/orders" {
			return handlers.Reject(context.Canceled)
		}
		if e.Sequence() == fail {
			return handlers.RetryAfter(3 * time.Second)
		}
		return nil
	})
}

func TestMessagesOfTheFeedAreHandledLikeOthers(t *testing.T) {
	var seen []int64
	g := newRig(t, Config{}, sequences(&seen, 0)).start(t)
	d, f := list(t, 4)
	require.True(t, g.sub.offer(d))
	require.Equal(t, []int64{1, 2, 3, 4}, seen)
	require.Equal(t, 3, f.finished, "the last one is finished by the ack")
	require.InDelta(t, 4, g.counter(t, "a", "applied"), 0)
	require.NoError(t, g.end())
}

func TestFailureEndsTheFeedWithANackForTheOneThatFailed(t *testing.T) {
	var seen []int64
	g := newRig(t, Config{}, sequences(&seen, 3)).start(t)
	d, f := list(t, 5)
	third := f.left[1]
	require.False(t, g.sub.offer(d))
	require.Equal(t, []int64{1, 2, 3}, seen)
	require.Equal(t, 2, f.finished)
	require.Len(t, f.left, 2)
	require.InDelta(t, 3, third.RetryIn.Seconds(), 1)
	require.NotNil(t, third.State)
	require.Nil(t, d.State)
	require.Zero(t, d.RetryIn)
	require.NoError(t, g.end())
}

func TestKilledRouterTakesNothingFromTheFeed(t *testing.T) {
	var seen []int64
	release := make(chan struct{})
	h := handlers.On("a", func(ctx context.Context, e event.Of[placed]) error {
		seen = append(seen, e.Sequence())
		<-ctx.Done()
		close(release)
		return nil // finished all the same
	})
	g := newRig(t, Config{StopTimeout: time.Millisecond}, h).start(t)
	d, f := list(t, 3)
	acked := make(chan bool, 1)
	go func() { acked <- g.sub.offer(d) }()
	require.Eventually(t, func() bool { g.work.mu.Lock(); defer g.work.mu.Unlock(); return g.work.first != nil }, 5*time.Second, time.Millisecond)
	require.NoError(t, g.end())
	<-release
	<-acked
	require.Equal(t, []int64{1}, seen)
	require.Zero(t, f.finished)
}
