// Package lanes schedules the messages of a partitioned log, one lane for each
// active key. It knows no Kafka client: subscribers feed it and commit what its
// watermark allows.
//
// Guarantees:
//   - Messages of one key run one at a time, in the order they were added. A
//     lane is one key, compared byte by byte: no other key waits behind it. A
//     null or empty key orders nothing.
//   - A message that is tried again keeps its lane, not its slot: the lane
//     sleeps, the others run. A sleeping lane costs one heap entry, no goroutine.
//   - The watermark of a partition is the offset after the last message below
//     which every added one is finished. Offsets may have gaps.
//   - Running messages are bounded in total and per partition, and a part of the
//     total is kept for partitions that use little: a blocked one cannot stop the
//     others. Draining partitions go first.
//   - With Config.Fair the slots are shared among tenants by weight, within a
//     partition and across partitions: a flood of one makes the others wait for
//     a message of its for each of theirs, not for its queue, and none has more
//     than three quarters of the slots.
//   - What is held (unfinished, and finished ahead of the watermark) is bounded
//     by count and by bytes, per partition and in total: past a bound the
//     partition asks to be paused, and below half of it to be resumed. A bound is
//     exceeded by at most what one Add brings, a total also by the share (a
//     quarter in equal parts) of partitions that are opened while it is used up.
//     What is finished ahead holds its place only. One key counts for a quarter
//     of a partition's pending messages at most, one tenant for half, so that
//     what lies behind their floods is read, within RunAhead and bytes.
//   - A worker may gather more of its partition's ready messages, and the runs
//     behind them in their lanes, into its slot, and settle each on its own:
//     their order, the watermark and the drain are those of single messages.
//   - In a pause nothing starts; what handlers have is finished and counts.
//   - Draining finishes what is below the highest message that has started, so
//     that little is repeated by the next owner, and gives up on what keeps
//     failing: see Partition.Drain.
package lanes
