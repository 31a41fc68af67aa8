package main

import (
	"context"
	"encoding/json"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	wmkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tidings-bus/tidings/internal/testenv"
	"github.com/tidings-bus/tidings/subscriber/watermillkafka"
)

var lanesDropIn10ms = measure{
	name: "lanes-dropin-10ms", unit: perSecond, goal: 300,
	what:    "one partition, 1,000 keys, a handler of 10 ms under watermill's Router: watermillkafka's Subscriber; peer: watermill-kafka's, the same configuration",
	prepare: prepareDropIn,
}

// prepareDropIn changes nothing between the sides but the subscriber.
func prepareDropIn(ctx context.Context, e *env) (sides, error) {
	const events = 600_000
	topic, brokers, err := load(ctx, e, "lanes-dropin-10ms", events)
	if err != nil {
		return sides{}, err
	}
	side := func(name string, subscribe func(wmkafka.SubscriberConfig) (message.Subscriber, error)) func(context.Context, time.Duration) (float64, error) {
		return func(ctx context.Context, d time.Duration) (float64, error) {
			config := wmkafka.DefaultSaramaSubscriberConfig()
			config.Consumer.Offsets.Initial = sarama.OffsetOldest
			sub, err := subscribe(wmkafka.SubscriberConfig{
				Brokers: brokers, ConsumerGroup: testenv.Name(name), OverwriteSaramaConfig: config,
			})
			if err != nil {
				return 0, err
			}
			r, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
			if err != nil {
				return 0, err
			}
			c := newCount(events)
			r.AddConsumerHandler("count", topic, sub, func(m *message.Message) error {
				var p placed
				if err := json.Unmarshal(m.Payload, &p); err != nil {
					return err
				}
				time.Sleep(handlerPause)
				c.one()
				return nil
			})
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			go c.stopAfter(ctx, d, cancel)
			if err := r.Run(ctx); err != nil {
				return 0, err
			}
			return c.rate()
		}
	}
	return sides{
		ours: side("dropin", func(c wmkafka.SubscriberConfig) (message.Subscriber, error) {
			return watermillkafka.NewSubscriber(c, watermillkafka.LanesConfig{Running: 1000, PartitionRunning: 1000}, watermill.NopLogger{})
		}),
		peer: side("stock", func(c wmkafka.SubscriberConfig) (message.Subscriber, error) {
			return wmkafka.NewSubscriber(c, watermill.NopLogger{})
		}),
	}, nil
}
