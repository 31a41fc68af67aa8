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
//   - The pool is the caller's and is not closed.
//
// All members that share a database share its partitions; it keeps the longest
// retention that any of them asked for.
package pgxinbox
