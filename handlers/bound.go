package handlers

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// maxName bounds handler and group names: they are columns of an index.
const maxName = 200

// bound is what every kind of bound handler has.
type bound struct {
	name     string
	typ      string
	owner    inbox.Handler
	settings Settings
}

func (h *bound) Name() string           { return h.name }
func (h *bound) Type() string           { return h.typ }
func (h *bound) Timeout() time.Duration { return h.settings.timeout() }

func (h *bound) Patience() time.Duration { return h.settings.Patience }
func (h *bound) Deadline() time.Duration { return h.settings.Deadline }

func (h *bound) Concurrency() Concurrency { return h.settings.Concurrency.withDefaults() }

func (h *bound) Delay(attempt int, failing time.Duration) (d time.Duration, spent bool) {
	return h.settings.delay(attempt, failing)
}

// bind checks what all handlers have in common and resolves T.
func bind[T any](name string, noFunc bool, s Settings, b Binding) (bound, error) {
	if err := checkName("handler name", name); err != nil {
		return bound{}, fmt.Errorf("bind handler %q: %w", name, err)
	}
	if err := checkName("group", b.Group); err != nil {
		return bound{}, fmt.Errorf("bind handler %q: %w", name, err)
	}
	if noFunc {
		return bound{}, fmt.Errorf("bind handler %q: its function is nil", name)
	}
	if b.Epoch < 0 {
		return bound{}, fmt.Errorf("bind handler %q: epoch %d is negative; the first is 0", name, b.Epoch)
	}
	if err := s.validate(); err != nil {
		return bound{}, fmt.Errorf("bind handler %q: %w", name, err)
	}
	if b.Catalog == nil {
		return bound{}, fmt.Errorf("bind handler %q: no catalog; give the router the event.Catalog that %s is registered in", name, goType[T]())
	}
	typ, err := event.TypeName[T](b.Catalog)
	if err != nil {
		return bound{}, fmt.Errorf("bind handler %q: it takes %[2]s, which is not in the catalog; register it: event.Register[%[2]s](catalog, name, version): %[3]w", name, goType[T](), err)
	}
	return bound{
		name:     name,
		typ:      typ,
		owner:    inbox.Handler{Group: b.Group, Name: name, Epoch: b.Epoch},
		settings: s,
	}, nil
}

func (h *bound) admission(c *Call) inbox.Admission {
	agg := c.Event.Aggregate()
	a := inbox.Admission{
		Handler:       h.owner,
		Place:         c.Place,
		Attempt:       c.Attempt,
		EventID:       c.Event.ID(),
		Source:        c.Event.Source(),
		AggregateType: agg.Type,
		AggregateID:   agg.ID,
		Sequence:      c.Event.Sequence(),
		Type:          c.Event.Type(),
		Message:       &c.Message,
		Letter:        c.Letter,
		Bounds:        h.settings.Bounds,
	}
	switch {
	case c.Letter > 0:
		a.EventID = c.LetterID
	case c.Event.IsZero() && c.Place.Offset < 0:
		a.EventID = inbox.RecordID(c.Place.Topic, c.Message.Record)
	case c.Event.IsZero():
		a.EventID = inbox.MessageID(c.Place.Topic, c.Place.Partition, c.Place.Offset)
	}
	return a
}

// check checks the handler's inbox, and makes the handler known in it.
func (h *bound) check(ctx context.Context, box inbox.Keeper) error {
	if err := box.Check(ctx); err != nil {
		return fmt.Errorf("bind handler %q: check its inbox: %w", h.name, err)
	}
	r, ok := box.(interface {
		Register(ctx context.Context, h inbox.Handler) error
	})
	if !ok {
		return nil
	}
	if err := r.Register(ctx, h.owner); err != nil {
		return fmt.Errorf("bind handler %q: make it known in its inbox: %w", h.name, err)
	}
	return nil
}

// park is Park of a handler whose inbox is box.
func (h *bound) park(ctx context.Context, box inbox.Keeper, c *Call, f inbox.Failure) (inbox.Answer, error) {
	p, ok := box.(inbox.Parker)
	if !ok {
		return 0, fmt.Errorf("handler %q: %w", h.name, ErrNoParking)
	}
	return p.Park(ctx, h.admission(c), f)
}

// parkedIn is nil when Parked, answered by box, says that the event was written
// behind those that are parked: only a Parker does that.
func (h *bound) parkedIn(box inbox.Keeper) error {
	if _, ok := box.(inbox.Parker); ok {
		return nil
	}
	return fmt.Errorf("handler %q: its key has parked events, but its inbox cannot put this one behind them: %w", h.name, ErrNoParking)
}

// letters is Letters of a handler whose inbox is box.
func letters(box inbox.Keeper) deadletter.Store {
	k, ok := box.(interface{ Letters() deadletter.Store })
	if !ok {
		return nil
	}
	return k.Letters()
}

// typed returns c's event with its payload as a T.
func typed[T any](name string, c *Call) (event.Of[T], error) {
	payload, ok := c.Payload.(T)
	if !ok {
		return event.Of[T]{}, fmt.Errorf("handler %q takes %s, but event %s of type %q was decoded as %T: the type is registered differently than when the handler was bound",
			name, goType[T](), c.Event.ID(), c.Event.Type(), c.Payload)
	}
	return event.Of[T]{Event: c.Event, Payload: payload}, nil
}

func checkName(what, name string) error {
	switch {
	case name == "":
		return errors.New(what + " is empty")
	case len(name) > maxName:
		return fmt.Errorf("%s is %d bytes long; the limit is %d", what, len(name), maxName)
	}
	if i := strings.IndexFunc(name, func(r rune) bool { return !nameRune(r) }); i >= 0 {
		return fmt.Errorf("%s %q has a character at byte %d that is not a letter, a digit or one of - _ . : /", what, name, i)
	}
	return nil
}

func nameRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:", r)
}

func goType[T any]() string { return reflect.TypeFor[T]().String() }

// isNil reports a nil interface, or a nil pointer in one.
func isNil(v any) bool {
	if v == nil {
		return true
	}
	r := reflect.ValueOf(v)
	return r.Kind() == reflect.Pointer && r.IsNil()
}
