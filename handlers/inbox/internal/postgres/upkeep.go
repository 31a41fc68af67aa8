package postgres

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tidings-bus/tidings/schema"
)

var (
	//go:embed check.sql
	checkQuery string
	//go:embed prune_other.sql
	pruneQuery string
)

const (
	// dropWait bounds how long a drop may hold up admissions behind a reader.
	dropWaitMillis int32 = 100
	// retryAfter is the pause after a drop that gave way, or an error.
	retryAfter = 5 * time.Second
	// pruneBatch is how many rows one delete takes.
	pruneBatch = 5000
	// longestPause bounds the time between two rounds.
	longestPause = time.Hour
	// shortestPause does so from below, for tests with a retention of seconds.
	shortestPause = 50 * time.Millisecond
	// widthsAhead is how many partitions are ready before they are needed.
	widthsAhead = 3
)

// Upkeep checks and keeps the inbox of one database.
type Upkeep struct {
	Retention       time.Duration
	PartitionEvery  time.Duration
	AcceptPowerLoss bool
	Logger          *slog.Logger
}

// Check implements inbox.Keeper.
func (u *Upkeep) Check(ctx context.Context, db *sql.DB) error {
	if err := schema.CheckPostgres(ctx, db); err != nil {
		return err
	}
	var (
		inboxKind, keyKind sql.NullString
		standby            bool
		synchronous        string
	)
	if err := db.QueryRowContext(ctx, checkQuery).Scan(&inboxKind, &keyKind, &standby, &synchronous); err != nil {
		return fmt.Errorf("check the inbox: %w", err)
	}
	switch {
	case inboxKind.String != "p" || keyKind.String != "r":
		return fmt.Errorf("the inbox is in another database than the handler's transactions: tidings.inbox and tidings.key_row are of kind %q and %q here, not tables of this database; "+
			"effect and inbox row could not commit together: drop them and run `tidings migrate` on this database", inboxKind.String, keyKind.String)
	case standby:
		return errors.New("the database is a standby and read-only; connect to the primary (target_session_attrs=read-write)")
	case synchronous == "off" && !u.AcceptPowerLoss:
		return errors.New("synchronous_commit is off: a crash of the database would lose effects whose events are acknowledged; " +
			"set it on for this role or connection, or set AcceptPowerLoss")
	}
	return nil
}

// Keep implements inbox.Keeper. The first round runs at once.
func (u *Upkeep) Keep(ctx context.Context, db *sql.DB) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		pause := min(max(u.PartitionEvery/4, shortestPause), longestPause)
		if err := u.Round(ctx, db); err != nil && ctx.Err() == nil {
			pause = min(pause, retryAfter)
			u.Logger.WarnContext(ctx, "inbox upkeep did not finish and will be tried again", "error", err, "in", pause)
		}
		timer.Reset(pause)
	}
}

// Round does once what is due.
func (u *Upkeep) Round(ctx context.Context, db *sql.DB) error {
	ms := time.Duration.Milliseconds
	var made int
	err := db.QueryRowContext(ctx, `SELECT tidings.inbox_extend($1::bigint, $2::bigint, $3::bigint)`,
		ms(u.Retention), ms(u.PartitionEvery), ms(widthsAhead*u.PartitionEvery)).Scan(&made)
	if err != nil {
		return fmt.Errorf("make inbox partitions ahead: %w", err)
	}
	if made > 0 {
		u.Logger.DebugContext(ctx, "made inbox partitions", "count", made)
	}
	for {
		var dropped sql.NullString
		err := db.QueryRowContext(ctx, `SELECT tidings.inbox_drop($1::integer)`, dropWaitMillis).Scan(&dropped)
		if err != nil {
			return fmt.Errorf("drop an inbox partition past retention: %w", err)
		}
		if !dropped.Valid {
			break
		}
		u.Logger.InfoContext(ctx, "dropped an inbox partition past retention", "partition", dropped.String)
	}
	for {
		result, err := db.ExecContext(ctx, pruneQuery, int32(pruneBatch))
		if err != nil {
			return fmt.Errorf("prune inbox_other: %w", err)
		}
		if n, err := result.RowsAffected(); err != nil || n < pruneBatch {
			return err
		}
	}
}

// Validate fills in defaults and checks what a driver's Config says.
func (u *Upkeep) Validate() error {
	switch {
	case u.Retention < 0:
		return fmt.Errorf("field Retention is %v; use a positive duration, or 0 for %v", u.Retention, DefaultRetention)
	case u.PartitionEvery < 0:
		return fmt.Errorf("field PartitionEvery is %v; use a positive duration, or 0 for a seventh of Retention", u.PartitionEvery)
	}
	if u.Retention == 0 {
		u.Retention = DefaultRetention
	}
	if u.PartitionEvery == 0 {
		u.PartitionEvery = max(u.Retention/7, time.Millisecond)
	}
	if u.PartitionEvery > u.Retention/4 {
		return fmt.Errorf("field PartitionEvery is %v, more than a quarter of Retention %v; use less, or 0 for a seventh of Retention", u.PartitionEvery, u.Retention)
	}
	if u.Logger == nil {
		u.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// DefaultRetention is that of Kafka's topics.
const DefaultRetention = 7 * 24 * time.Hour
