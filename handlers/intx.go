package handlers

import (
	"context"
	"fmt"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// Transactional is a handler whose effect and inbox row are one transaction:
// made by InTx.
type Transactional[Tx, T any] struct {
	name     string
	box      inbox.Inbox[Tx]
	fn       func(ctx context.Context, tx Tx, e event.Of[T]) error
	settings Settings
}

// InTx makes a handler of events whose payload is a T. What fn writes through
// tx happens once per event, and one event at a time per key, across all
// members of the group (I3, I4). fn must neither commit nor roll back. Mistakes
// in the arguments are reported by Bind, at start.
func InTx[Tx, T any](name string, box inbox.Inbox[Tx], fn func(ctx context.Context, tx Tx, e event.Of[T]) error) Transactional[Tx, T] {
	return Transactional[Tx, T]{name: name, box: box, fn: fn}
}

// With returns the handler with other settings.
func (h Transactional[Tx, T]) With(s Settings) Transactional[Tx, T] {
	h.settings = s
	return h
}

// Name returns the handler's name.
func (h Transactional[Tx, T]) Name() string { return h.name }

// Bind implements Handler.
func (h Transactional[Tx, T]) Bind(ctx context.Context, b Binding) (Bound, error) {
	base, err := bind[T](h.name, h.fn == nil, h.settings, b)
	if err != nil {
		return nil, err
	}
	if isNil(h.box) {
		return nil, fmt.Errorf("bind handler %q: InTx got no inbox; make one with pgxinbox.New or sqlinbox.New", h.name)
	}
	if err := base.check(ctx, h.box); err != nil {
		return nil, err
	}
	return &boundInTx[Tx, T]{bound: base, box: h.box, fn: h.fn}, nil
}

type boundInTx[Tx, T any] struct {
	bound

	box inbox.Inbox[Tx]
	fn  func(ctx context.Context, tx Tx, e event.Of[T]) error
}

// Handle implements Bound.
func (h *boundInTx[Tx, T]) Handle(ctx context.Context, c Call) (inbox.Answer, error) {
	e, err := typed[T](h.name, &c)
	if err != nil {
		return 0, err
	}
	answer, err := h.box.Apply(ctx, h.admission(&c), func(ctx context.Context, tx Tx) error {
		a := h.attempt(ctx, &c)
		defer a.Cancel()
		return h.fn(a, tx, e) //nolint:contextcheck // a is derived from ctx
	})
	if err == nil && answer == inbox.Parked {
		err = h.parkedIn(h.box)
	}
	return answer, err
}

// Skip implements Bound.
func (h *boundInTx[Tx, T]) Skip(ctx context.Context, c Call) (inbox.Answer, error) {
	return h.box.Apply(ctx, h.admission(&c), func(context.Context, Tx) error { return nil })
}

// Inbox implements Bound.
func (h *boundInTx[Tx, T]) Inbox() inbox.Keeper { return h.box }

// Park implements Bound.
func (h *boundInTx[Tx, T]) Park(ctx context.Context, c Call, f inbox.Failure) (inbox.Answer, error) {
	return h.park(ctx, h.box, &c, f)
}

// Letters implements Bound.
func (h *boundInTx[Tx, T]) Letters() deadletter.Store { return letters(h.box) }
