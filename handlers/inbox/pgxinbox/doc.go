// Package pgxinbox is the inbox in PostgreSQL for handlers that use pgx: effects
// run in a pgx.Tx.
//
// It promises what package inbox says, and:
//
//   - An admission is one round trip: BEGIN, the lock on the key's row and the
//     answer travel together. With COMMIT an effect costs two more than itself.
//   - Transactions are READ COMMITTED, whatever the default of the database.
//     Effects that need more lock what they read.
//   - The inbox is partitioned by the time in the event's UUIDv7. Keep makes
//     partitions ahead and drops them past retention; admissions go on meanwhile.
//     An event whose partition is not there is admitted all the same, by a table
//     for the rest: no state of the partitions stops a handler.
//   - Parked events are in the same database: see Letters. To park costs three round
//     trips, a retry two more than an effect, and an event that goes behind others
//     one more than an admission, and COMMIT.
//   - The pool is the caller's and is not closed.
//
// All members that share a database share its partitions; it keeps the longest
// retention that any of them asked for.
// To shorten it, lower retention_ms in tidings.inbox_cover once no member asks
// for more.
//
// # Rights
//
// Handlers need USAGE on the schema tidings, SELECT, INSERT and UPDATE on its
// tables, and DELETE on dead_letter and parked_key. Keep makes tables and detaches and drops them, for which PostgreSQL
// asks for their owner: the members' role must be the one that migrated, or a
// member of it that inherits (GRANT owner TO app), and the owner needs CREATE on
// the schema tidings. Check says which of these is missing. A right that is
// taken away later ends Keep by an error; handlers go on, with IDs in the table
// for the rest, which grows meanwhile.
//
// Partitions are dropped by DETACH PARTITION ... CONCURRENTLY, so PostgreSQL must
// be 14 or newer. A transaction that has read the inbox and stays open delays the
// drop, and nothing else. Keep holds an advisory lock of its session meanwhile: a
// pooler between it and the server must not switch sessions by transaction.
package pgxinbox
