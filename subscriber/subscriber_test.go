package subscriber_test

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/internal/delivery"
	"github.com/tidings-bus/tidings/subscriber"
)

func TestMain(m *testing.M) {
	// sarama, which a benchmark compares with, starts a clock that has no stop.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

// cluster is an embedded broker with a client to write and look with.
type cluster struct {
	*kfake.Cluster

	t      testing.TB
	client *kgo.Client
	admin  *kadm.Client
}

func newCluster(t testing.TB, partitions int32, topics ...string) *cluster {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(time.Second), kfake.SeedTopics(partitions, topics...))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return &cluster{Cluster: c, t: t, client: client, admin: kadm.NewClient(client)}
}

func (c *cluster) config(group string) subscriber.Config {
	return subscriber.Config{
		Connection: connection.Config{Brokers: c.ListenAddrs()},
		Group:      group,
		RetryDelay: func(int) time.Duration { return 20 * time.Millisecond },
		Timings:    subscriber.Timings{Session: 6 * time.Second, Commit: 50 * time.Millisecond},
		Logger:     slog.New(slog.DiscardHandler),
	}
}

// produce writes n messages, numbered from first, over keys k0..k(keys-1).
func (c *cluster) produce(topic string, first, n, keys int) {
	c.t.Helper()
	var records []*kgo.Record
	for i := first; i < first+n; i++ {
		r := &kgo.Record{Topic: topic, Value: []byte(strconv.Itoa(i))}
		if keys > 0 {
			r.Key = []byte("k" + strconv.Itoa(i%keys))
		}
		records = append(records, r)
	}
	require.NoError(c.t, c.client.ProduceSync(context.Background(), records...).FirstErr())
}

// produceTo writes n messages of one key to one partition.
func (c *cluster) produceTo(topic string, partition int32, first, n int) {
	c.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(c.t, err)
	defer client.Close()
	for i := first; i < first+n; i++ {
		r := &kgo.Record{Topic: topic, Partition: partition, Key: []byte("k"), Value: []byte(strconv.Itoa(i))}
		require.NoError(c.t, client.ProduceSync(context.Background(), r).FirstErr())
	}
}

// committed sums the group's offsets of the topic.
func (c *cluster) committed(group, topic string) int64 {
	offsets, err := c.admin.FetchOffsets(context.Background(), group)
	require.NoError(c.t, err)
	sum := int64(0)
	for _, o := range offsets[topic] {
		sum += max(0, o.At)
	}
	return sum
}

// counter sums a counter's values, or those with the given label value.
func counter(t testing.TB, registry *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			matches := label == ""
			for _, l := range m.GetLabel() {
				matches = matches || l.GetValue() == label
			}
			if matches {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func subscribe(t testing.TB, config subscriber.Config, topic string) (*subscriber.Subscriber, <-chan *message.Message) {
	t.Helper()
	s, err := subscriber.New(config)
	require.NoError(t, err)
	out, err := s.Subscribe(context.Background(), topic)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s, out
}

func receive(t testing.TB, out <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case m, ok := <-out:
		require.True(t, ok, "the channel is closed")
		return m
	case <-time.After(20 * time.Second):
		t.Fatal("no message")
		return nil
	}
}

func await(t testing.TB, what string, reached func() bool) {
	t.Helper()
	require.Eventually(t, reached, 20*time.Second, 5*time.Millisecond, what)
}

// ledger counts what handlers did, per key, and complains about disorder.
type ledger struct {
	t    testing.TB
	mu   sync.Mutex
	last map[string]int // number of the last message of a key
	seen map[int]int    // times a number was finished
	busy map[string]bool
}

func newLedger(t testing.TB) *ledger {
	return &ledger{t: t, last: map[string]int{}, seen: map[int]int{}, busy: map[string]bool{}}
}

func (l *ledger) begin(key string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy[key] {
		l.t.Errorf("key %s: %d began beside another message of the key", key, n)
	}
	l.busy[key] = true
}

func (l *ledger) end(key string, n, stride int, finished bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy[key] = false
	if !finished {
		return
	}
	if last, ok := l.last[key]; ok && n > last+stride {
		l.t.Errorf("key %s: %d after %d, %d left out", key, n, last, last+stride)
	}
	l.last[key] = max(n, l.last[key])
	l.seen[n]++
}

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.seen)
}

func number(m *message.Message) int {
	n, err := strconv.Atoi(string(m.Payload))
	if err != nil {
		panic(fmt.Sprintf("payload %q: %v", m.Payload, err))
	}
	return n
}

func TestMessagesComeWithTheirDelivery(t *testing.T) {
	c := newCluster(t, 1, "orders")
	at := time.UnixMilli(1700000000123)
	require.NoError(t, c.client.ProduceSync(context.Background(), &kgo.Record{
		Topic: "orders", Key: []byte("o-1"), Value: []byte("{}"), Timestamp: at,
		Headers: []kgo.RecordHeader{{Key: "ce_id", Value: []byte("id-1")}, {Key: "ce_type", Value: []byte("order.placed")}},
	}).FirstErr())
	type key struct{}
	s, err := subscriber.New(c.config("billing"))
	require.NoError(t, err)
	defer s.Close()
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), key{}, "value"))
	defer cancel()
	out, err := s.Subscribe(ctx, "orders")
	require.NoError(t, err)
	m := receive(t, out)
	require.Equal(t, "id-1", m.UUID)
	require.Equal(t, message.Metadata{"ce_id": "id-1", "ce_type": "order.placed", "tidings_key": "o-1"}, m.Metadata)
	require.Equal(t, "{}", string(m.Payload))
	require.Equal(t, "value", m.Context().Value(key{}))
	d := delivery.FromContext(m.Context())
	require.Equal(t, "orders", d.Topic)
	require.Equal(t, int32(0), d.Partition)
	require.Equal(t, int64(0), d.Offset)
	require.Equal(t, 1, d.Attempt)
	require.Equal(t, "o-1", string(d.Record.Key))
	require.Equal(t, "id-1", string(d.Record.Headers[0].Value))
	require.True(t, d.Time.Equal(at))
	d.State, d.RetryIn = "mine", time.Millisecond
	require.True(t, m.Nack())
	<-m.Context().Done()

	again := receive(t, out)
	require.NotSame(t, m, again)
	require.Same(t, d, delivery.FromContext(again.Context()))
	require.Equal(t, 2, d.Attempt)
	require.Equal(t, "mine", d.State)
	require.Zero(t, d.RetryIn)
	require.True(t, again.Ack())
	<-again.Context().Done()
	await(t, "commit", func() bool { return c.committed("billing", "orders") == 1 })
	require.NoError(t, s.Ready(ctx))
}

func TestOtherKeysGoOnWhileOneIsRetried(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 100, 10)
	_, out := subscribe(t, c.config("billing"), "orders")
	done := map[int]bool{}
	for len(done) < 90 {
		m := receive(t, out)
		if n := number(m); n%10 == 3 {
			require.Equal(t, 3, n, "a later message of the key came before the failing one")
			delivery.FromContext(m.Context()).RetryIn = 50 * time.Millisecond
			m.Nack()
		} else {
			done[n] = true
			m.Ack()
		}
	}
	await(t, "commit", func() bool { return c.committed("billing", "orders") == 3 })
	for next := 3; next < 100; next += 10 {
		m := receive(t, out)
		require.Equal(t, next, number(m))
		m.Ack()
	}
	await(t, "commit", func() bool { return c.committed("billing", "orders") == 100 })
}
