package scope

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Context is the part of a context that ends; the values are those of the
// parent, unless what embeds it has more. Init comes before everything else.
// It must not be copied.
type Context struct {
	values   context.Context //nolint:containedctx // it is a context
	parent   context.Context //nolint:containedctx // it is a context
	deadline time.Time       // of its own; zero: none
	late     Later           // says the cause of its end at the deadline

	mu       sync.Mutex
	done     chan struct{} // made when somebody asks
	err      error
	cause    context.Context //nolint:containedctx // carries the cause for context.Cause, when it is another than err
	after    []*func()       // see AfterFunc
	watching bool            // the parent and the deadline end it; otherwise whoever asks sees to them
	timer    *time.Timer
	leave    func() bool // makes the parent forget it
}

var (
	closed                 = make(chan struct{})
	_      context.Context = (*Context)(nil)
)

func init() { close(closed) } //nolint:gochecknoinits // a closed channel to share

// Init makes c a context that ends with parent and has its values.
func (c *Context) Init(parent context.Context) { c.values, c.parent = parent, parent }

// Later says why a context ended at its deadline.
type Later interface{ Late() error }

// InitTimeout is Init with an end after d; late, asked at most once, says its cause.
func (c *Context) InitTimeout(parent context.Context, d time.Duration, late Later) {
	c.Init(parent)
	c.deadline, c.late = time.Now().Add(d), late
}

// InitDetached makes c a context with the values of another one that ends by
// Cancel alone.
func (c *Context) InitDetached(values context.Context) { c.values = values }

// Deadline implements context.Context.
func (c *Context) Deadline() (time.Time, bool) {
	if c.parent != nil {
		if d, ok := c.parent.Deadline(); ok && (c.deadline.IsZero() || d.Before(c.deadline)) {
			return d, true
		}
	}
	return c.deadline, !c.deadline.IsZero()
}

// Done implements context.Context.
func (c *Context) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		c.watch()
	}
	return c.done
}

// Err implements context.Context.
func (c *Context) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.look()
	return c.err
}

// Value implements context.Context.
func (c *Context) Value(key any) any {
	c.mu.Lock()
	cause := c.cause
	c.mu.Unlock()
	if cause != nil {
		if v := cause.Value(key); v != nil { // context.Cause looks for its own
			return v
		}
	}
	return c.values.Value(key)
}

// Cancel ends the context. Again does nothing.
func (c *Context) Cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end(context.Canceled)
}

// AfterFunc calls f in a goroutine of its own once c has ended, unless stop
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
	c.watch()
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

// watch makes the parent and the deadline end c from now on.
func (c *Context) watch() {
	if c.watching || c.err != nil {
		return
	}
	c.watching = true
	if c.parent != nil && c.parent.Done() != nil {
		c.leave = context.AfterFunc(c.parent, func() { _ = c.Err() })
	}
	if !c.deadline.IsZero() {
		c.timer = time.AfterFunc(time.Until(c.deadline), func() { _ = c.Err() })
	}
}

// look ends c when its parent has ended or its deadline has passed.
func (c *Context) look() {
	if c.err != nil {
		return
	}
	if c.parent != nil {
		if err := c.parent.Err(); err != nil {
			c.end(err)
			return
		}
	}
	if !c.deadline.IsZero() && !time.Now().Before(c.deadline) {
		why, cancel := context.WithCancelCause(context.Background())
		cancel(c.late.Late())
		c.cause = why
		c.end(context.DeadlineExceeded)
	}
}

// end ends it, once. The caller holds mu: locks are taken from the child to its
// parent, never the other way.
func (c *Context) end(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	if c.done == nil {
		c.done = closed
	} else {
		close(c.done)
	}
	for _, f := range c.after {
		go (*f)()
	}
	c.after = nil
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.leave != nil {
		c.leave()
	}
}
