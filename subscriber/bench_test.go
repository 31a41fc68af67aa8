package subscriber_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/subscriber"
)

// The benchmarks run a watermill router against the embedded broker, which shares
// the cores: compare, do not quote. bench/ has the figures on Kafka.

func benchRouter(b *testing.B, c *cluster, sub message.Subscriber, work time.Duration) {
	b.Helper()
	var records []*kgo.Record
	for i := range b.N {
		records = append(records, &kgo.Record{
			Topic: "orders", Key: []byte("o-" + string(rune('a'+i%26)) + string(rune('a'+i/26%38))), Value: make([]byte, 300),
			Headers: []kgo.RecordHeader{
				{Key: "ce_specversion", Value: []byte("1.0")},
				{Key: "ce_id", Value: []byte("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b")},
				{Key: "ce_type", Value: []byte("order.placed")},
				{Key: "ce_source", Value: []byte("/orders")},
				{Key: "ce_time", Value: []byte("2026-11-21T12:00:00.123456Z")},
				{Key: "ce_sequence", Value: []byte("17")},
				{Key: "ce_partitionkey", Value: []byte("o-aa")},
				{Key: "ce_aggregatetype", Value: []byte("order")},
				{Key: "content-type", Value: []byte("application/json")},
				{Key: "ce_correlationid", Value: []byte("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b")},
			},
		})
	}
	require.NoError(b, c.client.ProduceSync(context.Background(), records...).FirstErr())
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: 5 * time.Second}, watermill.NopLogger{})
	require.NoError(b, err)
	var n atomic.Int64
	done := make(chan struct{})
	first := make(chan struct{})
	router.AddConsumerHandler("bench", "orders", sub, func(*message.Message) error {
		if work > 0 {
			time.Sleep(work)
		}
		switch n.Add(1) {
		case 1:
			close(first)
		case int64(b.N):
			close(done)
		}
		return nil
	})
	if b.N == 1 {
		return
	}
	go func() { _ = router.Run(context.Background()) }()
	<-first
	b.ReportAllocs()
	b.ResetTimer()
	start := time.Now()
	<-done
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "msg/s")
	b.StopTimer()
	require.NoError(b, router.Close())
	require.NoError(b, sub.Close())
}

func benchConfig(c *cluster) subscriber.Config {
	config := c.config("bench")
	config.Timings.Commit = 0
	config.Limits.PartitionRunning = 1000
	return config
}

func BenchmarkRouter(b *testing.B) {
	for _, work := range []time.Duration{0, 10 * time.Millisecond} {
		b.Run("tidings/"+work.String(), func(b *testing.B) {
			c := newCluster(b, 1, "orders")
			sub, err := subscriber.New(benchConfig(c))
			require.NoError(b, err)
			benchRouter(b, c, sub, work)
		})
		b.Run("tidings-no-metadata/"+work.String(), func(b *testing.B) {
			c := newCluster(b, 1, "orders")
			config := benchConfig(c)
			config.Unmarshal = subscriber.UnmarshalPayload
			sub, err := subscriber.New(config)
			require.NoError(b, err)
			benchRouter(b, c, sub, work)
		})
	}
	b.Run("watermill-kafka/0s", func(b *testing.B) {
		c := newCluster(b, 1, "orders")
		config := sarama.NewConfig()
		config.Consumer.Offsets.Initial = sarama.OffsetOldest
		sub, err := kafka.NewSubscriber(kafka.SubscriberConfig{Brokers: c.ListenAddrs(), ConsumerGroup: "bench", OverwriteSaramaConfig: config}, nil)
		require.NoError(b, err)
		benchRouter(b, c, sub, 0)
	})
}
