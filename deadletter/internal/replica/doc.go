// Package replica is a store of dead letters over two logs that all members
// read: each has the whole of it in memory (package line), and changes it by
// appending to a log and reading on until that record comes back. Journal is
// the logs; Memory keeps them in this process.
//
// What is promised, for any Journal:
//
//   - Whoever asks sees all that was appended before it asked (Journal.Read).
//   - Park has answered when the record is in the log.
//   - Who changes a letter holds a claim on its key: a member that retries it,
//     or for a moment the one who edits, discards or reassigns it. A claim that
//     has run out under its holder (a process that stood still) does not keep
//     its record out of the log.
//   - The audit line of an act is written before the act.
package replica
