// Package subscriber reads Kafka into watermill, with a lane for each key.
//
// Guarantees:
//   - Messages of one key are handed out in the log's order, one at a time: the
//     next one follows the ack of the one before. Other keys go on meanwhile,
//     also while one is being retried. A null or empty key orders nothing.
//   - Every message is handed out until it is acked. Nothing is dropped: what
//     cannot be decoded is handed out as it is. Aborted transactional records are
//     never seen (read_committed).
//   - Offsets are committed only up to the first message that is not acked. What
//     was acked above it is committed beside, as the offset's metadata, in 2 KB at
//     most: after a crash it does not come again, only what was acked since the
//     last commit, and what did not fit. Metadata of other tools, and offsets that
//     were reset by them, skip nothing.
//   - When partitions are revoked and when the subscriber stops, what has started
//     is finished, within Timings.Drain, and committed before the group goes on:
//     a member that leaves in good order repeats nothing, unless messages keep
//     failing. A handler that nacks for ever holds nobody up. A lost partition
//     has its messages' contexts cancelled and commits nothing.
//     Partitions that stay are read, handled and committed while others are
//     given up.
//   - What is held in memory is bounded by Limits and Fetch, whatever handlers
//     do; Fetch counts bytes as they come from the brokers, compressed. A
//     partition that is full is paused. One blocked partition does not stop
//     the others.
//   - A static member (Config.InstanceID) that is restarted within its session
//     has its partitions back without a rebalance, whoever leads the group.
//   - While the group is paused (groups.Pause), or the subscriber (Pause), nothing
//     is handed out or fetched; what runs is finished and committed, and the
//     member stays in the group.
//   - After Close, or the end of Subscribe's context, no goroutine is left.
//
// Two members overlap for a key only when a handler ignores its cancelled
// context, or when this process was taken for dead (Timings.Session) and did not
// know. A drain does not make it so, however long: heartbeats go on until what
// runs is finished and committed, and only then the member leaves. Handlers in a transaction with the inbox are safe even then.
//
// # With watermill
//
// Each Subscribe call is one member of the group and reads one topic; several
// topics in one group are fine, and rebalance together. Messages carry UUID (the
// event's ID), metadata (the headers) and the value; see Unmarshal. What watermill
// has no place for, such as the partition, the offset and the attempt, the event
// router finds in the message's context. To have order, read the channel with any
// number of goroutines, but ack a message only when its work is done.
//
// Do not add watermill's middleware.Retry, PoisonQueue or Deduplicator: they sleep
// in place, lose the order, and lose messages.
package subscriber
