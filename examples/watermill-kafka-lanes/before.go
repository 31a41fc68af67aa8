package main

import (
	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
)

// subscriberConfig is what the service has always had.
func subscriberConfig(brokers []string) kafka.SubscriberConfig {
	config := kafka.DefaultSaramaSubscriberConfig()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	return kafka.SubscriberConfig{
		Brokers:               brokers,
		ConsumerGroup:         "mail",
		Unmarshaler:           kafka.DefaultMarshaler{},
		OverwriteSaramaConfig: config,
	}
}

// MIGRATION: before.
func stockSubscriber(brokers []string, logger watermill.LoggerAdapter) (message.Subscriber, error) {
	return kafka.NewSubscriber(subscriberConfig(brokers), logger)
}

// MIGRATION end.
