package watermillkafka_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/internal/delivery"
	"github.com/tidings-bus/tidings/subscriber/watermillkafka"
)

func TestMessagesComeAsStockBringsThemAndWithTheirDelivery(t *testing.T) {
	c := newCluster(t, 1, "orders")
	at := time.UnixMilli(1700000000123)
	require.NoError(t, c.client.ProduceSync(context.Background(), &kgo.Record{
		Topic: "orders", Key: []byte("o-1"), Value: []byte("{}"), Timestamp: at,
		Headers: []kgo.RecordHeader{{Key: kafka.UUIDHeaderKey, Value: []byte("u-1")}, {Key: "a", Value: []byte("b")}},
	}).FirstErr())
	type key struct{}
	s := newSubscriber(t, c.config("billing"), watermillkafka.LanesConfig{})
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), key{}, "value"))
	defer cancel()
	out, err := s.Subscribe(ctx, "orders")
	require.NoError(t, err)
	m := receive(t, out)
	require.Equal(t, "u-1", m.UUID)
	require.Equal(t, message.Metadata{"a": "b"}, m.Metadata)
	require.Equal(t, "{}", string(m.Payload))
	require.Equal(t, "value", m.Context().Value(key{}))
	partition, ok := kafka.MessagePartitionFromCtx(m.Context())
	require.True(t, ok)
	require.Equal(t, int32(0), partition)
	offset, ok := kafka.MessagePartitionOffsetFromCtx(m.Context())
	require.True(t, ok)
	require.Equal(t, int64(0), offset)
	stamp, ok := kafka.MessageTimestampFromCtx(m.Context())
	require.True(t, ok)
	require.True(t, stamp.Equal(at))
	raw, ok := kafka.MessageKeyFromCtx(m.Context())
	require.True(t, ok)
	require.Equal(t, "o-1", string(raw))

	d := delivery.FromContext(m.Context())
	require.Equal(t, "orders", d.Topic)
	require.Equal(t, int64(0), d.Offset)
	require.Equal(t, 1, d.Attempt)
	require.True(t, d.Time.Equal(at))
	// What stock's Unmarshaler made of it, not what stands in Kafka.
	require.Equal(t, "o-1", string(d.Record.Key))
	require.Len(t, d.Record.Headers, 1)
	require.Equal(t, "b", string(d.Record.Headers[0].Value))
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

// I6: a nack stops its own key for NackResendSleep, and the watermark stays below it (I5).
func TestOtherKeysGoOnWhileOneIsSentAgainAfterItsSleep(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 100, 10)
	config := c.config("billing")
	config.NackResendSleep = 50 * time.Millisecond
	_, out := subscribe(t, config, "orders")
	done := map[int]bool{}
	var nacked time.Time
	for len(done) < 90 {
		m := receive(t, out)
		if n := number(m); n%10 == 3 {
			require.Equal(t, 3, n, "a later message of the key came before the failing one")
			if !nacked.IsZero() {
				require.GreaterOrEqual(t, time.Since(nacked), config.NackResendSleep)
			}
			nacked = time.Now()
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
	await(t, "commit of all", func() bool { return c.committed("billing", "orders") == 100 })
}

func TestNoSleepSendsAgainAtOnce(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 1, 1)
	config := c.config("billing")
	config.NackResendSleep = kafka.NoSleep
	_, out := subscribe(t, config, "orders")
	for range 100 {
		receive(t, out).Nack()
	}
	receive(t, out).Ack()
	await(t, "commit", func() bool { return c.committed("billing", "orders") == 1 })
}

// refuser is an Unmarshaler that cannot read some messages at first.
type refuser struct {
	kafka.DefaultMarshaler

	heal atomic.Bool
}

func (r *refuser) Unmarshal(m *sarama.ConsumerMessage) (*message.Message, error) {
	if string(m.Key) == "k3" && !r.heal.Load() {
		return nil, errors.New("no such schema")
	}
	return r.DefaultMarshaler.Unmarshal(m)
}

