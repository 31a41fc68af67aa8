// Package publisher publishes domain events to Kafka.
//
// What is promised:
//
//   - Publish returns nil only when every event is acknowledged by all in-sync
//     replicas (acks=all). Otherwise it returns a [*PublishError] that names
//     each event which was not, why, and whether it may be in the log all the
//     same.
//   - For one key, a later event is never acknowledged unless every earlier one
//     was, also across concurrent callers: one produce request is in flight per
//     partition, a batch that fails is sent again before anything behind it, and
//     an event that is given up takes down what was queued behind it under its
//     key ([ErrHeldBack]). Calls made after that may proceed.
//   - An event may be in the log more than once: a batch whose answer was lost is
//     sent again. Consumers tell duplicates by the event's ID; the inbox does.
//   - A key is always in the same partition: Java's murmur2 over the partition
//     count that is recorded for the topic in the compacted control topic
//     ([ControlTopic]). A topic with another count is refused
//     ([ErrPartitionsChanged]), and that is noticed within
//     Config.MetadataMaxAge while the publisher runs.
//   - A lone event waits for nothing. While two requests to a broker are in
//     flight, what comes for it shares the next one, whatever the partition; it
//     waits for at most 10 ms, however slow those two are.
//   - Partitions share requests, not failures: one that is refused, has too few
//     replicas or lost its answer is dealt with alone, and the others go on.
//   - Memory is bounded by count and by bytes over the whole publisher; a full
//     buffer blocks until the context ends.
//   - What may pass (no leader, no network, too few replicas) is tried again, with
//     pauses that grow, until the context ends. What will not (too large, not
//     authorized, unknown topic, wrong credentials) is given up at once, with an
//     error that says what to do.
//   - No topic is made silently by a broker. [Topics] makes them; the publisher
//     itself makes only the control topic.
//   - No goroutine runs when there is nothing to send, and none is left when
//     [Publisher.Close] has returned.
//
// When a caller's context ends, its events that were not sent yet are withdrawn:
// they will not be in the log. Those in flight are reported in doubt; their
// request is not cut off, and nothing overtakes it. Events of other callers that
// were already queued behind a withdrawn one, under its key, are held back: they
// fail too, as an earlier event of their key is not in the log. Events without
// a key have no order and hold nothing back.
//
// Two publishers, in one process or in several, have no order between them.
package publisher
