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
//     before. Parked: earlier events of the key are parked, this one is behind
//     them. Late: the ID is unknown, but its sequence is not above the last one
//     applied of its source and aggregate: disorder, which is never dropped.
//   - Batches (ApplyBatch) are answered as their events one by one would be, and
//     are there whole or not at all. Members lock keys in one order: batches
//     that overlap wait for each other and do not deadlock.
//   - Memory. An ID is remembered for the whole retention after its admission:
//     the longest retention that any member asked of the database. An unknown
//     UUIDv7 older than that is judged by its sequence (at or below the last:
//     Duplicate), or without a sequence by its offset (at or below the key's
//     last in that partition: Duplicate).
//   - IDs that are no UUIDv7 tell no time. They are remembered as long. An
//     unknown one of a key first seen over a retention ago may have been
//     forgotten: at or below the key's last offset in that partition (and its
//     last sequence, if the event has one) it is a Duplicate. Without a key,
//     nothing judges it after retention: it is Fresh again.
//   - Offsets judge only where they are known: below 0, a Place has none. An
//     event applied below the last offset while its ID would still be known
//     shows that offsets began anew, and the last offset goes back with it. Where
//     a topic is deleted and made again under its name, give its handlers a new
//     epoch all the same: its old events, and IDs that are no UUIDv7, would
//     be judged by the old topic's offsets until such an event has come.
//   - Size. Keys over 1,000 bytes, and sources, types and IDs over 400, are kept
//     as their SHA-256.
//
// What Parker adds, by which an event that cannot be applied stops its own key
// for its own handler only:
//
//   - One lock. To park, to go behind what is parked, to retry and to leave are
//     each one transaction under the lock that admissions take. So every event
//     of a parked key goes behind the others, in the log's order, until the last
//     one has left; then the key flows directly again. No rebalance, restart or
//     second member slips one past.
//   - Nothing twice. An event that is parked again, or comes again while it is
//     parked, is where it was: Parked. One that was applied meanwhile is not
//     parked: Duplicate. Nothing is answered by Parked before it is committed.
//   - Retries in order. Only the first parked event of a key is admitted, whatever
//     its sequence. It leaves with its effect and its inbox row, in one
//     transaction; a failed, panicking or unanswered retry leaves it in its place.
//     What only waited behind it is due when it was.
//   - Nothing dropped. What cannot be decoded is parked by its raw key and an ID
//     that derives from its place: see MessageID. Texts that a database cannot
//     hold are cleaned for people; the record is kept as it was read.
//   - Bounds. A handler whose dead letters reach a bound gets ErrFull, and nothing
//     is written.
//   - An admission of a key without parked events costs what it cost without dead
//     letters: no statement and no page more. Without a key, one look at an index
//     more.
//
// State is separate per (group, handler, epoch). Key rows are kept for ever:
// one small row for each handler and key.
package inbox
