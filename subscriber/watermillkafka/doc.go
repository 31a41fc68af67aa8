// Package watermillkafka gives key lanes to services that read by watermill-kafka
// v3, and lets its publishers and subscribers exchange events with ours.
//
// Guarantees of Subscriber, which takes watermill-kafka's configuration:
//   - Messages of one key are handed out in the log's order, one at a time: the
//     next one follows the ack of the one before. Other keys go on meanwhile,
//     also while one is sent again after a nack. A null or empty key orders nothing.
//   - Every message is handed out until it is acked. One that the Unmarshaler
//     refuses is tried every second at most, and holds its own key.
//   - Offsets are committed only up to the first message that is not acked. After
//     a crash, what was acked above it or since the last commit comes again.
//   - When the group rebalances and when the subscriber stops, what has started is
//     finished, within LanesConfig.Drain, and committed before the group goes on:
//     members that come and go in good order repeat nothing, unless messages keep
//     failing. A handler that nacks for ever holds nobody up. A lost partition has
//     its messages' contexts cancelled and commits nothing.
//   - What is held in memory is bounded by LanesConfig. On top of it sarama has at
//     most two fetches for each partition (Consumer.Fetch.Default of its
//     configuration, or one batch of the producer if that is larger) and
//     ChannelBufferSize messages. A partition that is full is paused, and the
//     others of its broker go on.
//   - With LanesConfig.Tenant, no tenant takes all slots from the others.
//   - After Close, or the end of Subscribe's context, no goroutine is left.
//
// sarama is underneath as before: its connections, fetches and group protocol, in
// eager mode, in which each rebalance stops all partitions of the group for as long
// as the longest drain. Package subscriber's rebalances stop only those that move.
// When the coordinator does not answer (its broker restarts), sarama gives its
// partitions up at once; what runs is then finished within a third of the session.
//
// Two members overlap for a key only when a handler ignores its cancelled context,
// or when this process was taken for dead and did not know. Handlers in a
// transaction with the inbox are safe even then.
//
// # Configuration
//
// Every field of kafka.SubscriberConfig keeps its meaning, with these differences:
//   - NackResendSleep holds the message's key, nothing else.
//   - OverwriteSaramaConfig is copied. ChannelBufferSize, Consumer.Fetch.Default,
//     Consumer.MaxWaitTime, Consumer.Group.Heartbeat.Interval and
//     Consumer.Group.Rebalance.Retry.Backoff get better values where they stand at
//     sarama's default, and Consumer.MaxProcessingTime is a second at least: a
//     handler's time does not count towards it any more.
//   - Consumer.Offsets.AutoCommit: its interval is heeded. Without it, offsets are
//     committed in the background within 10 ms of the ack, not during it.
//   - Consumer.Offsets.Initial: a group that begins at the newest message commits
//     that place before it reads. Stock's would begin anew at what is newest then,
//     if a rebalance came before its first ack.
//   - Cooperative balance strategies are refused: sarama leaves partitions without
//     a reader in that mode.
//   - Without a ConsumerGroup all partitions are read, and nothing is committed, as
//     ever; a connection that is made anew goes on where the one before it was.
//
// With our router each message brings its Delivery: retries sleep in their lane.
// Where the Unmarshaler is another one than Marshaler, the router gets what it
// made of the message. A Batch handler gets its events one by one: package
// subscriber gathers them. That a group is paused (package groups) is heeded by
// package subscriber alone.
//
// # Marshaler
//
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
// It serves stock subscribers, too. They have no lanes: one message is in flight
// per partition, a failing one holds all behind it, and sarama holds its partition
// through a rebalance.
package watermillkafka
