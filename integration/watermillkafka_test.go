package integration

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/subscriber"
	"github.com/tidings-bus/tidings/subscriber/watermillkafka"
)

// Events go both ways between stock watermill-kafka and ours, with the marshaler:
// its publisher to our subscriber; our publisher to its subscriber, under our
// router and under watermill's alone. Both publishers bring a key to the same
// partition.
func TestStockWatermillKafkaAndOursExchangeEventsBothWays(t *testing.T) {
	hs := every(0, 0)

	t.Run("its publisher, our subscriber", func(t *testing.T) {
		s := newScene(t, stage{})
		events := plan("o", shape{20, 10})
		s.expect(events)
		s.takes("billing", hs)
		a := s.member(member{Name: "a", Group: "billing", Handlers: hs})
		pub, err := kafka.NewPublisher(kafka.PublisherConfig{
			Brokers: s.brokers, Marshaler: watermillkafka.Marshaler{}, OverwriteSaramaConfig: watermillkafka.PublisherConfig(),
		}, watermill.NopLogger{})
		require.NoError(t, err)
		catalog, err := newCatalog()
		require.NoError(t, err)
		half := len(events) / 2
		for _, p := range events[:half] {
			e, err := p.event(s.ctx, catalog)
			require.NoError(t, err)
			require.NoError(t, pub.Publish(s.topic, subscriber.Unmarshal(event.ToKafka(e))))
		}
		require.NoError(t, pub.Close())
		// The same keys' later events by ours: order holds only in the same partitions.
		s.produce(producer{From: half})
		s.awaitDrained("billing")
		a.stop(t)
		s.requireEffectsOnce("billing")
		require.Equal(t, 1, s.partitionsPerKey("billing"), "partitions of a key, by two publishers")
	})

	t.Run("our publisher, its subscriber, our router", func(t *testing.T) {
		s := newScene(t, stage{})
		s.expect(plan("o", shape{20, 10}))
		s.takes("billing", hs)
		a := s.member(member{Name: "a", Group: "billing", Handlers: every(0.05, 0), Stock: true})
		s.produce(producer{Twice: 0.1})
		s.awaitDrained("billing")
		a.stop(t)
		s.requireEffectsOnce("billing")
		_, failed := s.failures("billing")
		require.Positive(t, failed, "some events must have failed at first")
	})

	t.Run("our publisher, its subscriber, watermill's router", func(t *testing.T) {
		s := newScene(t, stage{})
		events := plan("o", shape{20, 10})
		s.expect(events)
		s.produce(producer{})
		wanted := map[string][]string{}
		for _, p := range events {
			wanted[p.Aggregate] = append(wanted[p.Aggregate], p.ID.String())
		}
		require.Equal(t, wanted, s.readStock(len(events)), "event IDs by key")
	})
}

// partitionsPerKey is the most partitions that one key's events came from.
func (s *scene) partitionsPerKey(group string) (n int) {
	s.t.Helper()
	require.NoError(s.t, s.pool.QueryRow(s.ctx, `
		SELECT max(partitions) FROM (
			SELECT count(DISTINCT i.partition) AS partitions
			FROM tidings.inbox i JOIN plan p USING (event_id) JOIN tidings.handler h ON h.id = i.handler_id
			WHERE h.grp = $1 GROUP BY p.aggregate) k`, group).Scan(&n))
	return n
}

// readStock reads n messages by stock watermill and watermill-kafka: UUIDs by key.
func (s *scene) readStock(n int) map[string][]string {
	s.t.Helper()
	sub, err := kafka.NewSubscriber(kafka.SubscriberConfig{
		Brokers: s.brokers, Unmarshaler: watermillkafka.Marshaler{},
		OverwriteSaramaConfig: watermillkafka.SubscriberConfig(), ConsumerGroup: "stock",
	}, watermill.NopLogger{})
	require.NoError(s.t, err)
	r, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	require.NoError(s.t, err)
	var mu sync.Mutex
	found, total := map[string][]string{}, 0
	r.AddConsumerHandler("stock", s.topic, sub, func(m *message.Message) error {
		mu.Lock()
		defer mu.Unlock()
		key := m.Metadata.Get(watermillkafka.KeyMetadata)
		if slices.Contains(found[key], m.UUID) {
			return nil // at least once is all that it promises
		}
		found[key] = append(found[key], m.UUID)
		total++
		return nil
	})
	ctx, cancel := context.WithCancel(s.ctx)
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	s.await("stock watermill has read every event", func(context.Context) (bool, string, error) {
		mu.Lock()
		defer mu.Unlock()
		return total >= n, fmt.Sprintf("%d of %d", total, n), nil
	})
	cancel()
	require.NoError(s.t, <-ended)
	require.NoError(s.t, sub.Close())
	return found
}
