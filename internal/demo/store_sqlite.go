package demo

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/gofrs/flock"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox/sqlinbox"
	"github.com/tidings-bus/tidings/schema"
)

// synchronousFull is what PRAGMA synchronous answers when every commit is synced.
const synchronousFull = 2

type sqliteStore struct {
	sqlQuerier

	db *sql.DB
}

// sqliteDSN opens a file for several processes: WAL, write locks taken at BEGIN
// and waited for, every commit synced.
func sqliteDSN(path string) string {
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath()}).String() +
		"?_txlock=immediate&_pragma=busy_timeout(20000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
}

func openSQLite(ctx context.Context, c StoreConfig) (_ *sqliteStore, err error) {
	db, err := sql.Open("sqlite", sqliteDSN(c.SQLite))
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", c.SQLite, err)
	}
	defer func() {
		if err != nil {
			_ = db.Close()
		}
	}()
	// One writer at a time is SQLite's rule; waiting for a connection is
	// cheaper than waiting for the file's lock.
	db.SetMaxOpenConns(1)
	s := &sqliteStore{sqlQuerier{db}, db}
	if err := s.prepare(ctx, c); err != nil {
		return nil, fmt.Errorf("preparing %s: %w", c.SQLite, err)
	}
	var mode int
	if err := one(ctx, s, `PRAGMA synchronous`, nil, &mode); err != nil {
		return nil, fmt.Errorf("asking %s for its synchronous mode: %w", c.SQLite, err)
	}
	if mode != synchronousFull {
		return nil, fmt.Errorf("%s has synchronous mode %d, want %d (FULL): the demo promises that a commit is on disk", c.SQLite, mode, synchronousFull)
	}
	return s, nil
}

// prepare makes the tables, one process at a time.
func (s *sqliteStore) prepare(ctx context.Context, c StoreConfig) (err error) {
	lock := flock.New(c.SQLite + ".demo.lock")
	if err := lock.Lock(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if c.Migrate {
		if err := schema.MigrateSQLite(ctx, s.db); err != nil {
			return err
		}
	}
	return s.exec(ctx, sqliteTables)
}

func (s *sqliteStore) inTx(ctx context.Context, fn func(context.Context, querier) error) (err error) {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := fn(ctx, sqlQuerier{tx}); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func (s *sqliteStore) handlers(r role) ([]handlers.Handler, error) {
	box, err := sqlinbox.New(sqlinbox.Config{DB: s.db, Dialect: sqlinbox.SQLite})
	if err != nil {
		return nil, err
	}
	return roleHandlers(r, box, box, func(tx *sql.Tx) querier { return sqlQuerier{tx} }), nil
}

func (s *sqliteStore) noted(ctx context.Context) (map[string]time.Time, error) {
	return readNoted(ctx, s, `SELECT event_id, applied_at FROM tidings_inbox`)
}

func (s *sqliteStore) close() { _ = s.db.Close() }

// sqlQuerier is a *sql.DB or *sql.Tx.
type sqlQuerier struct {
	db interface {
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
		QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	}
}

func (q sqlQuerier) exec(ctx context.Context, query string, args ...any) error {
	_, err := q.db.ExecContext(ctx, query, args...)
	return err
}

func (q sqlQuerier) each(ctx context.Context, query string, args []any, row func(func(...any) error) error) (err error) {
	rows, err := q.db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
