package conformance

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/publisher"
	"github.com/tidings-bus/tidings/subscriber"
)

// Watermill runs pubsub/tests.TestPubSub against the cluster, in watermill's
// short sizes or its full ones, 50 members in a group. Its parallel tests go on
// after Watermill returns, and end with t.
func Watermill(t *testing.T, conn connection.Config, short bool) {
	t.Helper()
	run(t, short, func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		t.Helper()
		return rawPair(t, conn, group)
	})
}

// run runs the suite over what pair makes.
func run(t *testing.T, short bool, pair func(t *testing.T, group string) (message.Publisher, message.Subscriber)) {
	t.Helper()
	features := tests.Features{
		ConsumerGroups: true,
		// Keys are ordered; members that come and go may repeat what the last
		// commit had not reached.
		GuaranteedOrder:                     true,
		GuaranteedOrderWithSingleSubscriber: true,
		ExactlyOnceDelivery:                 false,
		Persistent:                          true,
		ForceShort:                          short,
	}
	tests.TestPubSub(t, features, func(t *testing.T) (message.Publisher, message.Subscriber) {
		t.Helper()
		return pair(t, t.Name()) // a test's members share its group
	}, pair)
}

// rawPair is a publisher and a subscriber of raw messages, key = payload; topics
// made by SubscribeInitialize, no limit on tries, a short fixed delay.
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
		// The suite leaves messages unanswered and goes: nobody finishes them.
		Timings: subscriber.Timings{Drain: time.Second, DrainRetry: 200 * time.Millisecond},
		Logger:  quiet,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return publisher.Watermill(p, publisher.WatermillConfig{Marshal: publisher.RawMarshaler{Key: publisher.PayloadKey}}), s
}
