package sqlinbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/handlers/inbox/internal/postgres"
)

var _ inbox.BatchInbox[*sql.Tx] = (*Inbox)(nil)

// overtaken bounds how often a batch begins again when other members apply its
// events meanwhile.
const overtaken = 5

// admitted is the admission of a batch.
type admitted interface {
	Answers() []inbox.Answer
	Fresh() []int // places of those to apply
	Added() []int // of those that were put behind parked ones
}

// ApplyBatch implements inbox.BatchInbox.
func (b *Inbox) ApplyBatch(ctx context.Context, as []inbox.Admission, effect func(ctx context.Context, tx *sql.Tx, fresh []int) error) ([]inbox.Answer, error) {
	if len(as) == 0 {
		return nil, nil
	}
	if err := postgres.CheckBatch(as); err != nil {
		return nil, err
	}
	t, id, batch, err := b.beginBatch(ctx, as)
	if err != nil {
		return nil, err
	}
	defer t.end() // after a panic or an error it rolls back
	fresh := batch.Fresh()
	if len(fresh)+len(batch.Added()) == 0 {
		return batch.Answers(), nil
	}
	if len(fresh) > 0 {
		if err := effect(ctx, t.Tx, fresh); err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("apply %d events: rolled back: %w", len(fresh), context.Cause(ctx))
		}
	}
	if err := b.commit(t); err != nil {
		return nil, fmt.Errorf("apply %d events: %w", len(as), err)
	}
	for _, i := range batch.Added() {
		b.stores.Added(id, &as[i])
	}
	return batch.Answers(), nil
}

