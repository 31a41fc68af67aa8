package schema

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/gofrs/flock"
	"github.com/pressly/goose/v3"
)

// filePoll is how often a waiting process tries the lock file.
const filePoll = 10 * time.Millisecond

// MigrateSQLite brings the database to this binary's version. It may run in
// several processes at once: they queue for a lock file beside the database
// ("<path>.migrate.lock", which stays). It does nothing when nothing is missing.
// A database in memory has no lock file. db stays the caller's.
func MigrateSQLite(ctx context.Context, db *sql.DB) (err error) {
	var path string
	err = db.QueryRowContext(ctx, `SELECT file FROM pragma_database_list WHERE name = 'main'`).Scan(&path)
	if err != nil {
		return fmt.Errorf("migrate sqlite: open the database: %w", err)
	}
	if path != "" {
		lock := flock.New(path + ".migrate.lock")
		if _, err := lock.TryLockContext(ctx, filePoll); err != nil {
			return fmt.Errorf("migrate sqlite: wait for the lock file %s: %w", lock.Path(), err)
		}
		defer func() { err = errors.Join(err, lock.Close()) }()
	}
	status, err := StatusSQLite(ctx, db)
	if err != nil {
		return fmt.Errorf("migrate sqlite: %w", err)
	}
	if status.OldestBinary > Level {
		return fmt.Errorf("migrate sqlite: %w", status.check(sqlite))
	}
	if status.Version < Version {
		if err := up(ctx, db, goose.DialectSQLite3, sqlite, goose.WithTableName("tidings_migration")); err != nil {
			return fmt.Errorf("migrate sqlite: %w", err)
		}
	}
	return CheckSQLite(ctx, db)
}

// CheckSQLite fails when this binary must not use the database: by an error
// that wraps ErrNotMigrated or ErrTooNew and says what to do, or the database's own.
func CheckSQLite(ctx context.Context, db *sql.DB) error {
	status, err := StatusSQLite(ctx, db)
	if err != nil {
		return err
	}
	return status.check(sqlite)
}

// StatusSQLite reads the state of the schema; the zero Status: not migrated.
func StatusSQLite(ctx context.Context, db *sql.DB) (Status, error) {
	var exists bool
	err := db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM main.sqlite_master WHERE type = 'table' AND name = 'tidings_meta')`).Scan(&exists)
	if err != nil {
		return Status{}, fmt.Errorf("ask the database for its schema version: %w", err)
	}
	if !exists {
		return Status{}, nil
	}
	var s Status
	err = db.QueryRowContext(ctx, `SELECT version, oldest_binary, oldest_release FROM main.tidings_meta`).
		Scan(&s.Version, &s.OldestBinary, &s.OldestRelease)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return Status{}, fmt.Errorf("read the schema version from tidings_meta: %w", err)
	}
	return s, nil
}
