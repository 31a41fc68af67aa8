package sqlinbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/handlers/inbox/internal/postgres"
)

// longestPause bounds the time between two tries to get SQLite's write lock.
const longestPause = 50 * time.Millisecond

// Dialect is the kind of database.
type Dialect string

// The dialects.
const (
	PostgreSQL Dialect = "postgres"
	SQLite     Dialect = "sqlite"
)

// Config is what New needs; DB and Dialect have no default.
type Config struct {
	// DB is the handlers' own database. Each running handler uses one
	// connection.
	DB *sql.DB
	// Dialect says what DB is.
	Dialect Dialect
	// Retention is how long an event's ID is remembered after it was applied.
	// Zero: 7 days. Choose it no less than the topics' retention, or replays of
	// events without a sequence may be applied again.
	Retention time.Duration
	// PartitionEvery is the width of the inbox's partitions on PostgreSQL. Zero:
	// a seventh of Retention; at most a quarter of it.
	PartitionEvery time.Duration
	// AcceptPowerLoss allows settings with which a crash of the machine loses
	// effects whose events are acknowledged: synchronous below FULL on SQLite,
	// synchronous_commit = off on PostgreSQL.
	AcceptPowerLoss bool
	// Logger hears of the upkeep. Nil: slog.Default().
	Logger *slog.Logger
}

// Inbox is the inbox of one database. It is safe for concurrent use.
type Inbox struct {
	db       *sql.DB
	dialect  dialect
	handlers sync.Map // inbox.Handler -> int32
	stores   postgres.Stores
}

var (
	_ inbox.Inbox[*sql.Tx] = (*Inbox)(nil)
	_ inbox.Ledger         = (*Inbox)(nil)
	_ inbox.Parker         = (*Inbox)(nil)
)

// dialect is what differs between databases.
type dialect interface {
	admitter
	parker

	options() *sql.TxOptions
	register(ctx context.Context, h inbox.Handler) (int32, error)
	// busy reports an error of lock or commit that waiting would have mended.
	busy(err error) bool
	// hopeless reports an error of the admission that waiting does not mend.
	hopeless(err error) bool
	// refused reports an answer to COMMIT that says: not committed.
	refused(err error) bool
	check(ctx context.Context) error
	keep(ctx context.Context) error
}

// admitter is what does so of admissions.
type admitter interface {
	// lock takes the lock of the key in tx, before anything is read.
	lock(ctx context.Context, tx *sql.Tx, handler int32, a *inbox.Admission) error
	// admit answers, and writes what follows from it.
	admit(ctx context.Context, tx querier, handler int32, a *inbox.Admission, mode postgres.Mode) (inbox.Answer, error)
	// admitBatch locks the keys of as, answers, and writes what follows.
	admitBatch(ctx context.Context, tx *sql.Tx, handler int32, as []inbox.Admission, put behind) (admitted, error)
}

// parker is what does so of parked events.
type parker interface {
	// park parks a under the lock; postgres.NoRoom and postgres.Added are answers too.
	park(ctx context.Context, tx querier, handler int32, a *inbox.Admission, f *inbox.Failure, room bool) (inbox.Answer, error)
	// fail books a failed retry of a.Letter under the lock.
	fail(ctx context.Context, tx querier, handler int32, a *inbox.Admission, f *inbox.Failure) (inbox.Answer, error)
	// turn says whether it is a.Letter's turn. With take, under the lock, it
	// takes the letter out of an event that was applied.
	turn(ctx context.Context, tx querier, handler int32, a *inbox.Admission, take bool) (inbox.Answer, error)
	// leave takes a letter out under the lock.
	leave(ctx context.Context, tx querier, letter int64) error
	totals(ctx context.Context, tx querier, handler int32) (postgres.Total, error)
	letters() deadletter.Store
}

type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// New returns an inbox. It does not touch the database: see Check.
func New(c Config) (*Inbox, error) {
	if c.DB == nil {
		return nil, errors.New("sqlinbox: DB is nil; give the handlers' database")
	}
	upkeep := postgres.Upkeep{Retention: c.Retention, PartitionEvery: c.PartitionEvery, AcceptPowerLoss: c.AcceptPowerLoss, Logger: c.Logger}
	if err := upkeep.Validate(); err != nil {
		return nil, fmt.Errorf("sqlinbox: %w", err)
	}
	b := &Inbox{db: c.DB}
	switch c.Dialect {
	case PostgreSQL:
		b.dialect = &postgresDialect{db: c.DB, upkeep: upkeep}
	case SQLite:
		b.dialect = &sqliteDialect{db: c.DB, retention: upkeep.Retention, acceptPowerLoss: c.AcceptPowerLoss, logger: upkeep.Logger}
	default:
		return nil, fmt.Errorf("sqlinbox: Dialect is %q; use sqlinbox.PostgreSQL or sqlinbox.SQLite", c.Dialect)
	}
	return b, nil
}

