package deadletter

import (
	"context"
	"errors"
	"fmt"
)

// openRequests is how many unfinished requests are looked at for edits.
const openRequests = 200

// edits carries out the group's requests to edit. Every member tries: the store
// settles a request in the transaction that edits, so one does it.
func (r *Runner) edits(ctx context.Context) error {
	open, err := r.config.Store.Requests(ctx, r.config.Group, true, openRequests)
	if err != nil {
		return fmt.Errorf("read the open requests: %w", err)
	}
	for i := len(open) - 1; i >= 0; i-- { // the oldest first
		if open[i].Kind != RequestEdit {
			continue
		}
		if err := r.edit(ctx, &open[i]); err != nil {
			return fmt.Errorf("carry out request %d to edit letter %d: %w", open[i].ID, open[i].Letter, err)
		}
	}
	return nil
}

// edit returns an error only when the store is away.
func (r *Runner) edit(ctx context.Context, q *Request) error {
	store := r.config.Store
	l, err := store.Letter(ctx, q.Letter)
	if errors.Is(err, ErrNotFound) {
		return r.refuse(ctx, q, fmt.Errorf("letter %d is not parked any more: %w", q.Letter, ErrNotFound))
	}
	if err != nil {
		return err
	}
	retrier, ok := r.config.Handlers[l.Handler.Name]
	if !ok {
		return nil // for a member that has the handler
	}
	to := Edited{Value: q.Value}
	if err := retrier.Check(l, to); err != nil {
		return r.refuse(ctx, q, err)
	}
	act := q.Act
	act.Request = q.ID
	switch err := store.Edit(ctx, q.Letter, to, act); {
	case err == nil:
		return nil
	case errors.Is(err, ErrBusy):
		return r.refuse(ctx, q, fmt.Errorf("letter %d: its key %w: ask again when that is over", q.Letter, ErrBusy))
	case errors.Is(err, ErrNotFound):
		// Either the letter has gone or another member was quicker.
		if now, err := store.Request(ctx, q.ID); err != nil || now.State != Open {
			return ignore(err, ErrNotFound)
		}
		return r.refuse(ctx, q, err)
	default:
		return err
	}
}

func (r *Runner) refuse(ctx context.Context, q *Request, why error) error {
	r.log.Info("refused to edit a parked event", "request", q.ID, "letter", q.Letter, "cause", why)
	return ignore(r.config.Store.Settle(ctx, q.ID, Refused, why.Error()), ErrNotFound)
}

func ignore(err, these error) error {
	if errors.Is(err, these) {
		return nil
	}
	return err
}
