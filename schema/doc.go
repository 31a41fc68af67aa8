// Package schema makes and checks the tables that Tidings keeps in a service's
// own database: PostgreSQL (schema "tidings") and SQLite (tables "tidings_...").
//
// What is promised:
//
//   - Migrations are embedded, versioned and applied each in its transaction.
//     Any number of processes may migrate one database at once: one works, the
//     others wait for it and find the work done. On PostgreSQL they queue for a
//     session's advisory lock (which needs a connection that is not pooled by
//     transaction), on SQLite for a lock file beside the database.
//   - The database records the oldest binary that may use it. A newer schema
//     that older binaries still understand does not stop them, so services can be
//     upgraded one member at a time; one they do not understand refuses them by
//     ErrTooNew.
//   - Check changes nothing. Migrate never goes back.
package schema