// Stock reads a partition again and again from a message that its Unmarshaler
// refuses; here the message's key waits (I6, I7).
func TestMessageThatTheUnmarshalerRefusesHoldsItsOwnKey(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 30, 10)
	config := c.config("billing")
	u := &refuser{}
	config.Unmarshaler = u
	_, out := subscribe(t, config, "orders")
	for range 27 {
		receive(t, out).Ack()
	}
	await(t, "commit", func() bool { return c.committed("billing", "orders") == 3 })
	u.heal.Store(true)
	for next := 3; next < 30; next += 10 {
		m := receive(t, out)
		require.Equal(t, next, number(m))
		m.Ack()
	}
	await(t, "commit of all", func() bool { return c.committed("billing", "orders") == 30 })
}

// Without a group every subscriber gets all messages of all partitions, as stock's.
func TestWithoutAGroupEverySubscriberGetsEverything(t *testing.T) {
	c := newCluster(t, 3, "orders")
	const total, keys = 300, 30
	c.produce("orders", 0, total, keys)
	for range 2 {
		l := newLedger(t)
		s, out := subscribe(t, c.config(""), "orders")
		wait := work(l, out, keys, func(m *message.Message) bool {
			return number(m)%50 != 7 || delivery.FromContext(m.Context()).Attempt > 1
		})
		await(t, "all", func() bool { return l.count() == total })
		require.NoError(t, s.Ready(context.Background()))
		require.NoError(t, s.Close())
		wait.Wait()
		require.Zero(t, l.repeated())
	}
}

func TestWithoutAutoCommitOffsetsAreCommittedAtOnce(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 10, 5)
	config := c.config("billing")
	config.OverwriteSaramaConfig.Consumer.Offsets.AutoCommit.Enable = false
	config.OverwriteSaramaConfig.Consumer.Offsets.AutoCommit.Interval = time.Hour
	_, out := subscribe(t, config, "orders")
	for range 10 {
		receive(t, out).Ack()
	}
	await(t, "commit", func() bool { return c.committed("billing", "orders") == 10 })
}

// tracer counts what goes through its wrappers, as tracing does.
type tracer struct {
	kafka.SaramaTracer

	seen atomic.Int64
}

func (t *tracer) WrapConsumerGroupHandler(h sarama.ConsumerGroupHandler) sarama.ConsumerGroupHandler {
	return &tracedHandler{ConsumerGroupHandler: h, tracer: t}
}

type tracedHandler struct {
	sarama.ConsumerGroupHandler

	tracer *tracer
}

func (h *tracedHandler) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	out := make(chan *sarama.ConsumerMessage)
	go func() {
		defer close(out)
		for m := range claim.Messages() {
			h.tracer.seen.Add(1)
			out <- m
		}
	}()
	return h.ConsumerGroupHandler.ConsumeClaim(s, &tracedClaim{claim, out})
}

type tracedClaim struct {
	sarama.ConsumerGroupClaim

	out chan *sarama.ConsumerMessage
}

func (c *tracedClaim) Messages() <-chan *sarama.ConsumerMessage { return c.out }

func TestTracerSeesEveryMessage(t *testing.T) {
	c := newCluster(t, 2, "orders")
	c.produce("orders", 0, 100, 10)
	traced := &tracer{}
	for name, config := range map[string]kafka.SubscriberConfig{
		"tracer": {Tracer: traced}, "OTELEnabled": {OTELEnabled: true},
	} {
		t.Run(name, func(t *testing.T) {
			whole := c.config(name)
			whole.Tracer, whole.OTELEnabled = config.Tracer, config.OTELEnabled //nolint:staticcheck // deprecated, and still heeded
			s, out := subscribe(t, whole, "orders")
			for range 100 {
				receive(t, out).Ack()
			}
			require.NoError(t, s.Close())
			require.Equal(t, int64(100), c.committed(name, "orders"))
		})
	}
	require.GreaterOrEqual(t, traced.seen.Load(), int64(100))
}

