package postgres

import (
	"context"
	"database/sql"
	_ "embed"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/internal/parking"
)

// The statements of an admission; each file says what its parameters are.
var (
	//go:embed lock_key.sql
	LockKey string
	//go:embed lock_event.sql
	LockEvent string
	//go:embed admit.sql
	Admit string
)

// Mode is the last parameter of Admit.
type Mode int32

// The modes.
const (
	Look Mode = iota
	Apply
	Record
	Retry // of a parked event whose turn it is
)

// LockArgs returns the statement that locks what a orders, with its arguments;
// a is Bounded.
func LockArgs(handler int32, a *inbox.Admission) (query string, args []any) {
	if len(a.Place.Key) > 0 {
		return LockKey, []any{handler, a.Place.Topic, a.Place.Key}
	}
	class, number := parking.EventLock(handler, a.EventID)
	return LockEvent, []any{class, number}
}

// AdmitArgs returns the arguments of Admit; a is Bounded.
func AdmitArgs(handler int32, a *inbox.Admission, mode Mode) []any {
	var ms *int64
	if t, ok := Time(a.EventID); ok {
		ms = &t
	}
	return []any{
		handler, a.Place.Topic, a.Place.Key, a.EventID.String(), ms, a.Place.Partition, a.Place.Offset, int32(a.Attempt), //nolint:gosec // counts tries
		a.Source, a.AggregateType, a.AggregateID, a.Sequence, int32(mode),
	}
}

// Time returns the milliseconds since 1970 in a UUIDv7 (RFC 9562, 5.7), and
// whether id is one.
func Time(id uuid.UUID) (int64, bool) {
	if id.Version() != 7 || id.Variant() != uuid.RFC4122 {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(id[:8]) >> 16), true
}

// Register returns the ID of a handler, making its row at first use. It records
// retention where that is longer than what the database has: the upkeep may
// run for another inbox, with a shorter one.
func Register(ctx context.Context, db *sql.DB, h inbox.Handler, retention time.Duration) (int32, error) {
	const (
		find = `SELECT coalesce((SELECT id FROM tidings.handler WHERE grp = $1 AND name = $2 AND epoch = $3), 0), retention_ms FROM tidings.inbox_cover`
		add  = `INSERT INTO tidings.handler (grp, name, epoch) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`
		keep = `UPDATE tidings.inbox_cover SET retention_ms = $1 WHERE retention_ms < $1`
	)
	var (
		id   int32
		kept int64
		ms   = retention.Milliseconds()
	)
	err := db.QueryRowContext(ctx, find, h.Group, h.Name, h.Epoch).Scan(&id, &kept)
	if err == nil && kept < ms {
		err = write(ctx, db, keep, ms)
	}
	if err == nil && id == 0 {
		// Another member may add it first: then this waits for it and adds none.
		if err = write(ctx, db, add, h.Group, h.Name, h.Epoch); err == nil {
			err = db.QueryRowContext(ctx, find, h.Group, h.Name, h.Epoch).Scan(&id, &kept)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("register handler %q of group %q: %w", h.Name, h.Group, err)
	}
	return id, nil
}

// write runs a statement that writes, whatever the default of transactions is.
func write(ctx context.Context, db *sql.DB, query string, args ...any) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing, after an error that counts
	if _, err := tx.ExecContext(ctx, `SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE`); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, query, args...); err != nil {
		return err
	}
	return tx.Commit()
}
