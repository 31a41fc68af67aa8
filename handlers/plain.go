package handlers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// Plain is a handler without a transaction of ours: made by On.
type Plain[T any] struct {
	name     string
	fn       func(ctx context.Context, e event.Of[T]) error
	box      inbox.Ledger
	remember bool
	parks    bool
	settings Settings
}

// On makes a handler of events whose payload is a T, by at least once
// delivery: fn may see an event again, e.ID() is the idempotency key. Mistakes
// in the arguments are reported by Bind, at start.
func On[T any](name string, fn func(ctx context.Context, e event.Of[T]) error) Plain[T] {
	return Plain[T]{name: name, fn: fn}
}

// With returns the handler with other settings.
func (h Plain[T]) With(s Settings) Plain[T] {
	h.settings = s
	return h
}

// Remember returns the handler with an inbox: an event whose effect happened
// is recorded after it, and not handed out again. A crash between the two
// repeats the effect (I4, plain). It also keeps late events from being applied.
func (h Plain[T]) Remember(box inbox.Ledger) Plain[T] {
	h.box, h.remember = box, true
	return h
}

// Parking is a place for dead letters that is no inbox: see package kafkastore.
type Parking interface {
	inbox.Ledger
	inbox.Parker
}

// ParkIn returns the handler with a place to park events that it cannot apply,
// and what follows them under their keys, for groups without a database. What
// Remember promises beyond that, it does not: other applied events are not
// known. A handler with Remember parks beside its inbox and needs no ParkIn.
func (h Plain[T]) ParkIn(place Parking) Plain[T] {
	if h.remember {
		h.parks = true
		return h
	}
	h.box, h.parks = place, true
	return h
}

// Name returns the handler's name.
func (h Plain[T]) Name() string { return h.name }

// Bind implements Handler.
func (h Plain[T]) Bind(ctx context.Context, b Binding) (Bound, error) {
	base, err := bind[T](h.name, h.fn == nil, h.settings, b)
	if err != nil {
		return nil, err
	}
	bound := &boundPlain[T]{bound: base, fn: h.fn}
	switch {
	case h.remember && h.parks:
		return nil, fmt.Errorf("bind handler %q: it has both Remember and ParkIn; leave ParkIn out: it parks beside its inbox", h.name)
	case h.parks && isNil(h.box):
		return nil, fmt.Errorf("bind handler %q: ParkIn got no place; make one with kafkastore.New", h.name)
	case !h.remember && !h.parks:
		return bound, nil
	}
	if isNil(h.box) {
		return nil, fmt.Errorf("bind handler %q: Remember got no inbox; make one with pgxinbox.New or sqlinbox.New", h.name)
	}
	if err := base.check(ctx, h.box); err != nil {
		return nil, err
	}
	return &boundRemembering[T]{boundPlain: *bound, box: h.box}, nil
}

type boundPlain[T any] struct {
	bound

	fn func(ctx context.Context, e event.Of[T]) error
}

// Handle implements Bound.
func (h *boundPlain[T]) Handle(ctx context.Context, c Call) (inbox.Answer, error) {
	e, err := typed[T](h.name, &c)
	if err != nil {
		return 0, err
	}
	a := h.attempt(ctx, &c)
	defer a.Cancel()
	if err := h.fn(a, e); err != nil { //nolint:contextcheck // a is derived from ctx
		return 0, err
	}
	return inbox.Fresh, nil
}

// Skip implements Bound.
func (h *boundPlain[T]) Skip(context.Context, Call) (inbox.Answer, error) {
	return 0, fmt.Errorf("handler %q: %w", h.name, ErrNoParking)
}

// Inbox implements Bound.
func (h *boundPlain[T]) Inbox() inbox.Keeper { return nil }

// Park implements Bound.
func (h *boundPlain[T]) Park(ctx context.Context, c Call, f inbox.Failure) (inbox.Answer, error) {
	return h.park(ctx, nil, &c, f)
}

// Letters implements Bound.
func (h *boundPlain[T]) Letters() deadletter.Store { return nil }

type boundRemembering[T any] struct {
	boundPlain[T]

	box inbox.Ledger
}

// Handle implements Bound.
func (h *boundRemembering[T]) Handle(ctx context.Context, c Call) (inbox.Answer, error) {
	a := h.admission(&c)
	answer, err := h.look(ctx, a)
	if err != nil || answer != inbox.Fresh {
		return answer, err
	}
	if answer, err = h.boundPlain.Handle(ctx, c); err != nil {
		return answer, err
	}
	if err := h.record(ctx, a); err != nil {
		return 0, &UnrecordedError{Handler: h.name, Err: err}
	}
	return inbox.Fresh, nil
}

// recordGrace is how long the row of an effect that happened may take when the
// attempt has been cut off meanwhile.
const recordGrace = 3 * time.Second

// record writes the row of an effect that happened. It is tried once more without
// ctx when that has ended: otherwise whoever has the event next repeats the effect.
func (h *boundRemembering[T]) record(ctx context.Context, a inbox.Admission) error {
	err := h.box.Record(ctx, a)
	if err == nil || ctx.Err() == nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordGrace)
	defer cancel()
	return h.box.Record(ctx, a)
}

// look asks whether the event may be handed out. An event whose key has parked
// ones is put behind them.
func (h *boundRemembering[T]) look(ctx context.Context, a inbox.Admission) (inbox.Answer, error) {
	for {
		answer, err := h.box.Look(ctx, a)
		switch {
		case err != nil:
			return answer, err
		case answer != inbox.Parked:
			return answer, nil
		}
		p, ok := h.box.(inbox.Parker)
		if !ok {
			return answer, h.parkedIn(h.box)
		}
		answer, err = p.Park(ctx, a, inbox.Failure{Cause: inbox.CauseBehind})
		if err != nil || answer != inbox.Fresh { // Fresh: the key has been drained meanwhile
			return answer, err
		}
	}
}

// Skip implements Bound.
func (h *boundRemembering[T]) Skip(ctx context.Context, c Call) (inbox.Answer, error) {
	a := h.admission(&c)
	answer, err := h.look(ctx, a)
	if err != nil || answer != inbox.Fresh {
		return answer, err
	}
	return inbox.Fresh, h.box.Record(ctx, a)
}

// Inbox implements Bound.
func (h *boundRemembering[T]) Inbox() inbox.Keeper { return h.box }

// Park implements Bound.
func (h *boundRemembering[T]) Park(ctx context.Context, c Call, f inbox.Failure) (inbox.Answer, error) {
	return h.park(ctx, h.box, &c, f)
}

// Letters implements Bound.
func (h *boundRemembering[T]) Letters() deadletter.Store { return letters(h.box) }

// UnrecordedError says that the effect of a remembering plain handler happened
// and its inbox row could not be written: the next attempt repeats the effect.
type UnrecordedError struct {
	Handler string
	Err     error
}

func (e *UnrecordedError) Error() string {
	return fmt.Sprintf("handler %q did its work but could not record it, and will repeat it: %v", e.Handler, e.Err)
}

// Unwrap returns the database's error, without its claim that nothing ran.
func (e *UnrecordedError) Unwrap() error {
	if errors.Is(e.Err, inbox.ErrNotAdmitted) {
		return nil
	}
	return e.Err
}
