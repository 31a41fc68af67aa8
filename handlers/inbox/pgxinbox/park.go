package pgxinbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/deadletter/sqlstore"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/handlers/inbox/internal/postgres"
)

// Letters returns the store of what is parked in this database. It needs no
// closing: it opens nothing that outlasts a call.
func (b *Inbox) Letters() deadletter.Store {
	return sqlstore.PostgresBy(b.ID(), func() (*sql.DB, func()) {
		db := stdlib.OpenDBFromPool(b.pool)
		return db, func() { _ = db.Close() } // gives connections back; the pool stays open
	})
}

// Park implements inbox.Parker.
func (b *Inbox) Park(ctx context.Context, a inbox.Admission, f inbox.Failure) (inbox.Answer, error) {
	if err := postgres.CheckPark(&a, &f); err != nil {
		return 0, err
	}
	bounded := postgres.Bounded(&a)
	tx, _, err := b.begin(ctx, &bounded, nil)
	if err != nil {
		return 0, err
	}
	defer rollback(ctx, tx)
	if a.Letter > 0 {
		return b.fail(ctx, tx, &a, &f)
	}
	return b.park(ctx, tx, &a, &f)
}

// park parks a in tx, which holds the lock, and commits.
func (b *Inbox) park(ctx context.Context, tx pgx.Tx, a *inbox.Admission, f *inbox.Failure) (inbox.Answer, error) {
	id, err := b.register(ctx, a.Handler)
	if err != nil {
		return 0, notParked(a, err)
	}
	full, err := b.stores.Full(ctx, id, a, func() (postgres.Total, error) { return postgres.Totals(ctx, in(tx), id) })
	if err != nil {
		return 0, notParked(a, err)
	}
	answer, err := postgres.Park(ctx, in(tx), id, a, f, full == nil)
	switch {
	case err != nil:
		return 0, notParked(a, err)
	case answer == postgres.NoRoom:
		return 0, full
	case answer != postgres.Added:
		return answer, nil
	}
	if err := commit(ctx, tx); err != nil {
		return 0, fmt.Errorf("park event %s: %w", a.EventID, err)
	}
	b.stores.Added(id, a)
	return inbox.Parked, nil
}

// fail books a failed retry in tx, which holds the lock, and commits.
func (b *Inbox) fail(ctx context.Context, tx pgx.Tx, a *inbox.Admission, f *inbox.Failure) (inbox.Answer, error) {
	id, err := b.register(ctx, a.Handler)
	if err != nil {
		return 0, notParked(a, err)
	}
	answer, err := postgres.Fail(ctx, in(tx), id, a, f)
	if err != nil {
		return 0, notParked(a, err)
	}
	if answer != inbox.Gone {
		if err := commit(ctx, tx); err != nil {
			return 0, fmt.Errorf("book the failed retry of event %s: %w", a.EventID, err)
		}
	}
	return answer, nil
}

// retry is Apply of a parked event; a is bounded.
func (b *Inbox) retry(ctx context.Context, a *inbox.Admission, effect func(ctx context.Context, tx pgx.Tx) error) (inbox.Answer, error) {
	tx, answer, err := b.begin(ctx, a, turn(a))
	if err != nil {
		return 0, err
	}
	defer rollback(ctx, tx)
	if answer == inbox.Fresh {
		if answer, err = b.admitLetter(ctx, tx, a); err != nil {
			return 0, err
		}
	}
	switch answer {
	case inbox.Fresh:
		if err := run(ctx, tx, a, effect); err != nil {
			return 0, err
		}
		// Not before the effect: who claims and renews keys would wait for it.
		if err := leave(ctx, tx, a.Letter); err != nil {
			return 0, fmt.Errorf("apply event %s: %w", a.EventID, err)
		}
	case inbox.Duplicate: // its letter has left
	default:
		return answer, nil
	}
	if err := commit(ctx, tx); err != nil {
		return 0, fmt.Errorf("apply event %s: %w", a.EventID, err)
	}
	return answer, nil
}

// admitLetter admits a parked event whose turn it is, in tx, which holds the lock.
func (b *Inbox) admitLetter(ctx context.Context, tx pgx.Tx, a *inbox.Admission) (answer inbox.Answer, err error) {
	id, err := b.register(ctx, a.Handler)
	if err == nil {
		err = tx.QueryRow(ctx, postgres.Admit, postgres.AdmitArgs(id, a, postgres.Retry)...).Scan(&answer, nil)
	}
	if err != nil {
		return 0, notAdmitted(a, err)
	}
	if answer == inbox.Duplicate { // applied just now, under another key
		return b.turn(ctx, tx, a)
	}
	return answer, nil
}

func leave(ctx context.Context, tx pgx.Tx, letter int64) error {
	err := postgres.Leave(ctx, in(tx), letter)
	if errors.Is(err, pgx.ErrTxClosed) {
		return endedByHandler(err)
	}
	return err
}

// lookAtLetter is Look of a parked event; a is bounded.
func (b *Inbox) lookAtLetter(ctx context.Context, a *inbox.Admission) (answer inbox.Answer, err error) {
	id, err := b.register(ctx, a.Handler)
	if err == nil {
		err = b.pool.QueryRow(ctx, postgres.Turn, postgres.TurnArgs(id, a, false)...).Scan(&answer)
	}
	if err != nil {
		return 0, notAdmitted(a, err)
	}
	if answer != inbox.Duplicate {
		return answer, nil
	}
	tx, answer, err := b.begin(ctx, a, turn(a)) // its letter leaves, under the lock
	if err != nil {
		return 0, err
	}
	defer rollback(ctx, tx)
	if err := commit(ctx, tx); err != nil {
		return 0, fmt.Errorf("take event %s, which was applied, out of the dead letters: %w", a.EventID, err)
	}
	return answer, nil
}

// turn asks whether it is a letter's turn; one that was applied leaves.
func turn(a *inbox.Admission) question {
	return func(handler int32) (string, []any, func(pgx.Row, *inbox.Answer) error) {
		return postgres.Turn, postgres.TurnArgs(handler, a, true), func(row pgx.Row, answer *inbox.Answer) error { return row.Scan(answer) }
	}
}

func (b *Inbox) turn(ctx context.Context, tx pgx.Tx, a *inbox.Admission) (answer inbox.Answer, err error) {
	id, err := b.register(ctx, a.Handler)
	if err == nil {
		err = tx.QueryRow(ctx, postgres.Turn, postgres.TurnArgs(id, a, true)...).Scan(&answer)
	}
	if err != nil {
		return 0, notAdmitted(a, err)
	}
	return answer, nil
}

// in runs statements in tx.
func in(tx pgx.Tx) postgres.Query {
	return func(ctx context.Context, query string, args ...any) interface{ Scan(dest ...any) error } {
		return tx.QueryRow(ctx, query, args...)
	}
}

func notParked(a *inbox.Admission, err error) error {
	return postgres.NotParked(a, err, postgres.Hopeless(err))
}
