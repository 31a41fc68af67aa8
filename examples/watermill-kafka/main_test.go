package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/internal/broker"
	"github.com/tidings-bus/tidings/publisher"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick")) // sarama's, for the process's life
}

func TestAStockSubscriberBringsOurEventsInOrderAndAgainWhenTheyFail(t *testing.T) {
	b, err := broker.Start(broker.Config{Addr: "127.0.0.1:0"})
	require.NoError(t, err)
	defer b.Close()
	publish(t, b.Addr(), 5)

	var mu sync.Mutex
	var sequences []int64
	all := make(chan struct{})
	notify := func(ctx context.Context, e event.Of[OrderPlaced]) error {
		mu.Lock()
		defer mu.Unlock()
		if e.Sequence() == 3 && handlers.Attempt(ctx) == 1 {
			sequences = append(sequences, -3)
			return errors.New("on purpose")
		}
		sequences = append(sequences, e.Sequence())
		if e.Sequence() == 5 {
			close(all)
		}
		return nil
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx, b.Addr(), notify) }()
	select {
	case <-all:
	case err := <-done:
		t.Fatal(err)
	case <-time.After(30 * time.Second):
		t.Fatal("not all events came")
	}
	stop()
	require.NoError(t, <-done)
	require.Equal(t, []int64{1, 2, -3, 3, 4, 5}, sequences)
}

// publish sends n events of one order by our publisher.
func publish(t *testing.T, broker string, n int) {
	t.Helper()
	conn := connection.Config{Brokers: []string{broker}}
	topics, err := publisher.NewTopics(publisher.TopicsConfig{Connection: conn})
	require.NoError(t, err)
	require.NoError(t, topics.Create(t.Context(), publisher.TopicSpec{Name: "order", Partitions: 3}))
	require.NoError(t, topics.Close())
	pub, err := publisher.New(publisher.Config{Connection: conn})
	require.NoError(t, err)
	for i := 1; i <= n; i++ {
		e, err := event.New(event.Draft{
			Type: "order.placed", Source: "/orders", Aggregate: event.Aggregate{Type: "order", ID: "o-1"}, Sequence: int64(i),
			Data: fmt.Appendf(nil, `{"total": %d}`, i),
		})
		require.NoError(t, err)
		require.NoError(t, pub.Publish(t.Context(), e))
	}
	require.NoError(t, pub.Close(t.Context()))
}
