// Package inbox is the processed-ID table as handlers see it: the seam that a
// database driver fills. See pgxinbox (pgx.Tx) and sqlinbox (*sql.Tx).
//
// What every driver promises, and inboxtest checks:
//
//   - Effect once. The effect, the inbox row and the key row commit together or
//     not at all, whatever crashes and whoever races.
//   - One at a time. Effects of one (handler, topic, key) are serial across
//     members, by a lock on the key's row held from admission to commit. A null
//     or empty key orders nothing: only its event ID is looked at.
//   - Answers. Fresh: the effect ran. Duplicate: this handler applied this ID
//     before. Parked: earlier events of the key are parked, this one goes behind
//     them. Late: the ID is unknown, but its sequence is not above the last one
//     applied of its source and aggregate: disorder, which is never dropped.
//   - Memory. An ID is remembered for the whole retention after its admission.
//     An ID older than that is judged by its sequence (at or below the last:
//     Duplicate), or without a sequence by its offset (at or below the key's
//     last in that partition: Duplicate).
//
// State is separate per (group, handler, epoch). Key rows are kept for ever:
// one small row for each handler and key.
package inbox
