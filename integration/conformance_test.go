package integration

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/internal/testenv"
	"github.com/tidings-bus/tidings/publisher"
	"github.com/tidings-bus/tidings/subscriber"
)

// TestPublisherAndSubscriberPassWatermillsOwnSuite runs watermill's conformance
// suite over raw messages: key = payload, topics made by SubscribeInitialize, no
// limit on tries, a short fixed delay.
func TestPublisherAndSubscriberPassWatermillsOwnSuite(t *testing.T) {
	conn := connection.Config{Brokers: testenv.Kafka(t)}
	deadline := time.AfterFunc(budget(t), func() { panic("watermill's suite exceeded its budget") })
	t.Cleanup(func() { deadline.Stop() }) // after the parallel tests
	pair := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		return rawPair(t, conn, group)
	}
	features := tests.Features{
		ConsumerGroups:                      true,
		GuaranteedOrder:                     true,
		GuaranteedOrderWithSingleSubscriber: true,
		Persistent:                          true,
		ForceShort:                          !testenv.Long(),
	}
	tests.TestPubSub(t, features,
		func(t *testing.T) (message.Publisher, message.Subscriber) {
			return pair(t, testenv.Name("conformance"))
		}, pair)
}

func rawPair(t *testing.T, conn connection.Config, group string) (message.Publisher, message.Subscriber) {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	p, err := publisher.New(publisher.Config{Connection: conn, Logger: quiet})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close(context.Background())) })
	topics, err := publisher.NewTopics(publisher.TopicsConfig{Connection: conn})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, topics.Close()) })
	s, err := subscriber.New(subscriber.Config{
		Connection: conn,
		Group:      group,
		RetryDelay: func(int) time.Duration { return 50 * time.Millisecond },
		CreateTopic: func(ctx context.Context, topic string) error {
			return topics.Create(ctx, publisher.TopicSpec{Name: topic, Partitions: 8, Replication: 1})
		},
		Timings: subscriber.Timings{Drain: time.Second, DrainRetry: 200 * time.Millisecond},
		Logger:  quiet,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return publisher.Watermill(p, publisher.WatermillConfig{Marshal: publisher.RawMarshaler{Key: publisher.PayloadKey}}), s
}
