package watermillkafka_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/internal/delivery"
	"github.com/tidings-bus/tidings/publisher"
	"github.com/tidings-bus/tidings/subscriber"
	"github.com/tidings-bus/tidings/subscriber/watermillkafka"
)

func TestMain(m *testing.M) {
	// sarama's metrics library starts a clock that has no stop.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

func placed(t testing.TB) event.Event {
	e, err := event.New(event.Draft{
		Type: "order.placed", Source: "/orders", Aggregate: event.Aggregate{Type: "orders", ID: "o-1"},
		Sequence: 3, Time: time.Now(), Correlation: "c-1", Data: []byte(`{"total":1}`),
	})
	require.NoError(t, err)
	return e
}

func consumed(p *sarama.ProducerMessage) *sarama.ConsumerMessage {
	m := &sarama.ConsumerMessage{Topic: p.Topic}
	if p.Key != nil {
		m.Key, _ = p.Key.Encode()
	}
	if p.Value != nil {
		m.Value, _ = p.Value.Encode()
	}
	for i := range p.Headers {
		m.Headers = append(m.Headers, &p.Headers[i])
	}
	return m
}

func TestEventsAreTheSameRecordAsThePublishers(t *testing.T) {
	e := placed(t)
	p, err := watermillkafka.Marshaler{}.Marshal("orders", publisher.Message(e))
	require.NoError(t, err)
	want := event.ToKafka(e)
	got := consumed(p)
	require.Equal(t, want.Key, got.Key)
	require.Equal(t, want.Value, got.Value)
	have := map[string]string{}
	for _, h := range got.Headers {
		have[string(h.Key)] = string(h.Value)
	}
	require.Len(t, have, len(want.Headers))
	for _, h := range want.Headers {
		require.Equal(t, string(h.Value), have[h.Key], h.Key)
	}
	m, err := watermillkafka.Marshaler{}.Unmarshal(got)
	require.NoError(t, err)
	require.Equal(t, e.ID().String(), m.UUID)
	require.True(t, m.Equals(publisher.Message(e)))
}

func TestMessagesOfAllKindsSurvive(t *testing.T) {
	for name, m := range map[string]*message.Message{
		"stock":       {UUID: "u-1", Payload: []byte("x"), Metadata: message.Metadata{"a": "b"}},
		"keyed":       {UUID: "u-2", Payload: []byte("x"), Metadata: message.Metadata{"tidings_key": "k"}},
		"bare":        {Metadata: message.Metadata{}},
		"no metadata": {UUID: "u-3"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := watermillkafka.Marshaler{}.Marshal("t", m)
			require.NoError(t, err)
			back, err := watermillkafka.Marshaler{}.Unmarshal(consumed(p))
			require.NoError(t, err)
			require.True(t, back.Equals(m), "%+v", back)
			stock, err := kafka.DefaultMarshaler{}.Unmarshal(consumed(p))
			require.NoError(t, err)
			require.Equal(t, m.UUID, stock.UUID)
		})
	}
	_, err := watermillkafka.Marshaler{}.Marshal("t", &message.Message{Metadata: message.Metadata{kafka.UUIDHeaderKey: "x"}})
	require.ErrorContains(t, err, "reserved")
}

func FuzzUnmarshalTakesAnything(f *testing.F) {
	f.Add([]byte("k"), []byte("v"), []byte("ce_id"), []byte("1"))
	f.Add([]byte(nil), []byte(nil), []byte("_watermill_message_uuid"), []byte{0xff})
	f.Fuzz(func(t *testing.T, key, value, name, header []byte) {
		r := &sarama.ConsumerMessage{Key: key, Value: value, Headers: []*sarama.RecordHeader{{Key: name, Value: header}, nil}}
		m, err := watermillkafka.Marshaler{}.Unmarshal(r)
		require.NoError(t, err)
		require.Equal(t, value, []byte(m.Payload))
		if string(name) != watermillkafka.KeyMetadata {
			require.Equal(t, string(key), m.Metadata.Get(watermillkafka.KeyMetadata))
		}
		p, err := watermillkafka.Marshaler{}.Marshal("t", m)
		require.NoError(t, err)
		back, err := watermillkafka.Marshaler{}.Unmarshal(consumed(p))
		require.NoError(t, err)
		if m.Metadata.Get(watermillkafka.KeyMetadata) != "" || m.Metadata.Get("ce_partitionkey") == "" {
			require.Equal(t, m.Metadata.Get(watermillkafka.KeyMetadata), back.Metadata.Get(watermillkafka.KeyMetadata))
		}
		require.Equal(t, m.UUID, back.UUID)
	})
}

