package sqlinbox

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/handlers/inbox/internal/postgres"
	"github.com/tidings-bus/tidings/schema"
)

var (
	//go:embed sqlite/lock.sql
	sqliteLock string
	//go:embed sqlite/admit.sql
	sqliteAdmit string
	//go:embed sqlite/insert.sql
	sqliteInsert string
	//go:embed sqlite/key.sql
	sqliteKey string
	//go:embed sqlite/stream.sql
	sqliteStream string
	//go:embed sqlite/prune.sql
	sqlitePrune string
)

const (
	// pruneBatch is how many rows one delete takes: the write lock is held so long.
	pruneBatch = 500
	// pruneEvery bounds the time between two rounds of pruning.
	pruneEvery = time.Minute
	// pruneRetry bounds the pause after a round that found the file locked.
	pruneRetry = 5 * time.Second
)

type sqliteDialect struct {
	db              *sql.DB
	retention       time.Duration
	acceptPowerLoss bool
	logger          *slog.Logger
}

func (d *sqliteDialect) options() *sql.TxOptions { return nil }

func (d *sqliteDialect) register(ctx context.Context, h inbox.Handler) (id int32, err error) {
	const (
		find = `SELECT id FROM main.tidings_handler WHERE grp = ?1 AND name = ?2 AND epoch = ?3`
		add  = `INSERT INTO main.tidings_handler (grp, name, epoch, created_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING`
	)
	if err := d.recordRetention(ctx); err != nil {
		return 0, err
	}
	err = d.db.QueryRowContext(ctx, find, h.Group, h.Name, h.Epoch).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		if _, err = d.db.ExecContext(ctx, add, h.Group, h.Name, h.Epoch, time.Now().UnixMilli()); err == nil {
			err = d.db.QueryRowContext(ctx, find, h.Group, h.Name, h.Epoch).Scan(&id)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("register handler %q of group %q: %w", h.Name, h.Group, err)
	}
	return id, nil
}

// lock is the transaction's first statement and a write: SQLite then takes the
// write lock before the snapshot, as BEGIN IMMEDIATE would. A transaction that
// read first could not become a writer once another had written.
func (d *sqliteDialect) lock(ctx context.Context, tx *sql.Tx, _ int32, _ *inbox.Admission) error {
	_, err := tx.ExecContext(ctx, sqliteLock)
	return err
}

func (d *sqliteDialect) admit(ctx context.Context, tx querier, handler int32, a *inbox.Admission, mode postgres.Mode) (inbox.Answer, error) {
	var (
		p      = a.Place
		now    = time.Now().UnixMilli()
		answer inbox.Answer
		inRow  bool
		known  bool
		key    = blob(p.Key)
		idTime *int64
	)
	if t, ok := postgres.Time(a.EventID); ok {
		idTime = &t
	}
	err := tx.QueryRowContext(ctx, sqliteAdmit, handler, p.Topic, key, a.EventID[:], idTime, p.Partition, p.Offset,
		a.Source, a.AggregateType, a.AggregateID, a.Sequence, int32(mode), now).Scan(&answer, &inRow, &known)
	if err != nil || answer != inbox.Fresh || mode == postgres.Look {
		return answer, err
	}
	if _, err := tx.ExecContext(ctx, sqliteInsert, a.EventID[:], handler, p.Topic, p.Partition, p.Offset, a.Attempt, now); err != nil {
		return 0, err
	}
	if key == nil {
		return inbox.Fresh, nil
	}
	stream := []any{nil, nil, nil, nil}
	if a.Sequence > 0 && inRow {
		stream = []any{a.Source, a.AggregateType, a.AggregateID, a.Sequence}
	}
	args := append([]any{handler, p.Topic, key, p.Partition, p.Offset}, stream...)
	if _, err := tx.ExecContext(ctx, sqliteKey, append(args, now, known)...); err != nil {
		return 0, err
	}
	if a.Sequence > 0 && !inRow {
		_, err = tx.ExecContext(ctx, sqliteStream, handler, p.Topic, key, a.Source, a.AggregateType, a.AggregateID, a.Sequence)
	}
	return inbox.Fresh, err
}

// SQLite's primary result codes (https://sqlite.org/rescode.html).
const (
	codeError      = 1
	codeBusy       = 5
	codeLocked     = 6
	codeNoMemory   = 7
	codeInterrupt  = 9
	codeIO         = 10
	codeCorrupt    = 11
	codeTooBig     = 18
	codeConstraint = 19
	codeMismatch   = 20
	codeRange      = 25
)

func (d *sqliteDialect) busy(err error) bool {
	code := primary(err)
	return code == codeBusy || code == codeLocked
}

func (d *sqliteDialect) hopeless(err error) bool {
	switch primary(err) {
	case codeError, codeTooBig, codeConstraint, codeMismatch, codeRange:
		return true
	}
	return false
}

