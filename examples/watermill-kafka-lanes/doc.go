// Command watermill-kafka-lanes is a service as it stood before it knew this
// module: watermill's Router, plain watermill handlers, messages in the service's
// own form, watermill-kafka's configuration. Only its subscriber has changed, to
// one with a lane for each key: a message that fails stops its own key, and the
// others go on side by side. docs/migrating-from-watermill-kafka.md tells the rest.
//
//	go run ./cmd/tidings broker &
//	go run ./examples/watermill-kafka-lanes          # after
//	go run ./examples/watermill-kafka-lanes -stock   # before
package main
