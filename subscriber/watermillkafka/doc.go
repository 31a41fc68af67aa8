// Package watermillkafka lets stock watermill-kafka publishers and subscribers
// exchange events with ours, for services that have them already.
//
// Guarantees:
//   - Marshaler writes and reads the same records as publisher and subscriber do:
//     CloudEvents 1.0 in Kafka's binary mode, key = aggregate ID. What one writes
//     the other reads, byte for byte but for the order of headers; of a header
//     that stands twice the last is kept.
//   - Unmarshal never fails. watermill-kafka would read an unreadable message
//     again and again; here it reaches the router, which knows what to do.
//   - Messages that are no events pass through in stock watermill-kafka's own form.
//   - With PublisherConfig a key goes to the same partition as from our publisher
//     and Java's clients. With sarama's default it does not: one aggregate's
//     events would be in two partitions, without order between them.
//
// A stock subscriber has no lanes: it has one message in flight per partition, a
// failing one holds all behind it, and sarama holds its partition through a
// rebalance. Package subscriber has none of this.
package watermillkafka
