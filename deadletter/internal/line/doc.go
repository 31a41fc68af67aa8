// Package line keeps parked events in memory: a line for each key, and a desk
// with the claims, requests and acts on them. It is a state machine over two
// logs, without I/O, locks or a clock of its own:
//
//   - Lines are a function of the log of letters: whoever reads the same log has
//     the same lines, also from a log that was compacted (which keeps the last
//     record of each name), and the same IDs.
//   - A Desk is a function of the log of notes, which is not compacted. A note
//     that comes too late (a claim on a key that is claimed) changes nothing, for
//     every reader.
//
// So the order in which a log was written is what decides, not who was asked.
package line
