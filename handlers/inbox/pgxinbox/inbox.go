package pgxinbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/handlers/inbox/internal/postgres"
)

// endTimeout bounds COMMIT and ROLLBACK, which go on when the caller's context
// has ended.
const endTimeout = 10 * time.Second

// Config is what New needs; only Pool has no default.
type Config struct {
	// Pool is the handlers' own database. Each running handler uses one
	// connection.
	Pool *pgxpool.Pool
	// Retention is how long an event's ID is remembered after it was applied.
	// Zero: 7 days. Choose it no less than the topics' retention, or replays of
	// events without a sequence may be applied again.
	Retention time.Duration
	// PartitionEvery is the width of the inbox's partitions. Zero: a seventh of
	// Retention; at most a quarter of it.
	PartitionEvery time.Duration
	// AcceptPowerLoss allows synchronous_commit = off, with which a crash of the
	// database loses effects whose events are acknowledged.
	AcceptPowerLoss bool
	// Logger hears of the upkeep. Nil: slog.Default().
	Logger *slog.Logger
}

// Inbox is the inbox of one database. It is safe for concurrent use.
type Inbox struct {
	pool     *pgxpool.Pool
	upkeep   postgres.Upkeep
	handlers sync.Map // inbox.Handler -> int32
	stores   postgres.Stores
}

var (
	_ inbox.Inbox[pgx.Tx] = (*Inbox)(nil)
	_ inbox.Ledger        = (*Inbox)(nil)
	_ inbox.Parker        = (*Inbox)(nil)
)

// New returns an inbox. It does not touch the database: see Check.
func New(c Config) (*Inbox, error) {
	if c.Pool == nil {
		return nil, errors.New("pgxinbox: Pool is nil; give the pool of the handlers' database")
	}
	b := &Inbox{pool: c.Pool, upkeep: postgres.Upkeep{
		Retention: c.Retention, PartitionEvery: c.PartitionEvery, AcceptPowerLoss: c.AcceptPowerLoss, Logger: c.Logger,
	}}
	if err := b.upkeep.Validate(); err != nil {
		return nil, fmt.Errorf("pgxinbox: %w", err)
	}
	return b, nil
}

// Apply implements inbox.Inbox.
func (b *Inbox) Apply(ctx context.Context, a inbox.Admission, effect func(ctx context.Context, tx pgx.Tx) error) (inbox.Answer, error) {
	bounded := postgres.Bounded(&a)
	if a.Letter > 0 {
		return b.retry(ctx, &bounded, effect)
	}
	tx, answer, err := b.begin(ctx, &bounded, admit(&bounded, postgres.Apply))
	if err != nil {
		return 0, err
	}
	defer rollback(ctx, tx) // after a panic or an error; after a commit it does nothing
	switch {
	case answer == inbox.Parked && a.Message != nil && bounded.Place.Key != nil:
		return b.park(ctx, tx, &a, &inbox.Failure{Cause: inbox.CauseBehind})
	case answer != inbox.Fresh:
		return answer, nil
	}
	if err := run(ctx, tx, &a, effect); err != nil {
		return 0, err
	}
	if err := commit(ctx, tx); err != nil {
		return 0, fmt.Errorf("apply event %s: %w", a.EventID, err)
	}
	return inbox.Fresh, nil
}

func run(ctx context.Context, tx pgx.Tx, a *inbox.Admission, effect func(ctx context.Context, tx pgx.Tx) error) error {
	if err := effect(ctx, tx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("apply event %s: rolled back: %w", a.EventID, context.Cause(ctx))
	}
	return nil
}

// Look implements inbox.Ledger.
func (b *Inbox) Look(ctx context.Context, a inbox.Admission) (inbox.Answer, error) {
	a = postgres.Bounded(&a)
	if a.Letter > 0 {
		return b.lookAtLetter(ctx, &a)
	}
	id, err := b.register(ctx, a.Handler)
	if err != nil {
		return 0, notAdmitted(&a, err)
	}
	var answer inbox.Answer
	if err := b.pool.QueryRow(ctx, postgres.Admit, postgres.AdmitArgs(id, &a, postgres.Look)...).Scan(&answer, nil); err != nil {
		return 0, notAdmitted(&a, err)
	}
	return answer, nil
}

// Record implements inbox.Ledger.
func (b *Inbox) Record(ctx context.Context, a inbox.Admission) error {
	a = postgres.Bounded(&a)
	mode := postgres.Record
	if a.Letter > 0 {
		mode = postgres.Retry
	}
	tx, _, err := b.begin(ctx, &a, admit(&a, mode))
	if err != nil {
		return err
	}
	defer rollback(ctx, tx)
	if a.Letter > 0 {
		// Now that it is known, whether by this call or before, its letter goes.
		if _, err := b.turn(ctx, tx, &a); err != nil {
			return err
		}
	}
	if err := commit(ctx, tx); err != nil {
		return fmt.Errorf("record event %s: %w", a.EventID, err)
	}
	return nil
}

