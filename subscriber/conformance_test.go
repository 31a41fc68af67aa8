package subscriber_test

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/publisher"
	"github.com/tidings-bus/tidings/subscriber"
)

// watermill's own suite: publisher and subscriber together, raw messages.
func TestWatermillConformance(t *testing.T) {
	// The sizes of watermill's own runs, 50 members in a group, with TIDINGS_TEST_LONG.
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	pair := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		return conformancePair(t, connection.Config{Brokers: c.ListenAddrs()}, group)
	}
	tests.TestPubSub(t, conformanceFeatures(os.Getenv("TIDINGS_TEST_LONG") == ""),
		func(t *testing.T) (message.Publisher, message.Subscriber) { return pair(t, t.Name()) }, pair)
}

// conformancePair is a publisher and a subscriber of raw messages, key = payload;
// no limit on tries, a short fixed delay.
func conformancePair(t *testing.T, conn connection.Config, group string) (message.Publisher, message.Subscriber) {
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
			return topics.Create(ctx, publisher.TopicSpec{Name: topic, Partitions: 8})
		},
		// The suite leaves messages unanswered and goes: nobody finishes them.
		Timings: subscriber.Timings{Drain: time.Second, DrainRetry: 200 * time.Millisecond},
		Logger:  quiet,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	raw := publisher.Watermill(p, publisher.WatermillConfig{Marshal: publisher.RawMarshaler{Key: publisher.PayloadKey}})
	return raw, s
}

func conformanceFeatures(short bool) tests.Features {
	return tests.Features{
		ConsumerGroups: true,
		// Keys are ordered; members that come and go may repeat what the last
		// commit had not reached.
		GuaranteedOrder:                     true,
		GuaranteedOrderWithSingleSubscriber: true,
		ExactlyOnceDelivery:                 false,
		Persistent:                          true,
		ForceShort:                          short,
	}
}
