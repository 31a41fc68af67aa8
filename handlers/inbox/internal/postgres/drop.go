package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// dropLock is the advisory lock of the one member that drops: "tidinbox".
	dropLock int64 = 0x746964696e626f78
	// endWait bounds how long giving the connection back may take.
	endWait = 5 * time.Second
	// A detach waits for the transactions that were there before it. It holds
	// up nobody meanwhile, so the wait only bounds how long Keep does nothing else.
	shortestWait = time.Second
	longestWait  = 10 * time.Second
	// lockNotAvailable is the SQLSTATE of a lock_timeout.
	lockNotAvailable = "55P03"
)

// drop drops the partitions that are due. Where another member is at it, it
// does nothing. Admissions go on: a partition is detached concurrently first,
// and then nobody uses it. delayed: somebody does for longer than the wait.
func (u *Upkeep) drop(ctx context.Context, db *sql.DB) (delayed bool, err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return false, fmt.Errorf("drop inbox partitions past retention: %w", err)
	}
	defer func() { _ = conn.Close() }()
	var mine bool
	var wait string
	err = conn.QueryRowContext(ctx, `SELECT pg_try_advisory_lock($1), current_setting('lock_timeout')`, dropLock).Scan(&mine, &wait)
	if err != nil {
		return false, fmt.Errorf("drop inbox partitions past retention: %w", err)
	}
	if !mine {
		return false, nil
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWait)
		defer cancel()
		const restore = `SELECT pg_advisory_unlock($1), set_config('lock_timeout', $2, false)`
		if _, err := conn.ExecContext(ctx, restore, dropLock, wait); err != nil {
			_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // nobody else gets it
		}
	}()
	bound := min(max(u.PartitionEvery, shortestWait), longestWait)
	if _, err := conn.ExecContext(ctx, `SELECT set_config('lock_timeout', $1, false)`, strconv.FormatInt(bound.Milliseconds(), 10)); err != nil {
		return false, fmt.Errorf("drop inbox partitions past retention: %w", err)
	}
	for {
		var due sql.NullString
		err := conn.QueryRowContext(ctx, `SELECT tidings.inbox_due()`).Scan(&due)
		if err == nil && !due.Valid {
			return false, nil
		}
		if err == nil {
			err = dropPartition(ctx, conn, due.String)
		}
		switch {
		case err == nil:
			u.Logger.InfoContext(ctx, "dropped an inbox partition past retention", "partition", due.String)
		case state(err) == lockNotAvailable:
			u.Logger.WarnContext(ctx, "an inbox partition past retention is still in use by an old transaction, and is dropped later",
				"partition", due.String, "waited", bound)
			return true, nil
		default:
			return false, fmt.Errorf("drop inbox partition %q past retention: %w", due.String, err)
		}
	}
}

// dropPartition goes on wherever an earlier try ended: each step is found done.
func dropPartition(ctx context.Context, conn *sql.Conn, name string) error {
	const find = `SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = to_regclass($1) AND inhparent = 'tidings.inbox'::regclass`
	table := pgx.Identifier{"tidings", name}.Sanitize()
	var pending bool
	err := conn.QueryRowContext(ctx, find, table).Scan(&pending)
	if err == nil {
		how := "CONCURRENTLY"
		if pending { // an earlier try was cut short
			how = "FINALIZE"
		}
		_, err = conn.ExecContext(ctx, `ALTER TABLE tidings.inbox DETACH PARTITION `+table+` `+how)
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if _, err := conn.ExecContext(ctx, `DROP TABLE IF EXISTS `+table); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, `DELETE FROM tidings.inbox_partition WHERE name = $1`, name)
	return err
}