func TestKeysGoWhereOurPublisherSendsThem(t *testing.T) {
	ours := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	theirs := watermillkafka.PublisherConfig().Producer.Partitioner("t")
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		key := make([]byte, r.IntN(20))
		for i := range key {
			key[i] = byte(r.Uint32())
		}
		n := 1 + r.IntN(50)
		got, err := theirs.Partition(&sarama.ProducerMessage{Key: sarama.ByteEncoder(key)}, int32(n))
		require.NoError(t, err)
		require.Equal(t, ours.Partition(&kgo.Record{Key: key}, n), int(got), "key %x of %d", key, n)
	}
	p, err := theirs.Partition(&sarama.ProducerMessage{}, 3)
	require.NoError(t, err)
	require.Contains(t, []int32{0, 1, 2}, p)
}

func TestStockWatermillKafkaExchangesEventsWithOurs(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "orders"))
	require.NoError(t, err)
	defer c.Close()
	conn := connection.Config{Brokers: c.ListenAddrs()}
	ctx := context.Background()
	fromStock, fromOurs := placed(t), placed(t)

	pub, err := kafka.NewPublisher(kafka.PublisherConfig{
		Brokers: conn.Brokers, Marshaler: watermillkafka.Marshaler{}, OverwriteSaramaConfig: watermillkafka.PublisherConfig(),
	}, nil)
	require.NoError(t, err)
	require.NoError(t, pub.Publish("orders", publisher.Message(fromStock)))
	require.NoError(t, pub.Close())
	p, err := publisher.New(publisher.Config{Connection: conn, TopicFor: func(event.Event) string { return "orders" }})
	require.NoError(t, err)
	require.NoError(t, p.Publish(ctx, fromOurs))
	require.NoError(t, p.Close(ctx))

	check := func(out <-chan *message.Message, record func(*message.Message) event.KafkaRecord) {
		t.Helper()
		seen := map[string]int64{}
		for range 2 {
			select {
			case m := <-out:
				e, err := event.FromKafka(record(m))
				require.NoError(t, err)
				require.Equal(t, m.UUID, e.ID().String())
				require.Equal(t, "o-1", m.Metadata.Get(watermillkafka.KeyMetadata))
				require.JSONEq(t, `{"total":1}`, string(e.Data()))
				if partition, offset, ok := watermillkafka.Place(m.Context()); ok {
					require.Less(t, partition, int32(3))
					seen[m.UUID] = offset
				} else {
					d := delivery.FromContext(m.Context())
					require.NotNil(t, d)
					seen[m.UUID] = d.Offset
				}
				m.Ack()
			case <-time.After(20 * time.Second):
				t.Fatal("no message")
			}
		}
		// One partition, in the order published.
		require.Equal(t, map[string]int64{fromStock.ID().String(): 0, fromOurs.ID().String(): 1}, seen)
	}

	stock, err := kafka.NewSubscriber(kafka.SubscriberConfig{
		Brokers: conn.Brokers, ConsumerGroup: "stock", Unmarshaler: watermillkafka.Marshaler{}, OverwriteSaramaConfig: watermillkafka.SubscriberConfig(),
	}, nil)
	require.NoError(t, err)
	out, err := stock.Subscribe(ctx, "orders")
	require.NoError(t, err)
	check(out, func(m *message.Message) event.KafkaRecord {
		r := event.KafkaRecord{Key: []byte(m.Metadata.Get(watermillkafka.KeyMetadata)), Value: m.Payload}
		for k, v := range m.Metadata {
			if k != watermillkafka.KeyMetadata {
				r.Headers = append(r.Headers, event.KafkaHeader{Key: k, Value: []byte(v)})
			}
		}
		return r
	})
	require.NoError(t, stock.Close())

	ours, err := subscriber.New(subscriber.Config{Connection: conn, Group: "ours"})
	require.NoError(t, err)
	out, err = ours.Subscribe(ctx, "orders")
	require.NoError(t, err)
	check(out, func(m *message.Message) event.KafkaRecord { return delivery.FromContext(m.Context()).Record })
	require.NoError(t, ours.Close())
}
