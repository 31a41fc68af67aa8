package conformance

import (
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/subscriber/watermillkafka"
)

// DropIn runs the same suite over a service as it is before it knows us, stock
// watermill-kafka's publisher and its subscriber's configuration, with our
// subscriber in the place of stock's.
func DropIn(t *testing.T, conn connection.Config, short bool) {
	t.Helper()
	run(t, short, func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		t.Helper()
		return dropInPair(t, conn, group)
	})
}

func dropInPair(t *testing.T, conn connection.Config, group string) (message.Publisher, message.Subscriber) {
	t.Helper()
	p, err := kafka.NewPublisher(kafka.PublisherConfig{
		Brokers: conn.Brokers,
		Marshaler: kafka.NewWithPartitioningMarshaler(func(_ string, m *message.Message) (string, error) {
			return string(m.Payload), nil
		}),
		OverwriteSaramaConfig: watermillkafka.PublisherConfig(),
	}, watermill.NopLogger{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	config := kafka.DefaultSaramaSubscriberConfig()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	s, err := watermillkafka.NewSubscriber(kafka.SubscriberConfig{
		Brokers:                conn.Brokers,
		ConsumerGroup:          group,
		OverwriteSaramaConfig:  config,
		NackResendSleep:        50 * time.Millisecond,
		InitializeTopicDetails: &sarama.TopicDetail{NumPartitions: 8, ReplicationFactor: 1},
	}, watermillkafka.LanesConfig{
		// The suite leaves messages unanswered and goes: nobody finishes them.
		Drain: time.Second, DrainRetry: 200 * time.Millisecond,
	}, watermill.NopLogger{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return p, s
}
