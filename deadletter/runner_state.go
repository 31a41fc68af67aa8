package deadletter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tidings-bus/tidings/handlers/inbox"
)

// state is whether the store answers.
type state struct {
	mu    sync.Mutex
	err   error // why not
	since time.Time
}

// failed notes that a call of the store failed, unless it did not. That it is back
// is for the calls of poll to say, which come all the time: one kind of call that
// succeeds beside another that fails is no change.
func (r *Runner) failed(err error) {
	if err != nil {
		r.answered(err)
	}
}

// answered notes what a round of poll came to, and logs changes once.
func (r *Runner) answered(err error) {
	if errors.Is(err, context.Canceled) || errors.Is(err, ErrNotFound) || errors.Is(err, ErrBusy) {
		return // says nothing about the store
	}
	s := &r.store
	s.mu.Lock()
	was, since := s.err, s.since
	s.err = err
	if (was == nil) != (err == nil) {
		s.since = time.Now()
	}
	s.mu.Unlock()
	switch {
	case was == nil && err != nil:
		r.log.Error("the store of dead letters is away: nothing is retried", "cause", err)
	case was != nil && err == nil:
		r.log.Info("the store of dead letters is back", "away", time.Since(since).Round(time.Millisecond))
	}
}

// Status returns nil while the store answers, else why and since when nothing
// is retried. It does not ask: it tells of the last time.
func (r *Runner) Status(context.Context) error {
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	if r.store.err == nil {
		return nil
	}
	return fmt.Errorf("dead letters of group %q are not retried since %s: %w", r.config.Group, r.store.since.UTC().Format(time.RFC3339), r.store.err)
}

// Orphans lists the handlers of the group that have parked events and are not
// among the Runner's: removed or renamed ones. Nobody retries their events until
// they are handed to another handler (`tidings dlq reassign`).
func (r *Runner) Orphans(ctx context.Context) ([]inbox.Handler, error) {
	all, err := r.config.Store.Handlers(ctx, r.config.Group)
	if err != nil {
		return nil, fmt.Errorf("list the handlers of group %q that have parked events: %w", r.config.Group, err)
	}
	return slices.DeleteFunc(all, func(h inbox.Handler) bool { return r.config.Handlers[h.Name] != nil }), nil
}
