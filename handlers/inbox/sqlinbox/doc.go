// Package sqlinbox is the inbox for handlers that use database/sql: effects run
// in a *sql.Tx, on PostgreSQL (any driver that takes $1) or SQLite.
//
// It promises what package inbox says, and:
//
//   - PostgreSQL: as pgxinbox, in the same tables, with three round trips before
//     the effect where pgx needs one.
//
//   - SQLite: the first statement of each transaction is a write, so it holds the
//     file's write lock before it reads anything, with any _txlock. Waiting for
//     another process's lock goes on past busy_timeout until the context ends,
//     and is no attempt. Check demands WAL and synchronous=FULL:
//
//     file:billing.db?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(5000)
//
//   - SQLite's inbox is one table, pruned in small batches by the time of
//     admission. Effects that write to an attached file do not commit with it as
//     one: SQLite does not promise that in WAL mode.
//
//   - Parked events are in the same database: see Letters.
//
//   - The database is the caller's and is not closed.
package sqlinbox
