// Package groups pauses and resumes consumer groups, from any process, by a
// record for each group in a compacted control topic.
//
// Guarantees:
//   - A paused group stays paused, whichever members come and go, until it is
//     resumed. Its members stay in the group and keep their partitions: nothing
//     moves, nothing expires but by the topic's own retention.
//   - Members heed a change within seconds: what they have started is finished,
//     nothing new is begun, retries of parked events included. A member that
//     starts looks first. (Members are those that read by package subscriber.)
//   - A cluster on which no group was ever paused has no control topic; members
//     take that for not paused. So they do when they may not read it, and say so.
//   - Of two changes at once the one that is written last stands.
package groups
