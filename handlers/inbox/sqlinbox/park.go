package sqlinbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/handlers/inbox/internal/postgres"
)

// Letters returns the store of what is parked in this database.
func (b *Inbox) Letters() deadletter.Store { return b.dialect.letters() }

// Park implements inbox.Parker.
func (b *Inbox) Park(ctx context.Context, a inbox.Admission, f inbox.Failure) (inbox.Answer, error) {
	if err := postgres.CheckPark(&a, &f); err != nil {
		return 0, err
	}
	bounded := postgres.Bounded(&a)
	t, _, err := b.begin(ctx, &bounded, nil)
	if err != nil {
		return 0, err
	}
	defer t.end()
	if a.Letter > 0 {
		return b.fail(ctx, t, &a, &f)
	}
	return b.park(ctx, t, &a, &f)
}

// park parks a in t, which holds the lock, and commits.
func (b *Inbox) park(ctx context.Context, t *transaction, a *inbox.Admission, f *inbox.Failure) (inbox.Answer, error) {
	id, err := b.register(ctx, a.Handler)
	if err != nil {
		return 0, b.notParked(a, err)
	}
	full, err := b.stores.Full(ctx, id, a, func() (postgres.Total, error) { return b.dialect.totals(ctx, t.Tx, id) })
	if err != nil {
		return 0, b.notParked(a, err)
	}
	answer, err := b.dialect.park(ctx, t.Tx, id, a, f, full == nil)
	switch {
	case err != nil:
		return 0, b.notParked(a, err)
	case answer == postgres.NoRoom:
		return 0, full
	case answer != postgres.Added:
		return answer, nil
	}
	if err := b.commit(t); err != nil {
		return 0, fmt.Errorf("park event %s: %w", a.EventID, err)
	}
	b.stores.Added(id, a)
	return inbox.Parked, nil
}

// fail books a failed retry in t, which holds the lock, and commits.
func (b *Inbox) fail(ctx context.Context, t *transaction, a *inbox.Admission, f *inbox.Failure) (inbox.Answer, error) {
	id, err := b.register(ctx, a.Handler)
	if err != nil {
		return 0, b.notParked(a, err)
	}
	answer, err := b.dialect.fail(ctx, t.Tx, id, a, f)
	if err != nil {
		return 0, b.notParked(a, err)
	}
	if answer != inbox.Gone {
		if err := b.commit(t); err != nil {
			return 0, fmt.Errorf("book the failed retry of event %s: %w", a.EventID, err)
		}
	}
	return answer, nil
}

// retry is Apply of a parked event; a is bounded.
func (b *Inbox) retry(ctx context.Context, a *inbox.Admission, effect func(ctx context.Context, tx *sql.Tx) error) (inbox.Answer, error) {
	t, answer, err := b.begin(ctx, a, func(tx querier, id int32) (inbox.Answer, error) {
		answer, err := b.dialect.turn(ctx, tx, id, a, true)
		if err == nil && answer == inbox.Fresh {
			answer, err = b.dialect.admit(ctx, tx, id, a, postgres.Retry)
			if err == nil && answer == inbox.Duplicate { // just now, under another key
				answer, err = b.dialect.turn(ctx, tx, id, a, true)
			}
		}
		return answer, err
	})
	if err != nil {
		return 0, err
	}
	defer t.end()
	switch answer {
	case inbox.Fresh:
		if err := run(ctx, t, a, effect); err != nil {
			return 0, err
		}
		// Not before the effect: who claims and renews keys would wait for it.
		if err := b.dialect.leave(ctx, t.Tx, a.Letter); err != nil {
			if errors.Is(err, sql.ErrTxDone) {
				err = endedByHandler(err)
			}
			return 0, fmt.Errorf("apply event %s: %w", a.EventID, err)
		}
	case inbox.Duplicate: // its letter has left
	default:
		return answer, nil
	}
	if err := b.commit(t); err != nil {
		return 0, fmt.Errorf("apply event %s: %w", a.EventID, err)
	}
	return answer, nil
}

// lookAtLetter is Look of a parked event; a is bounded.
func (b *Inbox) lookAtLetter(ctx context.Context, a *inbox.Admission) (answer inbox.Answer, err error) {
	err = b.patiently(ctx, a, func(id int32) (err error) {
		answer, err = b.dialect.turn(ctx, b.db, id, a, false)
		return err
	})
	if err != nil || answer != inbox.Duplicate {
		return answer, err
	}
	t, answer, err := b.begin(ctx, a, func(tx querier, id int32) (inbox.Answer, error) {
		return b.dialect.turn(ctx, tx, id, a, true) // its letter leaves, under the lock
	})
	if err != nil {
		return 0, err
	}
	defer t.end()
	if err := b.commit(t); err != nil {
		return 0, fmt.Errorf("take event %s, which was applied, out of the dead letters: %w", a.EventID, err)
	}
	return answer, nil
}

func (b *Inbox) notParked(a *inbox.Admission, err error) error {
	return postgres.NotParked(a, err, b.dialect.hopeless(err))
}
