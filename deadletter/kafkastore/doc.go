// Package kafkastore keeps the dead letters of a group in Kafka, for services
// without a database. It parks in the same order-keeping form as the stores in
// databases, with a weaker promise.
//
// What is promised:
//
//   - Order. A key that fails is parked, and later events of it go behind it, in
//     order, for its own handler only. A member admits an event only after it
//     has read everything that was parked before it asked (see below).
//   - Nothing parked is lost: an event is answered as parked when the brokers
//     have acknowledged its record (acks=all). How safe that is, is the topic's
//     replication and min.insync.replicas. A letter leaves by a tombstone after
//     its effect, or by Discard with a reason.
//   - Memory is bounded: every member holds all parked events of the group, up
//     to Config.MaxBytes, errors and stacks and 1 KiB for each included. Beyond
//     that Park refuses (inbox.ErrFull).
//
// What is not promised, other than by a store in a database:
//
//   - Effects are at least once. IDs are remembered only of events that were
//     parked and left within the last day (the last 100,000): they are not handed
//     out again when they are read again. What crashes between any other event's
//     effect and its offset's commit, or between a retry's effect and its
//     tombstone, repeats the effect; disorder (inbox.Late) is not told.
//   - A member that lost its partition without knowing (a process that stood
//     still past its session) may overlap with the next owner, as all plain
//     handlers may. A member that stood still past the lease of its claim may
//     finish a retry beside the next one's.
//   - An act and its line in the audit log are two records: the line is written
//     first. The log is bounded by Config.Retention, and the newest 10,000 lines,
//     up to 32 MiB of them, are in memory and can be listed.
//   - Import and Reassign while events of the same key arrive: which come first
//     is not defined.
//
// # Topics
//
// tidings.parked.<group> is compacted and has one partition: a record for each
// letter, named handler/epoch/topic/key/event, with the event's value and
// headers as they are and all else in the header tidings-letter; null when it
// has left. tidings.parked.<group>.log is kept for Config.Retention: requests,
// claims, progress and audit, as JSON. Both are made when they are missing, with
// the brokers' default replication.
//
// # How a member knows what is parked
//
// Every Look asks the leader for the end of the topic, after it was called, and
// waits until this process has read up to there; Looks that wait at the same
// time share one question. That is enough, whatever the group's rebalances did:
//
//   - When an event e2 of a key arrives here and an earlier e1 of it does not, the
//     group had committed an offset above e1's when this member was given the
//     partition.
//   - Whoever committed it had e1 finished before: applied, or parked. Park
//     answers after the brokers acknowledged the record, so the record was below
//     the end of the topic before that commit, and so before this Look.
//   - So the end that the Look is told lies behind e1's record, and it sees e1
//     parked or, by a tombstone that was acknowledged after the effect, applied.
//
// Nothing in it depends on knowing when the partition was assigned, or on
// clocks. A cheaper rule that asks once per assignment would need to be told of
// each one: offsets do not show it, for a partition may come back with a higher
// offset than the last one seen here, as any gap does. The question costs one
// round trip per Look, and none of the brokers' disk.
package kafkastore
