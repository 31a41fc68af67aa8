// Command watermill-kafka handles events that it reads by a stock
// watermill-kafka subscriber: for services that have one, and want typed
// handlers and the inbox first and key lanes later.
//
// What it does without: lanes. A failing event holds its whole partition until
// it is applied, not only its key; see package router, "Subscribers without
// lanes". To change over, put watermillkafka.NewSubscriber's subscriber in its
// place, with the same configuration, and leave out Place: group, topic, handlers
// and inbox stay as they are. examples/watermill-kafka-lanes shows it.
//
//	go run ./cmd/tidings broker &
//	go run ./examples/watermill-kafka
package main
