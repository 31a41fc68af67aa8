package delivery

import (
	"context"

	"github.com/tidings-bus/tidings/internal/scope"
)

// Context is the context of one attempt at a message: the values of its parent,
// its Delivery, and a cancellation of its own. A context.WithCancel and a
// WithValue would do the same; but every message needs one, and this is one
// allocation that shares no lock with the other messages.
type Context struct {
	scope.Context

	delivery *Delivery
}

// Start returns the context of one attempt at d. It has the values of parent but
// not its cancellation: it ends by Cancel alone.
func Start(parent context.Context, d *Delivery) *Context {
	c := &Context{delivery: d}
	c.InitDetached(parent)
	return c
}

// Delivery is what the attempt is at.
func (c *Context) Delivery() *Delivery { return c.delivery }

// Value implements context.Context. FromContext finds the Delivery by it.
func (c *Context) Value(key any) any {
	if key == (contextKey{}) {
		return c.delivery
	}
	return c.Context.Value(key)
}