// Apply implements inbox.Inbox.
func (b *Inbox) Apply(ctx context.Context, a inbox.Admission, effect func(ctx context.Context, tx *sql.Tx) error) (inbox.Answer, error) {
	bounded := postgres.Bounded(&a)
	if a.Letter > 0 {
		return b.retry(ctx, &bounded, effect)
	}
	t, answer, err := b.begin(ctx, &bounded, b.admit(ctx, &bounded, postgres.Apply))
	if err != nil {
		return 0, err
	}
	defer t.end() // after a panic or an error it rolls back
	switch {
	case answer == inbox.Parked && a.Message != nil && bounded.Place.Key != nil:
		return b.park(ctx, t, &a, &inbox.Failure{Cause: inbox.CauseBehind})
	case answer != inbox.Fresh:
		return answer, nil
	}
	if err := run(ctx, t, &a, effect); err != nil {
		return 0, err
	}
	if err := b.commit(t); err != nil {
		return 0, fmt.Errorf("apply event %s: %w", a.EventID, err)
	}
	return inbox.Fresh, nil
}

func run(ctx context.Context, t *transaction, a *inbox.Admission, effect func(ctx context.Context, tx *sql.Tx) error) error {
	if err := effect(ctx, t.Tx); err != nil {
		return err
	}
	if ctx.Err() != nil {
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
	var answer inbox.Answer
	err := b.patiently(ctx, &a, func(id int32) (err error) {
		answer, err = b.dialect.admit(ctx, b.db, id, &a, postgres.Look)
		return err
	})
	return answer, err
}

// Record implements inbox.Ledger.
func (b *Inbox) Record(ctx context.Context, a inbox.Admission) error {
	a = postgres.Bounded(&a)
	ask := b.admit(ctx, &a, postgres.Record)
	if a.Letter > 0 {
		ask = func(tx querier, id int32) (answer inbox.Answer, err error) {
			if _, err := b.dialect.admit(ctx, tx, id, &a, postgres.Retry); err != nil {
				return 0, err
			}
			// Now that it is known, whether by this call or before, its letter goes.
			return b.dialect.turn(ctx, tx, id, &a, true)
		}
	}
	t, _, err := b.begin(ctx, &a, ask)
	if err != nil {
		return err
	}
	defer t.end()
	if err := b.commit(t); err != nil {
		return fmt.Errorf("record event %s: %w", a.EventID, err)
	}
	return nil
}

// question is what a transaction asks after its lock.
type question func(tx querier, handler int32) (inbox.Answer, error)

// admit asks for an admission.
func (b *Inbox) admit(ctx context.Context, a *inbox.Admission, mode postgres.Mode) question {
	return func(tx querier, handler int32) (inbox.Answer, error) {
		return b.dialect.admit(ctx, tx, handler, a, mode)
	}
}

// begin begins a transaction, takes the lock and asks, if there is a question.
func (b *Inbox) begin(ctx context.Context, a *inbox.Admission, ask question) (t *transaction, answer inbox.Answer, err error) {
	err = b.patiently(ctx, a, func(id int32) (err error) {
		if t, err = begin(ctx, b.db, b.dialect.options()); err != nil {
			return err
		}
		if err = b.dialect.lock(ctx, t.Tx, id, a); err == nil && ask != nil {
			answer, err = ask(t.Tx, id)
		}
		if err != nil {
			t.end()
		}
		return err
	})
	return t, answer, err
}

// patiently calls try until it has the locks it needs or ctx ends: one that is
// held for longer than the database waits by itself is waited for all the same.
func (b *Inbox) patiently(ctx context.Context, a *inbox.Admission, try func(handler int32) error) error {
	pause := time.Millisecond
	for {
		id, err := b.register(ctx, a.Handler)
		if err == nil {
			err = try(id)
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return postgres.NotAdmitted(a, errors.Join(context.Cause(ctx), err), false)
		case !b.dialect.busy(err):
			return postgres.NotAdmitted(a, err, b.dialect.hopeless(err))
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		pause = min(2*pause, longestPause)
	}
}

func (b *Inbox) register(ctx context.Context, h inbox.Handler) (int32, error) {
	if id, ok := b.handlers.Load(h); ok {
		return id.(int32), nil //nolint:forcetypeassert // only register stores
	}
	id, err := b.dialect.register(ctx, h)
	if err == nil {
		b.handlers.Store(h, id)
	}
	return id, err
}

// Register makes a handler known before its first event: parked events may be
// handed to it. In a file that is locked just now its first event does that.
func (b *Inbox) Register(ctx context.Context, h inbox.Handler) error {
	_, err := b.register(ctx, h)
	if b.dialect.busy(err) {
		return nil
	}
	return err
}

// ID implements inbox.Keeper.
func (b *Inbox) ID() string { return fmt.Sprintf("sql.DB %p", b.db) }

// Check implements inbox.Keeper.
func (b *Inbox) Check(ctx context.Context) error { return b.dialect.check(ctx) }

// Keep implements inbox.Keeper.
func (b *Inbox) Keep(ctx context.Context) error { return b.dialect.keep(ctx) }

func (b *Inbox) commit(t *transaction) error {
	err := t.commit()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrTxDone):
		return endedByHandler(err)
	case b.dialect.refused(err):
		return fmt.Errorf("commit: %w", err)
	}
	return fmt.Errorf("%w: no answer to COMMIT: %w", inbox.ErrCommitUnknown, err)
}

func endedByHandler(err error) error {
	return fmt.Errorf("the handler ended the transaction itself; leave commit and rollback to the inbox: %w", err)
}
