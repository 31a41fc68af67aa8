package postgres

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tidings-bus/tidings/schema"
)

var (
	//go:embed check.sql
	checkQuery string
	//go:embed prune_other.sql
	pruneQuery string
)

const (
	// retryAfter is the pause after a drop that gave way.
	retryAfter = 5 * time.Second
	// pruneBatch is how many rows one delete takes.
	pruneBatch = 5000
	// longestPause bounds the time between two rounds.
	longestPause = time.Minute
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
		letters, parked    sql.NullString // kinds too
		parks              bool
		standby            bool
		synchronous        string
		role, owner        string
		owns, creates      bool
	)
	err := db.QueryRowContext(ctx, checkQuery).Scan(&inboxKind, &keyKind, &letters, &parked, &parks, &standby, &synchronous, &role, &owner, &owns, &creates)
	if err != nil {
		return fmt.Errorf("check the inbox: %w", err)
	}
	switch {
	case inboxKind.String != "p" || keyKind.String != "r":
		return fmt.Errorf("the inbox is in another database than the handler's transactions: tidings.inbox and tidings.key_row are of kind %q and %q here, not tables of this database; "+
			"effect and inbox row could not commit together: drop them and run `tidings migrate` on this database", inboxKind.String, keyKind.String)
	case !letters.Valid || !parked.Valid || !parks:
		return fmt.Errorf("%w: it has no dead-letter tables: it was migrated by a build from before they were part of schema version %d; "+
			"DROP SCHEMA tidings CASCADE, which forgets what was applied, and run `tidings migrate --postgres ...`", schema.ErrNotMigrated, schema.Version)
	case letters.String != "r" || parked.String != "r":
		return fmt.Errorf("the dead letters are in another database than the inbox: tidings.dead_letter and tidings.parked_key are of kind %q and %q here, not tables of this database; "+
			"an event could be parked and applied: drop them and run `tidings migrate` on this database", letters.String, parked.String)
	case standby:
		return errors.New("the database is a standby and read-only; connect to the primary (target_session_attrs=read-write)")
	case synchronous == "off" && !u.AcceptPowerLoss:
		return errors.New("synchronous_commit is off: a crash of the database would lose effects whose events are acknowledged; " +
			"set it on for this role or connection, or set AcceptPowerLoss")
	case !owns:
		return fmt.Errorf("role %q does not own tidings.inbox, so it cannot make and drop its partitions: GRANT %s TO %s",
			role, pgx.Identifier{owner}.Sanitize(), pgx.Identifier{role}.Sanitize())
	case !creates:
		return fmt.Errorf("role %q may not make tables in schema tidings, so it cannot make the inbox's partitions: GRANT CREATE ON SCHEMA tidings TO %s",
			role, pgx.Identifier{owner}.Sanitize())
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
		delayed, err := u.round(ctx, db)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case delayed:
			pause = min(pause, retryAfter)
		}
		timer.Reset(pause)
	}
}

// round does once what is due; delayed: a partition is due that is still read.
func (u *Upkeep) round(ctx context.Context, db *sql.DB) (delayed bool, err error) {
	if err := schema.CheckPostgres(ctx, db); err != nil { // another release may have migrated since Check
		return false, err
	}
	ms := time.Duration.Milliseconds
	var made int
	err = db.QueryRowContext(ctx, `SELECT tidings.inbox_extend($1::bigint, $2::bigint, $3::bigint)`,
		ms(u.Retention), ms(u.PartitionEvery), ms(widthsAhead*u.PartitionEvery)).Scan(&made)
	if err != nil {
		return false, fmt.Errorf("make inbox partitions ahead: %w", err)
	}
	if made > 0 {
		u.Logger.DebugContext(ctx, "made inbox partitions", "count", made)
	}
	if delayed, err = u.drop(ctx, db); err != nil {
		return false, err
	}
	for {
		result, err := db.ExecContext(ctx, pruneQuery, int32(pruneBatch))
		if err != nil {
			return delayed, fmt.Errorf("prune inbox_other: %w", err)
		}
		if n, err := result.RowsAffected(); err != nil || n < pruneBatch {
			return delayed, err
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
		u.Logger = slog.Default()
	}
	return nil
}

// DefaultRetention is that of Kafka's topics.
const DefaultRetention = 7 * 24 * time.Hour
