package main

import (
	"context"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/router"
	"github.com/tidings-bus/tidings/subscriber/watermillkafka"
)

// OrderPlaced is what happened; on the wire it is "order.placed", version 1.
type OrderPlaced struct {
	Total int `json:"total"`
}

func main() {
	broker := "127.0.0.1:9092"
	if len(os.Args) > 1 {
		broker = os.Args[1]
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	notify := func(ctx context.Context, e event.Of[OrderPlaced]) error {
		router.Logger(ctx).Info("order placed", "total", e.Payload.Total)
		return nil
	}
	if err := run(ctx, broker, notify); err != nil {
		log.Fatal(err) //nolint:gocritic // stop has nothing left to do
	}
}

// run handles order.placed events until ctx ends.
func run(ctx context.Context, broker string, notify func(context.Context, event.Of[OrderPlaced]) error) error {
	catalog, err := event.NewCatalog(event.CatalogConfig{Source: "/mail"})
	if err != nil {
		return err
	}
	if err := event.Register[OrderPlaced](catalog, "order.placed", 1); err != nil {
		return err
	}
	sub, err := kafka.NewSubscriber(kafka.SubscriberConfig{
		Brokers:               []string{broker},
		ConsumerGroup:         "mail",
		Unmarshaler:           watermillkafka.Marshaler{},
		OverwriteSaramaConfig: watermillkafka.SubscriberConfig(),
	}, watermill.NewSlogLogger(slog.Default()))
	if err != nil {
		return err
	}
	defer sub.Close() //nolint:errcheck // the router has ended its subscription
	r, err := router.New(router.Config{Group: "mail", Catalog: catalog})
	if err != nil {
		return err
	}
	if err := r.Subscribe(router.Subscription{
		Topic:      "order",
		Subscriber: sub,
		Handlers:   []handlers.Handler{handlers.On("notify", notify)},
		Place:      watermillkafka.Place, // the inbox and the log learn partition and offset
	}); err != nil {
		return err
	}
	return r.Run(ctx)
}
