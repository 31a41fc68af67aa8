package watermillkafka_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/subscriber/watermillkafka"
)

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

// config is a stock watermill-kafka configuration that reads from the beginning
// and commits often.
func (c *cluster) config(group string) kafka.SubscriberConfig {
	s := kafka.DefaultSaramaSubscriberConfig()
	s.Consumer.Offsets.Initial = sarama.OffsetOldest
	s.Consumer.Offsets.AutoCommit.Interval = 50 * time.Millisecond
	s.Consumer.Group.Session.Timeout = 6 * time.Second
	s.Consumer.Group.Heartbeat.Interval = 200 * time.Millisecond
	return kafka.SubscriberConfig{
		Brokers: c.ListenAddrs(), ConsumerGroup: group, OverwriteSaramaConfig: s, NackResendSleep: 20 * time.Millisecond,
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

func newSubscriber(t testing.TB, config kafka.SubscriberConfig, lanes watermillkafka.LanesConfig) *watermillkafka.Subscriber {
	t.Helper()
	s, err := watermillkafka.NewSubscriber(config, lanes, watermill.NopLogger{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func subscribe(t testing.TB, config kafka.SubscriberConfig, topic string) (*watermillkafka.Subscriber, <-chan *message.Message) {
	t.Helper()
	s := newSubscriber(t, config, watermillkafka.LanesConfig{})
	out, err := s.Subscribe(context.Background(), topic)
	require.NoError(t, err)
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

// repeated is how many messages were finished more than once.
func (l *ledger) repeated() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, times := range l.seen {
		n += times - 1
	}
	return n
}

func number(m *message.Message) int {
	n, err := strconv.Atoi(string(m.Payload))
	if err != nil {
		panic(fmt.Sprintf("payload %q: %v", m.Payload, err))
	}
	return n
}

// work handles everything from out in goroutines of its own, as watermill's
// router does, until the channel is closed.
func work(l *ledger, out <-chan *message.Message, keys int, handle func(*message.Message) bool) *sync.WaitGroup {
	var wait sync.WaitGroup
	wait.Go(func() {
		for m := range out {
			wait.Go(func() {
				raw, ok := kafka.MessageKeyFromCtx(m.Context())
				if !ok {
					l.t.Error("no key in the message's context")
				}
				l.begin(string(raw), number(m))
				ok = handle(m)
				l.end(string(raw), number(m), keys, ok)
				if ok {
					m.Ack()
				} else {
					m.Nack()
				}
			})
		}
	})
	return &wait
}
