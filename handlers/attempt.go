package handlers

import (
	"context"
	"fmt"
	"sync"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/internal/scope"
)

type attemptKey struct{}

// Attempt returns which attempt at its event a handler's function is in, from
// 1; 0 outside of a handler. A member that took over a key counts anew; a retry
// of a parked event counts on.
func Attempt(ctx context.Context) int {
	a, ok := ctx.Value(attemptKey{}).(*attempt)
	if !ok {
		return 0
	}
	return a.number
}

// LastError returns what the attempt before this one ended with, also when that
// was RetryAfter. It is nil in the first, and outside of a handler. In the retry
// of a parked event it has the text of that error alone.
func LastError(ctx context.Context) error {
	a, ok := ctx.Value(attemptKey{}).(*attempt)
	if !ok {
		return nil
	}
	return a.last
}

// attempt is the context of one try of a handler's function. It ends with the
// handler's timeout and carries the event as the cause of new ones; neither
// costs anything before it is asked for.
type attempt struct {
	scope.Context

	handler *bound
	number  int
	last    error
	event   event.Event

	once   sync.Once
	caused context.Context //nolint:containedctx // it is a context
}

// attempt returns the context of one attempt at c, to be cancelled at its end.
func (h *bound) attempt(ctx context.Context, c *Call) *attempt {
	a := &attempt{handler: h, number: c.Attempt, last: c.LastError, event: c.Event}
	if d := h.settings.timeout(); d > 0 {
		a.InitTimeout(ctx, d, a)
	} else {
		a.Init(ctx)
	}
	if c.Begun != nil {
		c.Begun.Begin()
	}
	return a
}

// Late implements scope.Later.
func (a *attempt) Late() error {
	return fmt.Errorf("handler %q: attempt %d took longer than its timeout of %v: %w", a.handler.name, a.number, a.handler.settings.timeout(), context.DeadlineExceeded)
}

// Value implements context.Context.
func (a *attempt) Value(key any) any {
	if key == (attemptKey{}) {
		return a
	}
	a.once.Do(func() { a.caused = event.WithCause(&a.Context, a.event) })
	return a.caused.Value(key)
}
