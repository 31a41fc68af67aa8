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

func subscribeForBatches(t *testing.T, config subscriber.Config) (*subscriber.Subscriber, <-chan *message.Message) {
	t.Helper()
	s, err := subscriber.New(config)
	require.NoError(t, err)
	out, err := s.Subscribe(delivery.WithBatches(delivery.WithFeed(context.Background())), "orders")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s, out
}

// I3 and I5: what is gathered is in order, each message is settled on its own,
// and what is not settled comes again.
func TestGatheredMessagesAreInOrderAndEachIsFinishedOnItsOwn(t *testing.T) {
	const messages, keys = 3000, 17
	c := newCluster(t, 2, "orders")
	c.produce("orders", 0, messages, keys)
	s, out := subscribeForBatches(t, c.config("billing"))
	var mu sync.Mutex
	last := map[string]int{}
	seen := map[int]int{}
	var largest, batches atomic.Int64
	handle := func(m *message.Message) {
		first := delivery.FromContext(m.Context())
		g, ok := first.Feed.(delivery.Gatherer)
		if !ok {
			t.Error("no gatherer")
			return
		}
		ds := append([]*delivery.Delivery{first}, g.Gather(99, 1<<20)...)
		largest.Store(max(largest.Load(), int64(len(ds))))
		batch := batches.Add(1)
		failed := map[string]bool{}
		var ends []delivery.End
		mu.Lock()
		defer mu.Unlock()
		for i, d := range ds {
			key := string(d.Record.Key)
			n, err := strconv.Atoi(string(d.Record.Value))
			if err != nil {
				t.Error(err)
			}
			if failed[key] {
				continue // it must come again, behind the one that failed
			}
			if n%50 == 7 && d.Attempt == 1 {
				failed[key] = true
				d.RetryIn, d.Alone = time.Millisecond, true
				ends = append(ends, delivery.End{Index: i, Verdict: delivery.Failed})
				continue
			}
			if batch%7 == 0 && i > len(ds)/2 { // the reader gives up half-way
				continue
			}
			if n%50 == 7 && len(ds) > 1 {
				t.Errorf("message %d was to come alone", n)
			}
			if at, ok := last[key]; ok && n != at+keys {
				t.Errorf("message %d of key %s follows %d", n, key, at)
			}
			last[key] = n
			seen[n]++
			ends = append(ends, delivery.End{Index: i, Verdict: delivery.Finished})
		}
		g.Settle(ends)
		m.Ack()
	}
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for m := range out {
				handle(m)
			}
		})
	}
	await(t, "all messages", func() bool { mu.Lock(); defer mu.Unlock(); return len(seen) == messages })
	await(t, "commit", func() bool { return c.committed("billing", "orders") == messages })
	mu.Lock()
	for n, times := range seen {
		require.Equal(t, 1, times, "message %d", n)
	}
	mu.Unlock()
	require.Greater(t, largest.Load(), int64(20), "batches were gathered")
	require.NoError(t, s.Close())
	readers.Wait()
}

// I5: a batch that was begun is finished by a drain and committed.
func TestDrainWaitsForAGatheredBatch(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 100, 10)
	s, out := subscribeForBatches(t, c.config("billing"))
	m := receive(t, out)
	g, ok := delivery.FromContext(m.Context()).Feed.(delivery.Gatherer)
	require.True(t, ok)
	var ds []*delivery.Delivery
	await(t, "a batch", func() bool {
		ds = append(ds, g.Gather(30-len(ds), 1<<20)...)
		return len(ds) == 30
	})
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	await(t, "the partitions are given up", func() bool { return len(subscriber.PartitionsForTest(s)) == 0 })
	ends := make([]delivery.End, len(ds)+1)
	highest := int64(0)
	for i := range ends {
		ends[i].Index = i
	}
	for _, d := range ds {
		highest = max(highest, d.Offset)
	}
	go func() { // what lies between may come now
		for m := range out {
			m.Ack()
		}
	}()
	require.NoError(t, m.Context().Err(), "what runs may finish")
	g.Settle(ends)
	m.Ack()
	require.NoError(t, <-closed)
	require.Equal(t, highest+1, c.committed("billing", "orders"))
}
