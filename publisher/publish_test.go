package publisher

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidings-bus/tidings/event"
)

func TestAnEventIsInTheLogWhenPublishReturns(t *testing.T) {
	for _, codec := range []Compression{"", NoCompression, Gzip, Snappy, LZ4, Zstd} {
		t.Run("compression "+string(codec), func(t *testing.T) {
			c := cluster(t)
			config := to(c)
			config.Compression = codec
			p := start(t, config)
			sent := ev(t, "o-1", strings.Repeat("it was placed ", 20))
			require.NoError(t, p.Publish(within(t, 5*time.Second), sent))

			records := log(t, c, "order")
			require.Len(t, records, 1)
			r := records[0]
			k := event.KafkaRecord{Key: r.Key, Value: r.Value}
			for _, h := range r.Headers {
				k.Headers = append(k.Headers, event.KafkaHeader(h))
			}
			got, err := event.FromKafka(k)
			require.NoError(t, err)
			assert.Equal(t, sent, got)
			assert.WithinDuration(t, time.Now(), r.Timestamp, 10*time.Second)
		})
	}
}

func TestACallLargerThanTheBufferIsPublishedInOrder(t *testing.T) {
	c := cluster(t)
	config := to(c)
	config.MaxBufferedEvents = 50
	config.MaxBatchEvents = 7
	p := start(t, config)
	var events []event.Event
	for i := range 1234 {
		events = append(events, ev(t, fmt.Sprintf("o-%d", i%5), text(i)))
	}
	require.NoError(t, p.Publish(within(t, 10*time.Second), events...))
	records := log(t, c, "order")
	assert.Len(t, records, len(events))
	for k := range 5 {
		values := valuesOf(records, fmt.Sprintf("o-%d", k))
		assert.True(t, slices.IsSorted(values))
		assert.Len(t, values, len(events)/5+btoi(k < len(events)%5))
	}
	assert.Zero(t, buffered(p))
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Java's partitioner is murmur2 over the key, its sign bit off, modulo the
// count: franz-go's default is tested against it.
func TestKeysGoWhereOtherClientsPutThem(t *testing.T) {
	for _, n := range []int{1, 2, 3, 6, 12, 50, 97} {
		reference := kgo.StickyKeyPartitioner(nil).ForTopic("order")
		tp := newTopic(&Publisher{config: Config{}.withDefaults()}, "order")
		l := &layout{}
		l.partitions, l.indexes = tp.partitions(n)
		for i := range 5000 {
			key := []byte(fmt.Sprintf("%x", i*i)[:1+i%min(len(fmt.Sprintf("%x", i*i)), 9)])
			want := reference.Partition(&kgo.Record{Key: key}, n)
			require.Equal(t, want, int(l.choose(tp, key, 1).id), "key %q of %d partitions", key, n)
		}
		require.Equal(t, reference.Partition(&kgo.Record{Key: []byte{}}, n), int(l.choose(tp, []byte{}, 1).id), "an empty key is a key")
	}
}

func TestRecordsWithoutAKeyAreSpread(t *testing.T) {
	tp := newTopic(&Publisher{config: Config{}.withDefaults()}, "order")
	l := &layout{}
	l.partitions, l.indexes = tp.partitions(3)
	count := make(map[int32]int)
	for range 3000 {
		count[l.choose(tp, nil, 100).id]++
	}
	for id := range int32(3) {
		assert.InDelta(t, 1000, count[id], 170)
	}
}

func TestCallersShareRequestsWhileOneIsInFlight(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "one"))
	config := to(c)
	config.TopicFor = func(event.Event) string { return "one" }
	p := start(t, config)
	ctx := within(t, 10*time.Second)
	require.NoError(t, p.Publish(ctx, ev(t, "first", "first")))

	release := hold(c)
	seen := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Observe: true, Topic: "one", Count: -1})
	done := make(chan error, 101)
	sendBehind(ctx, p, done, ev(t, "o", "lone"))
	eventually(t, "the first is in flight", func() bool { return buffered(p) == 1 })
	for i := range 100 {
		sendBehind(ctx, p, done, ev(t, text(i), "x"))
	}
	eventually(t, "all wait", func() bool { return buffered(p) == 101 })
	release()
	for range 101 {
		require.NoError(t, <-done)
	}
	assert.LessOrEqual(t, seen.Hits(), 3, "one for the lone event, one for the hundred, and one for a straggler between")
	assert.Len(t, log(t, c, "one"), 102)
}

// hold makes the broker wait before it works on any further produce request,
// until release is called.
func hold(c *kfake.Cluster) (release func()) {
	gate := make(chan struct{})
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		c.SleepControl(func() { <-gate })
		return asUsual()
	})
	return func() { close(gate) }
}

