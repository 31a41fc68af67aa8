// Command quickstart is a whole service in one file: it publishes order.placed
// events to Kafka and handles them, each once in effect, by an invoice in
// SQLite. It needs a broker; "tidings broker" starts one without Docker:
//
//	go run ./cmd/tidings broker &
//	go run ./examples/quickstart
package main
