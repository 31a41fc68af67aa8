package schema

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// lockKey is the advisory lock that migrations queue for: "tidings" in ASCII.
const lockKey = 0x746964696e6773

// lockPoll is how often a waiting process asks for the lock. It asks instead of
// waiting in one statement, whose snapshot would block a concurrent index build
// of the process that works.
const lockPoll = 25 * time.Millisecond

// MigratePostgres brings the database to this binary's version. It may run in
// several processes at once and does nothing when nothing is missing. It needs
// the right to create the schema "tidings". db stays the caller's.
func MigratePostgres(ctx context.Context, db *sql.DB) error {
	status, err := StatusPostgres(ctx, db)
	if err != nil {
		return fmt.Errorf("migrate postgres: %w", err)
	}
	if status.OldestBinary > Level {
		return fmt.Errorf("migrate postgres: %w", status.check(postgres))
	}
	if err := createSchema(ctx, db); err != nil {
		return fmt.Errorf("migrate postgres: create schema tidings: %w; the role needs CREATE on the database, or a schema of its own made by an administrator", err)
	}
	err = up(ctx, db, goose.DialectPostgres, postgres,
		goose.WithTableName("tidings.migration"), goose.WithSessionLocker(sessionLock{}))
	if err != nil {
		return fmt.Errorf("migrate postgres: %w", err)
	}
	return CheckPostgres(ctx, db)
}

// CheckPostgres fails when this binary must not use the database: by an error
// that wraps ErrNotMigrated or ErrTooNew and says what to do, or the database's own.
func CheckPostgres(ctx context.Context, db *sql.DB) error {
	status, err := StatusPostgres(ctx, db)
	if err != nil {
		return err
	}
	return status.check(postgres)
}

// StatusPostgres reads the state of the schema; the zero Status: not migrated.
func StatusPostgres(ctx context.Context, db *sql.DB) (Status, error) {
	var exists bool
	err := db.QueryRowContext(ctx, `SELECT to_regclass('tidings.meta') IS NOT NULL`).Scan(&exists)
	if err != nil {
		return Status{}, fmt.Errorf("ask the database for its schema version: %w", err)
	}
	if !exists {
		return Status{}, nil
	}
	var s Status
	err = db.QueryRowContext(ctx, `SELECT version, oldest_binary, oldest_release FROM tidings.meta`).
		Scan(&s.Version, &s.OldestBinary, &s.OldestRelease)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return Status{}, fmt.Errorf("read the schema version from tidings.meta: %w", err)
	}
	return s, nil
}

// createSchema makes the schema that goose's own table goes to. CREATE ... IF
// NOT EXISTS alone fails when two do it at once.
func createSchema(ctx context.Context, db *sql.DB) (err error) {
	var exists bool
	err = db.QueryRowContext(ctx, `SELECT to_regnamespace('tidings') IS NOT NULL`).Scan(&exists)
	if err != nil || exists {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ended(tx.Rollback())) }()
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(lockKey)); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `CREATE SCHEMA IF NOT EXISTS tidings`); err != nil {
		return err
	}
	return tx.Commit()
}

// ended drops the error of a rollback after a commit.
func ended(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

// sessionLock is goose's lock, held by the session that migrates.
type sessionLock struct{}

var _ lock.SessionLocker = sessionLock{}

func (sessionLock) SessionLock(ctx context.Context, conn *sql.Conn) error {
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		var got bool
		if err := conn.QueryRowContext(ctx, `SELECT pg_try_advisory_lock($1)`, int64(lockKey)).Scan(&got); err != nil {
			return fmt.Errorf("take the migration lock: %w", err)
		}
		if got {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for another process that migrates: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}

func (sessionLock) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	var held bool
	if err := conn.QueryRowContext(ctx, `SELECT pg_advisory_unlock($1)`, int64(lockKey)).Scan(&held); err != nil {
		return fmt.Errorf("release the migration lock: %w", err)
	}
	if !held {
		return errors.New("release the migration lock: this session does not hold it; connect past the transaction pooler")
	}
	return nil
}
