package pgxinbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/handlers/inbox/internal/postgres"
)

var _ inbox.BatchInbox[pgx.Tx] = (*Inbox)(nil)

// overtaken bounds how often a batch begins again when other members apply its
// events meanwhile.
const overtaken = 5

// ApplyBatch implements inbox.BatchInbox. BEGIN, the locks and what is known
// take one round trip, what is written before the effect another.
func (b *Inbox) ApplyBatch(ctx context.Context, as []inbox.Admission, effect func(ctx context.Context, tx pgx.Tx, fresh []int) error) ([]inbox.Answer, error) {
	if len(as) == 0 {
		return nil, nil
	}
	if err := postgres.CheckBatch(as); err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		batch := postgres.NewBatch(as)
		err := b.applyBatch(ctx, batch, as, effect)
		switch {
		case err == nil:
			return batch.Answers(), nil
		case !errors.Is(err, postgres.ErrOvertaken):
			return nil, err
		case try == overtaken:
			return nil, batch.NotAdmitted(err, false)
		}
	}
}

func (b *Inbox) applyBatch(ctx context.Context, batch *postgres.Batch, as []inbox.Admission, effect func(ctx context.Context, tx pgx.Tx, fresh []int) error) error {
	id, err := b.register(ctx, as[0].Handler)
	if err != nil {
		return batch.NotAdmitted(err, postgres.Hopeless(err))
	}
	var tx pgx.Tx
	defer func() {
		if tx != nil {
			rollback(ctx, tx) // after a panic or an error; after a commit it does nothing
		}
	}()
	err = batch.Admit(ctx, id, func(ctx context.Context, statements []postgres.Statement) error { return b.send(ctx, &tx, statements) },
		func(ctx context.Context, a *inbox.Admission) (inbox.Answer, error) { return b.behind(ctx, tx, id, a) })
	switch {
	case errors.Is(err, postgres.ErrOvertaken):
		return err
	case err != nil:
		return batch.NotAdmitted(err, postgres.Hopeless(err))
	case len(batch.Fresh())+len(batch.Added()) == 0:
		return nil
	}
	if fresh := batch.Fresh(); len(fresh) > 0 {
		if err := effect(ctx, tx, fresh); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("apply %d events: rolled back: %w", len(fresh), context.Cause(ctx))
		}
	}
	if err := commit(ctx, tx); err != nil {
		return fmt.Errorf("apply %d events: %w", len(as), err)
	}
	for _, i := range batch.Added() {
		b.stores.Added(id, &as[i])
	}
	return nil
}

// send runs statements in one round trip; the first call begins the transaction.
func (b *Inbox) send(ctx context.Context, tx *pgx.Tx, statements []postgres.Statement) error {
	var queue pgx.Batch
	if *tx == nil {
		// Each statement must see what was committed while it waited for the locks.
		queue.BeginTx(pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	}
	for _, s := range statements {
		queued := queue.Queue(s.Query, s.Args...)
		if s.Rows != nil {
			queued.Query(func(rows pgx.Rows) error { return s.Rows(rows) })
			continue
		}
		queued.Exec(func(tag pgconn.CommandTag) error { return s.Counted(tag.RowsAffected()) })
	}
	if *tx != nil {
		return (*tx).SendBatch(ctx, &queue).Close()
	}
	results := b.pool.SendBatch(ctx, &queue)
	*tx = results.Tx()
	return results.Close()
}

// behind puts a behind the parked events of its key, in tx, which holds the lock.
func (b *Inbox) behind(ctx context.Context, tx pgx.Tx, handler int32, a *inbox.Admission) (inbox.Answer, error) {
	full, err := b.stores.Full(ctx, handler, a, func() (postgres.Total, error) { return postgres.Totals(ctx, in(tx), handler) })
	if err != nil {
		return 0, err
	}
	answer, err := postgres.Park(ctx, in(tx), handler, a, &inbox.Failure{Cause: inbox.CauseBehind}, full == nil)
	if err == nil && answer == postgres.NoRoom {
		err = full
	}
	return answer, err
}