// beginBatch begins a transaction and admits as in it.
func (b *Inbox) beginBatch(ctx context.Context, as []inbox.Admission) (*transaction, int32, admitted, error) {
	pause := time.Millisecond
	for tries := 0; ; {
		t, id, batch, err := b.tryBatch(ctx, as)
		switch {
		case err == nil:
			return t, id, batch, nil
		case errors.Is(err, inbox.ErrFull):
			return nil, 0, nil, err
		case ctx.Err() != nil:
			return nil, 0, nil, postgres.NotAdmittedBatch(as, errors.Join(context.Cause(ctx), err), false)
		case errors.Is(err, postgres.ErrOvertaken):
			if tries++; tries == overtaken {
				return nil, 0, nil, postgres.NotAdmittedBatch(as, err, false)
			}
			continue
		case !b.dialect.busy(err):
			return nil, 0, nil, postgres.NotAdmittedBatch(as, err, b.dialect.hopeless(err))
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

func (b *Inbox) tryBatch(ctx context.Context, as []inbox.Admission) (t *transaction, id int32, batch admitted, err error) {
	if id, err = b.register(ctx, as[0].Handler); err != nil {
		return nil, 0, nil, err
	}
	if t, err = begin(ctx, b.db, b.dialect.options()); err != nil {
		return nil, 0, nil, err
	}
	batch, err = b.dialect.admitBatch(ctx, t.Tx, id, as, func(ctx context.Context, tx querier, a *inbox.Admission) (inbox.Answer, error) {
		return b.behind(ctx, tx, id, a)
	})
	if err != nil {
		t.end()
		return nil, 0, nil, err
	}
	return t, id, batch, nil
}

// behind puts a behind the parked events of its key, in tx, which holds the lock.
func (b *Inbox) behind(ctx context.Context, tx querier, handler int32, a *inbox.Admission) (inbox.Answer, error) {
	full, err := b.stores.Full(ctx, handler, a, func() (postgres.Total, error) { return b.dialect.totals(ctx, tx, handler) })
	if err != nil {
		return 0, err
	}
	answer, err := b.dialect.park(ctx, tx, handler, a, &inbox.Failure{Cause: inbox.CauseBehind}, full == nil)
	if err == nil && answer == postgres.NoRoom {
		err = full
	}
	return answer, err
}

// behind is how a dialect has an event put behind the parked ones of its key.
type behind func(ctx context.Context, tx querier, a *inbox.Admission) (inbox.Answer, error)

func (d *postgresDialect) admitBatch(ctx context.Context, tx *sql.Tx, handler int32, as []inbox.Admission, put behind) (admitted, error) {
	batch := postgres.NewBatch(as)
	run := func(ctx context.Context, statements []postgres.Statement) error {
		for i := range statements {
			if err := runStatement(ctx, tx, &statements[i]); err != nil {
				return err
			}
		}
		return nil
	}
	return batch, batch.Admit(ctx, handler, run, func(ctx context.Context, a *inbox.Admission) (inbox.Answer, error) { return put(ctx, tx, a) })
}

func runStatement(ctx context.Context, tx *sql.Tx, s *postgres.Statement) error {
	args := postgres.Literals(s.Args)
	if s.Rows == nil {
		result, err := tx.ExecContext(ctx, s.Query, args...)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return err
		}
		return s.Counted(n)
	}
	rows, err := tx.QueryContext(ctx, s.Query, args...) //nolint:rowserrcheck // Rows does
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	return s.Rows(rows)
}

// sqliteBatch is the admission of a batch one event after the other: there is no
// round trip to save, and the file's lock is held anyway.
type sqliteBatch struct {
	answers []inbox.Answer
	fresh   []int
	added   []int
}

func (b *sqliteBatch) Answers() []inbox.Answer { return b.answers }
func (b *sqliteBatch) Fresh() []int            { return b.fresh }
func (b *sqliteBatch) Added() []int            { return b.added }

func (d *sqliteDialect) admitBatch(ctx context.Context, tx *sql.Tx, handler int32, as []inbox.Admission, put behind) (admitted, error) {
	if err := d.lock(ctx, tx, handler, &as[0]); err != nil {
		return nil, err
	}
	once := &prepared{tx: tx, statements: map[string]*sql.Stmt{}}
	defer once.close()
	b := &sqliteBatch{answers: make([]inbox.Answer, len(as))}
	late := map[[2]string]bool{}
	for i := range as {
		a := postgres.Bounded(&as[i])
		key := [2]string{a.Place.Topic, string(a.Place.Key)}
		if late[key] && a.Place.Key != nil {
			continue
		}
		answer, err := d.admit(ctx, once, handler, &a, postgres.Apply)
		if err == nil && answer == inbox.Parked && a.Message != nil && a.Place.Key != nil {
			answer, err = put(ctx, once, &as[i])
		}
		if err != nil {
			return nil, err
		}
		switch answer {
		case inbox.Fresh:
			b.fresh = append(b.fresh, i)
		case inbox.Late:
			late[key] = true
		case postgres.Added:
			b.added = append(b.added, i)
			answer = inbox.Parked
		case inbox.Duplicate, inbox.Parked, inbox.Gone, postgres.NoRoom:
		}
		b.answers[i] = answer
	}
	return b, nil
}

// prepared is a transaction that prepares each statement once.
type prepared struct {
	tx         *sql.Tx
	statements map[string]*sql.Stmt
}

func (p *prepared) statement(ctx context.Context, query string) (*sql.Stmt, error) {
	if s := p.statements[query]; s != nil {
		return s, nil
	}
	s, err := p.tx.PrepareContext(ctx, query)
	if err == nil {
		p.statements[query] = s
	}
	return s, err
}

// QueryRowContext implements querier.
func (p *prepared) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	s, err := p.statement(ctx, query) //nolint:sqlclosecheck // close does
	if err != nil {
		return p.tx.QueryRowContext(ctx, query, args...) // says the same
	}
	return s.QueryRowContext(ctx, args...)
}

// ExecContext implements querier.
func (p *prepared) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	s, err := p.statement(ctx, query) //nolint:sqlclosecheck // close does
	if err != nil {
		return nil, err
	}
	return s.ExecContext(ctx, args...)
}

func (p *prepared) close() {
	for _, s := range p.statements {
		_ = s.Close()
	}
}