func TestTopicIsMadeAsInitializeTopicDetailsSay(t *testing.T) {
	c := newCluster(t, 1, "orders")
	config := c.config("billing")
	config.InitializeTopicDetails = &sarama.TopicDetail{NumPartitions: 5, ReplicationFactor: 1}
	s := newSubscriber(t, config, watermillkafka.LanesConfig{})
	require.NoError(t, s.SubscribeInitialize("made"))
	require.NoError(t, s.SubscribeInitialize("made"), "again")
	ends, err := s.PartitionOffset("made")
	require.NoError(t, err)
	require.Len(t, ends, 5)
	config.InitializeTopicDetails = nil
	require.Error(t, newSubscriber(t, config, watermillkafka.LanesConfig{}).SubscribeInitialize("more"))
}

func TestSubscribeTellsWhyItCannot(t *testing.T) {
	ctx := context.Background()
	config := kafka.DefaultSaramaSubscriberConfig()
	config.Metadata.Retry.Max = 0
	s, err := watermillkafka.NewSubscriber(kafka.SubscriberConfig{
		Brokers: []string{"127.0.0.1:1"}, ConsumerGroup: "billing", OverwriteSaramaConfig: config,
	}, watermillkafka.LanesConfig{}, watermill.NopLogger{})
	require.NoError(t, err)
	_, err = s.Subscribe(ctx, "orders")
	require.ErrorContains(t, err, `subscribe to topic "orders" as group "billing": no broker reachable at [127.0.0.1:1]`)
	require.ErrorIs(t, err, sarama.ErrOutOfBrokers)
	_, err = s.Subscribe(ctx, "")
	require.ErrorContains(t, err, "the topic has no name")
	require.ErrorContains(t, s.Ready(ctx), "nothing is subscribed yet")
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	_, err = s.Subscribe(ctx, "orders")
	require.ErrorIs(t, err, watermillkafka.ErrClosed)
	require.ErrorIs(t, s.Ready(ctx), watermillkafka.ErrClosed)
}

// I3 and I5: what comes by the router's feed is in order and counted like the rest.
func TestFeedBringsEveryMessageInTheOrderOfItsKey(t *testing.T) {
	const messages, keys = 3000, 17
	c := newCluster(t, 2, "orders")
	c.produce("orders", 0, messages, keys)
	config := c.config("billing")
	config.Unmarshaler = watermillkafka.Marshaler{}
	s := newSubscriber(t, config, watermillkafka.LanesConfig{})
	require.True(t, delivery.Feeds(s))
	out, err := s.Subscribe(delivery.WithFeed(delivery.WithoutMetadata(context.Background())), "orders")
	require.NoError(t, err)
	l := newLedger(t)
	var fed atomic.Int64
	one := func(ctx context.Context) bool {
		d := delivery.FromContext(ctx)
		n, err := strconv.Atoi(string(d.Record.Value))
		if err != nil {
			t.Error(err)
		}
		if offset, _ := kafka.MessagePartitionOffsetFromCtx(ctx); offset != d.Offset {
			t.Errorf("offset %d in the context of a message at %d", offset, d.Offset)
		}
		l.begin(string(d.Record.Key), n)
		ok := n%10 != 7 || d.Attempt > 1
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
					fed.Add(1)
					ctx = next //nolint:fatcontext // it derives from the first one
				}
			}
		})
	}
	await(t, "all messages", func() bool { return l.count() == messages })
	await(t, "commit", func() bool { return c.committed("billing", "orders") == messages })
	require.Zero(t, l.repeated())
	require.Greater(t, fed.Load(), int64(messages/2))
	require.NoError(t, s.Close())
	readers.Wait()
}