// refused: SQLite answers COMMIT in this process, so its answer is not lost. In
// doubt is only what failed while the file was written, or was cut short.
func (d *sqliteDialect) refused(err error) bool {
	switch primary(err) {
	case 0, codeNoMemory, codeInterrupt, codeIO, codeCorrupt:
		return false
	}
	return true
}

// primary returns the primary result code in err; 0: it has none.
func primary(err error) int {
	var coded interface{ Code() int }
	if !errors.As(err, &coded) {
		return 0
	}
	return coded.Code() & 0xff
}

func (d *sqliteDialect) check(ctx context.Context) error {
	conn, err := d.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	defer func() { _ = conn.Close() }()
	var elsewhere string
	err = conn.QueryRowContext(ctx, `SELECT schema FROM pragma_table_list WHERE name = 'tidings_inbox' ORDER BY schema <> 'main' LIMIT 1`).Scan(&elsewhere)
	if err == nil && elsewhere != "main" {
		return fmt.Errorf("the inbox is in another database than the handler's transactions: tidings_inbox is in the attached database %q, not in main; "+
			"effect and inbox row would not commit together: run `tidings migrate` on the main file, or open the other one as main", elsewhere)
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("look for the inbox: %w", err)
	}
	var letters bool
	err = conn.QueryRowContext(ctx, `SELECT count(*) = 2 FROM main.sqlite_master WHERE type = 'table' AND name IN ('tidings_dead_letter', 'tidings_parked_key')`).Scan(&letters)
	if err != nil {
		return fmt.Errorf("look for the dead letters: %w", err)
	}
	var journal string
	var synchronous int
	if err := conn.QueryRowContext(ctx, `PRAGMA main.journal_mode`).Scan(&journal); err != nil {
		return fmt.Errorf("read journal_mode: %w", err)
	}
	if err := conn.QueryRowContext(ctx, `PRAGMA main.synchronous`).Scan(&synchronous); err != nil {
		return fmt.Errorf("read synchronous: %w", err)
	}
	if err := conn.Close(); err != nil { // a pool of one has none left for the next check
		return fmt.Errorf("give the connection back: %w", err)
	}
	if err := schema.CheckSQLite(ctx, d.db); err != nil {
		return err
	}
	switch {
	case !letters:
		return fmt.Errorf("%w: it has no dead-letter tables beside its inbox: it was migrated by a build from before they were part of schema version %d; "+
			"drop the tables tidings_..., which forgets what was applied, and run `tidings migrate --sqlite ...`", schema.ErrNotMigrated, schema.Version)
	case journal == "memory":
		return nil // a database in memory
	case journal != "wal":
		return fmt.Errorf("journal_mode is %q, in which readers make commits fail; open the database with _pragma=journal_mode(WAL)", journal)
	case synchronous < 2 && !d.acceptPowerLoss:
		return fmt.Errorf("synchronous is %d (below FULL): a power cut would lose effects whose events are acknowledged; "+
			"open the database with _pragma=synchronous(FULL), or set AcceptPowerLoss", synchronous)
	}
	return nil
}

func (d *sqliteDialect) keep(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		pause := min(max(d.retention/28, time.Millisecond), pruneEvery)
		err := d.round(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case d.busy(err): // others work, which is no failure
			pause = min(pause, pruneRetry)
			d.logger.WarnContext(ctx, "inbox upkeep found the file locked and is tried again", "error", err, "in", pause)
		case err != nil:
			return err
		}
		timer.Reset(pause)
	}
}

// round does once what is due.
func (d *sqliteDialect) round(ctx context.Context) error {
	if err := schema.CheckSQLite(ctx, d.db); err != nil { // another release may have migrated since check
		return err
	}
	if err := d.recordRetention(ctx); err != nil {
		return err
	}
	for {
		result, err := d.db.ExecContext(ctx, sqlitePrune, time.Now().UnixMilli(), pruneBatch)
		if err != nil {
			return fmt.Errorf("prune the inbox: %w", err)
		}
		if n, err := result.RowsAffected(); err != nil || n < pruneBatch {
			return err
		}
	}
}

// recordRetention records ours where it is longer than what the database has:
// the upkeep may run for another inbox, with a shorter one.
func (d *sqliteDialect) recordRetention(ctx context.Context) error {
	const (
		find  = `SELECT retention_ms FROM main.tidings_inbox_cover`
		raise = `UPDATE main.tidings_inbox_cover SET retention_ms = ?1 WHERE retention_ms < ?1`
	)
	var ms int64
	err := d.db.QueryRowContext(ctx, find).Scan(&ms)
	if err == nil && ms < d.retention.Milliseconds() { // to write needs the lock
		_, err = d.db.ExecContext(ctx, raise, d.retention.Milliseconds())
	}
	if err != nil {
		return fmt.Errorf("record the inbox's retention: %w", err)
	}
	return nil
}
