package main

import (
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tidings-bus/tidings/subscriber/watermillkafka"
)

// MIGRATION: after.
func laneSubscriber(brokers []string, logger watermill.LoggerAdapter) (message.Subscriber, error) {
	return watermillkafka.NewSubscriber(subscriberConfig(brokers), watermillkafka.LanesConfig{}, logger)
}

// MIGRATION end.