func TestAFullBufferBlocksUntilTheContextEnds(t *testing.T) {
	c := cluster(t, kfake.SleepOutOfOrder())
	config := to(c)
	config.MaxBufferedEvents = 3
	p := start(t, config)
	require.NoError(t, p.Publish(within(t, 5*time.Second), ev(t, "a", "first")))
	release := hold(c)
	done := make(chan error)
	sendBehind(within(t, 10*time.Second), p, done, ev(t, "a", "1"), ev(t, "b", "2"), ev(t, "c", "3"))
	eventually(t, "the buffer is full", func() bool { return buffered(p) == 3 })

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	err := p.Publish(ctx, ev(t, "d", "4"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "room in the publisher's buffer")
	assert.False(t, failures(t, err).Failed[0].InDoubt)

	release()
	require.NoError(t, <-done)
	require.NoError(t, p.Publish(within(t, 5*time.Second), ev(t, "d", "5")))
	assert.Equal(t, []string{"5"}, valuesOf(log(t, c, "order"), "d"))
}

// I8: events of one call share memory, which one of them keeps from being freed.
func TestI8RoomIsGivenBackWithTheMemoryThatItStandsFor(t *testing.T) {
	c := cluster(t)
	p := start(t, to(c))
	keys := keysOf(t, p)
	var fails atomic.Bool
	fails.Store(true)
	c.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Produce}, Topic: "order", Partitions: []int32{2}, Err: kerr.NotEnoughReplicas, Count: -1,
		When: func(kmsg.Request) bool { return fails.Load() },
	})
	events, size := []event.Event{ev(t, keys[2], "stuck")}, 0
	for i := range 99 {
		events = append(events, ev(t, keys[0], text(i)))
	}
	for _, e := range events {
		r := recordOf(e)
		size += bodySize(&r) + recordOverhead
	}
	done := make(chan error, 1)
	sendBehind(within(t, 20*time.Second), p, done, events...)
	left := func() int { n, _ := held(p); return n }
	eventually(t, "one is left", func() bool { return len(done) == 0 && buffered(p) > 0 && left() == 1 })
	n, bytes := p.budget.held()
	assert.Equal(t, []int{100, size}, []int{n, bytes})
	fails.Store(false)
	require.NoError(t, <-done)
	n, bytes = p.budget.held()
	assert.Equal(t, []int{0, 0}, []int{n, bytes})
}

func TestTheBufferIsBoundedByBytesAndServesInOrder(t *testing.T) {
	b := budget{maxEvents: 100, maxBytes: 1000}
	ctx := within(t, 5*time.Second)
	require.NoError(t, b.take(ctx, 1, 900))
	order := make(chan string, 2)
	waiting := func() int { b.mu.Lock(); defer b.mu.Unlock(); return b.waiting.Len() }
	go func() { _ = b.take(ctx, 1, 800); order <- "large" }()
	eventually(t, "the large one waits", func() bool { return waiting() == 1 })
	go func() { _ = b.take(ctx, 1, 50); order <- "small" }() // would fit, but came later
	eventually(t, "both wait", func() bool { return waiting() == 2 })
	b.give(1, 900)
	first, second := <-order, <-order
	assert.ElementsMatch(t, []string{"large", "small"}, []string{first, second})

	// One that gives up lets those behind it through.
	short, cancel := context.WithCancel(ctx)
	gone := make(chan error)
	go func() { gone <- b.take(short, 1, 900) }()
	eventually(t, "it waits", func() bool { return waiting() == 1 })
	go func() { _ = b.take(ctx, 1, 10); order <- "behind" }()
	eventually(t, "one is behind", func() bool { return waiting() == 2 })
	cancel()
	require.ErrorIs(t, <-gone, context.Canceled)
	assert.Equal(t, "behind", <-order)
	events, bytes := b.held()
	assert.Equal(t, []int{3, 860}, []int{events, bytes})
}

func TestRetriableFailuresAreTriedAgainUntilTheyPass(t *testing.T) {
	for _, code := range []*kerr.Error{
		kerr.NotLeaderForPartition, kerr.LeaderNotAvailable, kerr.RequestTimedOut, kerr.NotEnoughReplicas,
		kerr.NotEnoughReplicasAfterAppend, kerr.KafkaStorageError, kerr.CorruptMessage, kerr.UnknownTopicOrPartition,
	} {
		t.Run(code.Message, func(t *testing.T) {
			c := cluster(t)
			p := start(t, to(c))
			h := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "order", Err: code, Count: 3})
			require.NoError(t, p.Publish(within(t, 10*time.Second), ev(t, "o", "1"), ev(t, "o", "2")))
			assert.Equal(t, 3, h.Hits())
			assert.Equal(t, []string{"1", "2"}, valuesOf(log(t, c, "order"), "o"))
		})
	}
}

func TestABrokerRestartIsWaitedFor(t *testing.T) {
	dir := t.TempDir()
	port := freePort(t)
	boot := func() *kfake.Cluster {
		c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.DataDir(dir), kfake.SeedTopics(6, "order"))
		require.NoError(t, err)
		return c
	}
	c := boot()
	p := start(t, to(c))
	ctx := within(t, 20*time.Second)
	require.NoError(t, p.Publish(ctx, ev(t, "o", "before")))
	c.Close()
	done := make(chan error)
	sendBehind(ctx, p, done, ev(t, "o", "while away"))
	eventually(t, "it is on its way", func() bool { return buffered(p) == 1 })
	c = boot()
	defer c.Close()
	require.NoError(t, <-done)
	assert.Equal(t, []string{"before", "while away"}, valuesOf(log(t, c, "order"), "o"))
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

