package delivery

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Context is the context of one attempt at a message: the values of its parent,
// its Delivery, and a cancellation of its own. A context.WithCancel and a
// WithValue would do the same; but every message needs one, and this is one
// allocation that shares no lock with the other messages.
type Context struct {
	parent   context.Context //nolint:containedctx // it is a context
	delivery *Delivery

	mu    sync.Mutex
	done  chan struct{} // made when somebody asks
	err   error
	after []*func() // see AfterFunc
}

var (
	closed                 = make(chan struct{})
	_      context.Context = (*Context)(nil)
)

func init() { close(closed) } //nolint:gochecknoinits // a closed channel to share

// Start returns the context of one attempt at d. It has the values of parent but
// not its cancellation: it ends by Cancel alone.
func Start(parent context.Context, d *Delivery) *Context {
	return &Context{parent: parent, delivery: d}
}

// Cancel ends the context. Again does nothing.
func (c *Context) Cancel() {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = context.Canceled
	if c.done == nil {
		c.done = closed
	} else {
		close(c.done)
	}
	after := c.after
	c.after = nil
	c.mu.Unlock()
	for _, f := range after {
		go (*f)()
	}
}

// Deadline implements context.Context: there is none.
func (c *Context) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done implements context.Context.
func (c *Context) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
	}
	return c.done
}

// Err implements context.Context.
func (c *Context) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Value implements context.Context. FromContext finds the Delivery by it.
func (c *Context) Value(key any) any {
	if key == (contextKey{}) {
		return c.delivery
	}
	return c.parent.Value(key)
}

// AfterFunc calls f in a goroutine of its own once c is cancelled, unless stop
// comes before; it is how package context derives from a context that is not its
// own without keeping a goroutine for it.
func (c *Context) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		go f()
		return func() bool { return false }
	}
	p := &f
	c.after = append(c.after, p)
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		i := slices.Index(c.after, p)
		if i < 0 {
			return false
		}
		c.after = slices.Delete(c.after, i, i+1)
		return true
	}
}
