package subscriber_test

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/internal/delivery"
	"github.com/tidings-bus/tidings/subscriber"
)

func subscribeWithFeed(t *testing.T, config subscriber.Config) (*subscriber.Subscriber, <-chan *message.Message) {
	t.Helper()
	s, err := subscriber.New(config)
	require.NoError(t, err)
	require.True(t, delivery.Feeds(s))
	out, err := s.Subscribe(delivery.WithFeed(context.Background()), "orders")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s, out
}

// I3 and I5: what comes by the feed is in order and counted like the rest, also
// where attempts fail.
func TestFeedBringsEveryMessageInTheOrderOfItsKey(t *testing.T) {
	const messages, keys = 3000, 17
	c := newCluster(t, 2, "orders")
	c.produce("orders", 0, messages, keys)
	s, out := subscribeWithFeed(t, c.config("billing"))
	l := newLedger(t)
	var fed atomic.Int64
	one := func(ctx context.Context) bool {
		d := delivery.FromContext(ctx)
		n, err := strconv.Atoi(string(d.Record.Value))
		require.NoError(t, err)
		l.begin(string(d.Record.Key), n)
		ok := n%10 != 7 || d.Attempt > 1
		require.NoError(t, ctx.Err())
		l.end(string(d.Record.Key), n, keys, ok)
		d.RetryIn = time.Millisecond
		return ok
	}
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for m := range out {
				ctx := m.Context()
				for {
					if !one(ctx) {
						m.Nack()
						break
					}
					next := delivery.FromContext(ctx).Feed.Next(m.Context())
					if next == nil {
						m.Ack()
						break
					}
					require.Error(t, ctx.Err(), "the finished attempt's context goes on")
					fed.Add(1)
					ctx = next //nolint:fatcontext // it derives from the first one
				}
			}
		})
	}
	await(t, "all messages", func() bool { return l.count() == messages })
	await(t, "commit", func() bool { return c.committed("billing", "orders") == messages })
	for n, times := range l.seen {
		require.Equal(t, 1, times, "message %d", n)
	}
	require.Greater(t, fed.Load(), int64(messages/2))
	require.NoError(t, s.Close())
	readers.Wait()
}

func TestFeedEndsWhenTheSubscriberStops(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 100, 1)
	s, out := subscribeWithFeed(t, c.config("billing"))
	m := receive(t, out)
	last := m.Context().(*delivery.Context)
	next := func() bool {
		ctx := last.Delivery().Feed.Next(m.Context())
		if ctx == nil {
			return false
		}
		last = ctx
		return true
	}
	require.True(t, next())
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	await(t, "the partitions are given up", func() bool { return len(subscriber.PartitionsForTest(s)) == 0 })
	await(t, "the end of the feed", func() bool { return !next() })
	require.NoError(t, last.Err(), "what runs may finish")
	m.Ack()
	require.NoError(t, <-closed)
	require.Less(t, last.Delivery().Offset, int64(25), "the feed went on while the partition was drained")
	require.Equal(t, last.Delivery().Offset+1, c.committed("billing", "orders"), "finished by the feed, and not committed")
}

func TestDrainDeadlineCancelsWhatCameByTheFeed(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 10, 1)
	config := c.config("billing")
	config.Timings.Drain = 100 * time.Millisecond
	s, out := subscribeWithFeed(t, config)
	m := receive(t, out)
	first := delivery.FromContext(m.Context())
	var second *delivery.Context
	await(t, "a second message", func() bool {
		second = first.Feed.Next(m.Context())
		return second != nil
	})
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	<-second.Done()
	require.Nil(t, second.Delivery().Feed.Next(m.Context()))
	m.Nack()
	require.NoError(t, <-closed)
	require.Equal(t, int64(1), c.committed("billing", "orders"), "the first was finished, the second was not")
}

func TestNoFeedForWhoDidNotAskForIt(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 1, 1)
	s, out := subscribe(t, c.config("billing"), "orders")
	m := receive(t, out)
	require.Nil(t, delivery.FromContext(m.Context()).Feed)
	m.Ack()
	require.False(t, delivery.Feeds(struct{ message.Subscriber }{s}), "a wrapper would not see what the feed brings")
}
