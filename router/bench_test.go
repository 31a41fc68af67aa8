package router

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/internal/delivery"
)

// benchSubscriber hands out b.N messages, with as many lanes side by side.
type benchSubscriber struct {
	lanes, n int
	rec      event.KafkaRecord
	done     chan struct{}
}

func (s *benchSubscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	out := make(chan *message.Message)
	go func() {
		var wg sync.WaitGroup
		for lane := range s.lanes {
			wg.Go(func() {
				for i := lane; i < s.n; i += s.lanes {
					d := &delivery.Delivery{Topic: topic, Offset: int64(i), Record: s.rec, Attempt: 1}
					m := message.NewMessage("", s.rec.Value)
					m.SetContext(delivery.NewContext(context.Background(), d))
					out <- m
					<-m.Acked()
				}
			})
		}
		wg.Wait()
		close(s.done)
		<-ctx.Done()
		close(out)
	}()
	return out, nil
}

func (s *benchSubscriber) Close() error { return nil }

// BenchmarkMessage is one message from the subscriber's channel to its ack. The
// bare case is watermill's router alone, with a handler that does nothing.
func BenchmarkMessage(b *testing.B) {
	catalog := newCatalog(b)
	rec := placedRecord(b)
	b.Run("bare watermill", func(b *testing.B) {
		sub := &benchSubscriber{lanes: 64, n: b.N, rec: rec, done: make(chan struct{})}
		w, err := message.NewRouter(message.RouterConfig{}, watermillLog{log: slog.New(slog.DiscardHandler)})
		require.NoError(b, err)
		w.AddConsumerHandler("bare", "orders", sub, func(*message.Message) error { return nil })
		ctx, cancel := context.WithCancel(b.Context())
		ended := make(chan error, 1)
		b.ReportAllocs()
		go func() { ended <- w.Run(ctx) }()
		<-sub.done
		b.StopTimer()
		cancel()
		require.NoError(b, <-ended)
	})
	b.Run("router", func(b *testing.B) {
		sub := &benchSubscriber{lanes: 64, n: b.N, rec: rec, done: make(chan struct{})}
		r, err := New(Config{Group: "g", Catalog: catalog, Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
		require.NoError(b, err)
		h := handlers.On("nothing", func(context.Context, event.Of[placed]) error { return nil })
		require.NoError(b, r.Subscribe(Subscription{Topic: "orders", Subscriber: sub, Handlers: []handlers.Handler{h}}))
		ctx, cancel := context.WithCancel(b.Context())
		ended := make(chan error, 1)
		b.ReportAllocs()
		go func() { ended <- r.Run(ctx) }()
		<-sub.done
		b.StopTimer()
		cancel()
		require.NoError(b, <-ended)
	})
}

// BenchmarkDeliver is the router's own part, without watermill.
func BenchmarkDeliver(b *testing.B) {
	r, err := New(Config{Group: "g", Catalog: newCatalog(b), Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	require.NoError(b, err)
	h := handlers.On("nothing", func(context.Context, event.Of[placed]) error { return nil })
	require.NoError(b, r.Subscribe(Subscription{Topic: "orders", Subscriber: &memSubscriber{}, Handlers: []handlers.Handler{h}}))
	s := r.subs[0]
	require.NoError(b, s.bind(b.Context()))
	d := &delivery.Delivery{Topic: "orders", Record: placedRecord(b), Attempt: 1}
	msg := message.NewMessage("", d.Record.Value)
	msg.SetContext(delivery.NewContext(context.Background(), d))
	b.ReportAllocs()
	for b.Loop() {
		if err := s.handle(msg); err != nil {
			b.Fatal(err)
		}
	}
}
