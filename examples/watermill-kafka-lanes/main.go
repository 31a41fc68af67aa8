package main

import (
	"context"
	"flag"
	"log"
	"log/slog"
	"os/signal"
	"syscall"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
)

func main() {
	broker := flag.String("broker", "127.0.0.1:9092", "address of a broker")
	stock := flag.Bool("stock", false, "read by watermill-kafka's own subscriber")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	logger := watermill.NewSlogLogger(slog.Default())
	newSubscriber := laneSubscriber
	if *stock {
		newSubscriber = stockSubscriber
	}
	sub, err := newSubscriber([]string{*broker}, logger)
	if err != nil {
		log.Fatal(err) //nolint:gocritic // stop has nothing left to do
	}
	if err := run(ctx, sub, logger, sendMail); err != nil {
		log.Fatal(err)
	}
}

// run handles messages until ctx ends. It is the same before and after.
//
// MIGRATION: router.
func run(ctx context.Context, sub message.Subscriber, logger watermill.LoggerAdapter, handle message.NoPublishHandlerFunc) error {
	router, err := message.NewRouter(message.RouterConfig{}, logger)
	if err != nil {
		return err
	}
	router.AddConsumerHandler("send-mail", "orders", sub, handle)
	return router.Run(ctx) // closes sub
}

// MIGRATION end.

// sendMail is the service's handler.
func sendMail(m *message.Message) error {
	key, _ := kafka.MessageKeyFromCtx(m.Context())
	offset, _ := kafka.MessagePartitionOffsetFromCtx(m.Context())
	slog.InfoContext(m.Context(), "mail sent", "order", string(key), "offset", offset, "text", string(m.Payload))
	return nil
}