func TestALeaderThatMovesIsFollowed(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(3))
	p := start(t, to(c))
	ctx := within(t, 20*time.Second)
	for i := range 30 {
		require.NoError(t, p.Publish(ctx, ev(t, "a", text(i)), ev(t, "b", text(i)), ev(t, "c", text(i))))
		c.ShufflePartitionLeaders()
	}
	records := log(t, c, "order")
	for _, key := range []string{"a", "b", "c"} {
		assert.Len(t, valuesOf(records, key), 30)
		assert.True(t, slices.IsSorted(valuesOf(records, key)))
	}
}

func TestCloseWaitsForWhatWasAccepted(t *testing.T) {
	c := cluster(t)
	p, err := New(to(c))
	require.NoError(t, err)
	require.NoError(t, p.Publish(within(t, 5*time.Second), ev(t, "o", "1")))
	release := hold(c)
	published, closed := make(chan error, 1), make(chan error, 1)
	sendBehind(t.Context(), p, published, ev(t, "o", "2"))
	eventually(t, "it is in flight", func() bool { return buffered(p) == 1 })
	go func() { closed <- p.Close(within(t, 10*time.Second)) }()
	eventually(t, "new events are refused", func() bool { return p.Ping(t.Context()) != nil })
	require.ErrorIs(t, p.Publish(t.Context(), ev(t, "o", "3")), ErrClosed)
	select {
	case <-closed:
		t.Fatal("closed while an event was in flight")
	default:
	}
	release()
	require.NoError(t, <-published)
	require.NoError(t, <-closed)
	require.NoError(t, p.Close(t.Context()), "closing twice is fine")
	assert.Equal(t, []string{"1", "2"}, valuesOf(log(t, c, "order"), "o"))
}

func TestCloseGivesUpWhenItsContextEnds(t *testing.T) {
	c := cluster(t)
	p, err := New(to(c))
	require.NoError(t, err)
	require.NoError(t, p.Publish(within(t, 5*time.Second), ev(t, "o", "1")))
	release := hold(c)
	defer release()
	published, queued := make(chan error, 1), make(chan error, 1)
	sendBehind(t.Context(), p, published, ev(t, "o", "2"))
	eventually(t, "it is in flight", func() bool { _, is := held(p); return is })
	sendBehind(t.Context(), p, queued, ev(t, "o", "3"))
	eventually(t, "it is queued", func() bool { n, _ := held(p); return n == 2 })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, p.Close(ctx), context.DeadlineExceeded)
	first, second := <-published, <-queued
	require.Error(t, first)
	assert.True(t, failures(t, first).Failed[0].InDoubt, "the broker had it")
	require.Error(t, second)
	assert.False(t, failures(t, second).Failed[0].InDoubt, "the broker never had it")
}

func TestMetricsCountWhatHappened(t *testing.T) {
	c := cluster(t)
	registry := prometheus.NewRegistry()
	config := to(c)
	config.Metrics = registry
	p, err := New(config)
	require.NoError(t, err)
	_, err = New(config)
	require.ErrorContains(t, err, "give each publisher its own registerer")
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "order", Err: kerr.NotEnoughReplicas, Count: 2})
	require.NoError(t, p.Publish(within(t, 5*time.Second), ev(t, "o", "1"), ev(t, "o", "2")))
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "order", Err: kerr.TopicAuthorizationFailed})
	require.Error(t, p.Publish(within(t, 5*time.Second), ev(t, "o", "3")))
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP tidings_publisher_buffered_events Events waiting or in flight.
# TYPE tidings_publisher_buffered_events gauge
tidings_publisher_buffered_events 0
# HELP tidings_publisher_events_total Events by topic and outcome: acknowledged, failed, or in_doubt (not acknowledged, may be in the log).
# TYPE tidings_publisher_events_total counter
tidings_publisher_events_total{outcome="acknowledged",topic="order"} 2
tidings_publisher_events_total{outcome="failed",topic="order"} 1
# HELP tidings_publisher_retries_total Produce requests that failed and were to be sent again, by reason: network, timeout, or kafka_ and the error code.
# TYPE tidings_publisher_retries_total counter
tidings_publisher_retries_total{reason="kafka_19"} 2
`), "tidings_publisher_buffered_events", "tidings_publisher_events_total", "tidings_publisher_retries_total"))
	problems, err := testutil.GatherAndLint(registry)
	require.NoError(t, err)
	assert.Empty(t, problems)
	require.NoError(t, p.Close(t.Context()))
	families, err := registry.Gather()
	require.NoError(t, err)
	assert.Empty(t, families, "a closed publisher leaves the registry")
}
