package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidings-bus/tidings/event"
)

// Dispatcher runs units of work and publishes what they raised. It is safe for
// concurrent use.
type Dispatcher struct {
	config Config
}

// Config says what a Dispatcher works with.
type Config struct {
	// Catalog makes events of what is raised. Needed.
	Catalog *event.Catalog
	// Sink takes the events; a *publisher.Publisher is one. Needed.
	Sink Sink
	// PublishTimeout bounds the sink once the work has succeeded. The caller's
	// context does not: the work is done, and its events are due. 0: 30 s.
	PublishTimeout time.Duration
}

// Sink is where events go. It returns nil only when it has all of them. An error
// with a method Events() []event.Event says which it has not.
type Sink interface {
	Publish(ctx context.Context, events ...event.Event) error
}

// UnpublishedError says that the work was done and its events were not all
// published.
type UnpublishedError struct {
	// Events are those that the sink has not confirmed, in order; all of them
	// when the sink does not say which.
	Events []event.Event
	// Err is the sink's error.
	Err error
}

// Error says what is lost unless the caller acts.
func (e *UnpublishedError) Error() string {
	return fmt.Sprintf("the work is done, but %d of its events are not published: %v", len(e.Events), e.Err)
}

// Unwrap returns the sink's error.
func (e *UnpublishedError) Unwrap() error { return e.Err }

// New makes a Dispatcher. The error says what is missing in config.
func New(config Config) (*Dispatcher, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	if config.PublishTimeout == 0 {
		config.PublishTimeout = 30 * time.Second
	}
	return &Dispatcher{config: config}, nil
}

func (c Config) validate() error {
	var errs []error
	if c.Catalog == nil {
		errs = append(errs, errors.New("dispatch: Catalog is nil: set the catalog in which the event types are registered"))
	}
	if c.Sink == nil {
		errs = append(errs, errors.New("dispatch: Sink is nil: set what takes the events, such as a *publisher.Publisher"))
	}
	if c.PublishTimeout < 0 {
		errs = append(errs, fmt.Errorf("dispatch: PublishTimeout is %s: set a positive duration, or 0 for 30s", c.PublishTimeout))
	}
	return errors.Join(errs...)
}

// Do runs work with a context in which events can be raised, and publishes them
// when it returned nil. It returns work's own error as it is, or an
// *UnpublishedError when the work is done and its events are not published.
//
// Inside another Do of the same Dispatcher the events belong to the outer one:
// they are published when that has succeeded, unless this work failed. Then
// also those are dropped that an aggregate recorded in it which the outer work
// had collected before.
func (d *Dispatcher) Do(ctx context.Context, work func(context.Context) error) error {
	if outer := unitOf(ctx); outer != nil && outer.dispatcher == d {
		return outer.nested(ctx, work)
	}
	u := &unit{dispatcher: d}
	defer u.end() // also when work panics
	if err := work(context.WithValue(ctx, unitKey{}, u)); err != nil {
		return err
	}
	events, err := u.close(ctx)
	if err != nil {
		return &UnpublishedError{Events: events, Err: err}
	}
	if len(events) > 0 {
		if err := d.publish(ctx, events); err != nil {
			return err
		}
	}
	u.clear()
	return nil
}

func (d *Dispatcher) publish(ctx context.Context, events []event.Event) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.config.PublishTimeout)
	defer cancel()
	err := d.config.Sink.Publish(ctx, events...)
	if err == nil {
		return nil
	}
	var partial interface{ Events() []event.Event }
	if errors.As(err, &partial) {
		events = partial.Events()
	}
	return &UnpublishedError{Events: events, Err: err}
}