// question is the statement that a transaction asks after its lock.
type question func(handler int32) (query string, args []any, scan func(row pgx.Row, answer *inbox.Answer) error)

// admit asks for an admission.
func admit(a *inbox.Admission, mode postgres.Mode) question {
	return func(handler int32) (string, []any, func(pgx.Row, *inbox.Answer) error) {
		return postgres.Admit, postgres.AdmitArgs(handler, a, mode), func(row pgx.Row, answer *inbox.Answer) error { return row.Scan(answer, nil) }
	}
}

// begin sends BEGIN, the lock and the question, if there is one, in one round trip.
func (b *Inbox) begin(ctx context.Context, a *inbox.Admission, ask question) (pgx.Tx, inbox.Answer, error) {
	id, err := b.register(ctx, a.Handler)
	if err != nil {
		return nil, 0, notAdmitted(a, err)
	}
	var (
		batch  pgx.Batch
		answer inbox.Answer
	)
	// Each statement must see what was committed while it waited for the lock.
	batch.BeginTx(pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	lock, args := postgres.LockArgs(id, a)
	batch.Queue(lock, args...)
	if ask != nil {
		query, args, scan := ask(id)
		batch.Queue(query, args...).QueryRow(func(row pgx.Row) error { return scan(row, &answer) })
	}
	results := b.pool.SendBatch(ctx, &batch)
	tx := results.Tx()
	if err := results.Close(); err != nil {
		rollback(ctx, tx)
		return nil, 0, notAdmitted(a, err)
	}
	return tx, answer, nil
}

func (b *Inbox) register(ctx context.Context, h inbox.Handler) (int32, error) {
	if id, ok := b.handlers.Load(h); ok {
		return id.(int32), nil //nolint:forcetypeassert // only register stores
	}
	var id int32
	err := b.withDB(func(db *sql.DB) (err error) {
		id, err = postgres.Register(ctx, db, h, b.upkeep.Retention)
		return err
	})
	if err == nil {
		b.handlers.Store(h, id)
	}
	return id, err
}

// Register makes a handler known before its first event: parked events may be
// handed to it.
func (b *Inbox) Register(ctx context.Context, h inbox.Handler) error {
	_, err := b.register(ctx, h)
	return err
}

// ID implements inbox.Keeper.
func (b *Inbox) ID() string {
	c := b.pool.Config().ConnConfig
	return "postgres://" + net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))) + "/" + c.Database
}

// Check implements inbox.Keeper.
func (b *Inbox) Check(ctx context.Context) error {
	return b.withDB(func(db *sql.DB) error { return b.upkeep.Check(ctx, db) })
}

// Keep implements inbox.Keeper.
func (b *Inbox) Keep(ctx context.Context) error {
	return b.withDB(func(db *sql.DB) error { return b.upkeep.Keep(ctx, db) })
}

// withDB runs what both drivers share, on connections of the pool.
func (b *Inbox) withDB(f func(db *sql.DB) error) error {
	db := stdlib.OpenDBFromPool(b.pool)
	defer func() { _ = db.Close() }() // gives connections back; the pool stays open
	return f(db)
}

func commit(ctx context.Context, tx pgx.Tx) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if tx.Conn().IsClosed() {
		return errors.New("the connection was lost before COMMIT: rolled back")
	}
	err := tx.Commit(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgx.ErrTxCommitRollback):
		return fmt.Errorf("rolled back: a statement of the handler failed and its error was not returned: %w", err)
	case errors.Is(err, pgx.ErrTxClosed):
		return endedByHandler(err)
	case postgres.Refused(err):
		return fmt.Errorf("commit: %w", err)
	}
	// pgconn.SafeToRetry is of no use here: when the connection dies while the
	// answer is read, pgx v5.12 reports a closed connection, as if nothing had
	// been sent.
	return fmt.Errorf("%w: no answer to COMMIT: %w", inbox.ErrCommitUnknown, err)
}

func endedByHandler(err error) error {
	return fmt.Errorf("the handler ended the transaction itself; leave commit and rollback to the inbox: %w", err)
}

func rollback(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	_ = tx.Rollback(ctx) // on failure the connection is closed, and the server rolls back
}

func notAdmitted(a *inbox.Admission, err error) error {
	return postgres.NotAdmitted(a, err, postgres.Hopeless(err))
}
