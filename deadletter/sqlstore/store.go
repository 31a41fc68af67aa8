package sqlstore

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/tidings-bus/tidings/deadletter"
)

// Store is the store of one database. It is safe for concurrent use. Make it by
// Postgres or SQLite.
type Store struct {
	id      string
	open    func() (db *sql.DB, done func())
	dialect *dialect
}

var _ deadletter.Store = (*Store)(nil)

// Postgres returns the store of a PostgreSQL database, by any driver that takes
// $1. It does not touch the database. Its ID is the inbox's of sqlinbox on db.
func Postgres(db *sql.DB) *Store { return over(db, &postgres) }

// SQLite returns the store of a SQLite file. It does not touch the database. Its
// ID is the inbox's of sqlinbox on db.
func SQLite(db *sql.DB) *Store { return over(db, &sqlite) }

// PostgresBy returns the store of a PostgreSQL database that open reaches by a
// pool of the caller's: it is called for each method, and done after it. The ID
// is the one of the inbox.
func PostgresBy(id string, open func() (db *sql.DB, done func())) *Store {
	return &Store{id: id, open: open, dialect: &postgres}
}

func over(db *sql.DB, d *dialect) *Store {
	return &Store{
		id:      fmt.Sprintf("sql.DB %p", db),
		open:    func() (*sql.DB, func()) { return db, func() {} },
		dialect: d,
	}
}

// ID implements deadletter.Store.
func (s *Store) ID() string { return s.id }

// read runs f outside of any transaction.
func (s *Store) read(f func(on session) error) error {
	db, done := s.open()
	defer done()
	return f(session{db, s.dialect})
}

// change runs f in a transaction. On PostgreSQL each of its statements sees what
// was committed before it; on SQLite it has the write lock.
func (s *Store) change(ctx context.Context, f func(on session) error) error {
	db, done := s.open()
	defer done()
	return s.dialect.patiently(ctx, func() error {
		tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: s.dialect.isolation})
		if err != nil {
			return fmt.Errorf("begin: %w", err)
		}
		defer tx.Rollback() //nolint:errcheck // after a commit it does nothing, after an error that counts
		on := session{tx, s.dialect}
		if s.dialect.lockFile {
			if _, err := on.exec(ctx, lockFile); err != nil {
				return fmt.Errorf("take the write lock: %w", err)
			}
		}
		if err := f(on); err != nil {
			return err
		}
		if err := tx.Commit(); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
		return nil
	})
}
