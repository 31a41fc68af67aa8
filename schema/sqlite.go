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
	err = unlocked(ctx, func() error {
		return db.QueryRowContext(ctx, `SELECT file FROM pragma_database_list WHERE name = 'main'`).Scan(&path)
	})
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
	if err := unlocked(ctx, func() error { return upSQLite(ctx, db) }); err != nil {
		return fmt.Errorf("migrate sqlite: %w", err)
	}
	return CheckSQLite(ctx, db)
}

func upSQLite(ctx context.Context, db *sql.DB) error {
	status, err := StatusSQLite(ctx, db)
	switch {
	case err != nil:
		return err
	case status.OldestBinary > Level:
		return status.check(sqlite)
	case status.Version >= Version:
		return nil
	}
	return up(ctx, db, goose.DialectSQLite3, sqlite, goose.WithTableName("tidings_migration"))
}

// unlocked repeats f until it does not find the database locked, or ctx ends:
// another process may write, or switch the file to WAL as it opens it, which
// busy_timeout does not cover.
func unlocked(ctx context.Context, f func() error) error {
	const busy = 5 // https://sqlite.org/rescode.html#busy
	tick := time.NewTicker(filePoll)
	defer tick.Stop()
	for {
		err := f()
		var coded interface{ Code() int }
		if !errors.As(err, &coded) || coded.Code()&0xff != busy {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-tick.C:
		}
	}
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
