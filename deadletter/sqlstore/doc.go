// Package sqlstore is the store of dead letters of handlers whose inbox is in
// PostgreSQL or SQLite, over database/sql, in the inbox's own tables.
//
// It promises what deadletter.Store says, and:
//
//   - One lock. What changes the letters of a key first locks its key row as an
//     admission does, and looks at them by a later statement (PostgreSQL: READ
//     COMMITTED, so that it sees what was committed meanwhile; SQLite: the
//     transaction's first statement takes the write lock). An admission
//     therefore sees a key either before or after an act, and the other way
//     round. Claims do not change letters: they lock parked keys only, and pass
//     over those that somebody changes just now.
//   - Listing and counting read one row for each parked key, never the letters:
//     a million letters behind ten thousand keys are counted as fast as ten
//     thousand letters.
//   - Leases and turns go by the database's clock, so that members need not agree
//     on the time. SQLite has one machine's, in milliseconds.
//   - A discarded event has an inbox row where admissions look for it, and its
//     key has seen its offset and sequence: redelivered, it is a duplicate.
//     Those behind it stay parked until somebody asks for their retry, unless it
//     was due by itself.
//   - The database is the caller's, migrated (package schema), and is not closed.
//
// Retries of a request are not audited one by one: its progress tells how many
// events were applied. A member that dies after it applied the last event of a key
// leaves its count behind; the key itself is counted when the request ends.
package sqlstore
