package dispatch

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"github.com/tidings-bus/tidings/event"
)

// ErrNoUnit says that a context carries no unit of work that is running.
var ErrNoUnit = errors.New("no unit of work")

type unitKey struct{}

// unit is the events of one Do.
type unit struct {
	dispatcher *Dispatcher

	mu         sync.Mutex
	ended      bool
	events     []event.Event
	aggregates []collected
}

// collected is an aggregate and how many of its recorded events were dealt with.
type collected struct {
	aggregate event.Recording
	taken     int
	dropped   []span // what it recorded in nested work that failed
}

// span is some of the recorded events, the one at to not among them.
type span struct{ from, to int }

func (c *collected) drops(i int) bool {
	return slices.ContainsFunc(c.dropped, func(s span) bool { return s.from <= i && i < s.to })
}

// Raise adds an event to the unit of work that ctx belongs to: payload, a value
// of a registered type, happened to aggregate. It is for domain services and
// values; aggregates record theirs and are given to Collect. Correlation,
// causation and trace follow from ctx.
//
// The error wraps ErrNoUnit outside of Dispatcher.Do, or says what is wrong with
// the event; nothing was raised then.
func Raise(ctx context.Context, aggregate event.Aggregate, payload any) error {
	return RaiseEvent(ctx, event.Raised{Aggregate: aggregate, Payload: payload})
}

// RaiseEvent is Raise for an event with headers, a sequence or an ID of its own.
func RaiseEvent(ctx context.Context, raised event.Raised) error {
	u := unitOf(ctx)
	if u == nil {
		return fmt.Errorf("raise %T: %w in the context: call it inside Dispatcher.Do, with the context that the work was given", raised.Payload, ErrNoUnit)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ended {
		return fmt.Errorf("raise %T: %w is running: the one of this context has ended", raised.Payload, ErrNoUnit)
	}
	return u.raise(ctx, raised)
}

// Collect adds what aggregate has recorded to the unit of work that ctx belongs
// to, and what it will record until the work ends. Collecting it again
// gives later events their place in the order. The recorded events are cleared
// when all events of the work are published, and kept otherwise.
//
// The error wraps ErrNoUnit outside of Dispatcher.Do, or says which event is
// wrong: return it from the work.
func Collect(ctx context.Context, aggregate event.Recording) error {
	u := unitOf(ctx)
	if u == nil {
		return fmt.Errorf("collect from %T: %w in the context: call it inside Dispatcher.Do, with the context that the work was given", aggregate, ErrNoUnit)
	}
	if !reflect.TypeOf(aggregate).Comparable() {
		return fmt.Errorf("collect from %T: it is not comparable: pass a pointer to the aggregate", aggregate)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ended {
		return fmt.Errorf("collect from %T: %w is running: the one of this context has ended", aggregate, ErrNoUnit)
	}
	for i := range u.aggregates {
		if u.aggregates[i].aggregate == aggregate {
			return u.take(ctx, i)
		}
	}
	u.aggregates = append(u.aggregates, collected{aggregate: aggregate})
	return u.take(ctx, len(u.aggregates)-1)
}

func unitOf(ctx context.Context) *unit {
	u, _ := ctx.Value(unitKey{}).(*unit)
	return u
}

// raise makes the event now, so that the caller learns at once what is wrong
// with it. u.mu is held.
func (u *unit) raise(ctx context.Context, raised event.Raised) error {
	e, err := u.dispatcher.config.Catalog.Event(ctx, raised)
	if err != nil {
		return fmt.Errorf("raise for %s %q: %w", raised.Aggregate.Type, raised.Aggregate.ID, err)
	}
	u.events = append(u.events, e)
	return nil
}

// take raises what the i-th aggregate recorded since it was last taken from.
// u.mu is held.
func (u *unit) take(ctx context.Context, i int) error {
	c := &u.aggregates[i]
	recorded := c.aggregate.Recorded()
	for ; c.taken < len(recorded); c.taken++ {
		if c.drops(c.taken) {
			continue
		}
		if err := u.raise(ctx, recorded[c.taken]); err != nil {
			return err
		}
	}
	return nil
}

// nested runs work inside u: what it raised is dropped when it fails, and what
// the aggregates recorded that u had collected before.
func (u *unit) nested(ctx context.Context, work func(context.Context) error) error {
	u.mu.Lock()
	events, aggregates := len(u.events), slices.Clone(u.aggregates)
	recorded := make([]int, len(aggregates))
	for i := range aggregates {
		recorded[i] = len(aggregates[i].aggregate.Recorded())
	}
	u.mu.Unlock()
	succeeded := false
	defer func() {
		if succeeded {
			return
		}
		u.mu.Lock()
		defer u.mu.Unlock()
		u.events, u.aggregates = u.events[:events], aggregates
		for i := range aggregates {
			c := &aggregates[i]
			if now := len(c.aggregate.Recorded()); now > recorded[i] {
				c.dropped = append(slices.Clip(c.dropped), span{recorded[i], now})
			}
		}
	}()
	if err := work(ctx); err != nil {
		return err
	}
	succeeded = true
	return nil
}

// close takes what the aggregates recorded last and returns all events. After
// it nothing can be raised.
func (u *unit) close(ctx context.Context) ([]event.Event, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ended = true
	for i := range u.aggregates {
		if err := u.take(ctx, i); err != nil {
			return u.events, err
		}
	}
	return u.events, nil
}

func (u *unit) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ended = true
}

// clear clears the aggregates: their events are published.
func (u *unit) clear() {
	for _, c := range u.aggregates {
		c.aggregate.ClearRecorded()
	}
}
