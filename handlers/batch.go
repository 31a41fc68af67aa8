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

// Batched is a handler that takes many events in one transaction: made by Batch.
type Batched[Tx, T any] struct {
	name     string
	box      inbox.BatchInbox[Tx]
	fn       func(ctx context.Context, tx Tx, es []event.Of[T]) error
	settings Settings
	batch    BatchSettings
}

// Batch makes a handler of events whose payload is a T, with the promises of
// InTx for each of them: what fn writes through tx happens once per event, one
// batch at a time per key. The events of a key are in their order; a batch may
// have several of one key. fn writes for all of them or returns an error: then
// the batch is split until the failing event is alone, and that one takes the
// ordinary way, its key's later ones behind it. So fn runs again for the others,
// after a rollback.
//
// The context has no event as the cause of new ones: see event.WithCause. Its
// timeout, Settings.Timeout, is of the batch. A batch handler has a group of its
// own, for it shares the pace of nobody else. Mistakes in the arguments are
// reported by Bind, at start.
func Batch[Tx, T any](name string, box inbox.BatchInbox[Tx], fn func(ctx context.Context, tx Tx, es []event.Of[T]) error) Batched[Tx, T] {
	return Batched[Tx, T]{name: name, box: box, fn: fn}
}

// BatchSettings say how large batches are. The zero value is useful.
type BatchSettings struct {
	// Max is how many events a batch has at most. Zero: DefaultBatch.
	Max int
	// MaxBytes is how large their messages are together at most; a larger one
	// makes a batch of its own. Zero: DefaultBatchBytes.
	MaxBytes int64
	// Wait is how long a batch that is not full waits for more events. Zero: not
	// at all. What arrives while other batches commit makes the next one larger,
	// so that waiting serves only handlers for which small batches are dear.
	Wait time.Duration
}

// The bounds of batches.
const (
	DefaultBatch      = 500
	MaxBatch          = 10_000
	DefaultBatchBytes = 8 << 20
	MaxBatchWait      = time.Second
)

func (s BatchSettings) validate() error {
	switch {
	case s.Max < 0 || s.Max > MaxBatch:
		return fmt.Errorf("batch settings: Max is %d; use 1 to %d, or 0 for %d", s.Max, MaxBatch, DefaultBatch)
	case s.MaxBytes < 0:
		return fmt.Errorf("batch settings: MaxBytes is %d; use 1 or more, or 0 for %d", s.MaxBytes, DefaultBatchBytes)
	case s.Wait < 0 || s.Wait > MaxBatchWait:
		return fmt.Errorf("batch settings: Wait is %v; use %v at most, or 0 for no wait", s.Wait, MaxBatchWait)
	}
	return nil
}

func (s BatchSettings) withDefaults() BatchSettings {
	if s.Max == 0 {
		s.Max = DefaultBatch
	}
	if s.MaxBytes == 0 {
		s.MaxBytes = DefaultBatchBytes
	}
	return s
}

// With returns the handler with other settings.
func (h Batched[Tx, T]) With(s Settings) Batched[Tx, T] {
	h.settings = s
	return h
}

// Of returns the handler with batches of another size.
func (h Batched[Tx, T]) Of(s BatchSettings) Batched[Tx, T] {
	h.batch = s
	return h
}

// Name returns the handler's name.
func (h Batched[Tx, T]) Name() string { return h.name }

// Batches implements Batcher.
func (h Batched[Tx, T]) Batches() {}

// Batcher is a handler that needs a group of its own: one made by Batch.
type Batcher interface {
	Handler
	Batches()
}

// Bind implements Handler.
func (h Batched[Tx, T]) Bind(ctx context.Context, b Binding) (Bound, error) {
	base, err := bind[T](h.name, h.fn == nil, h.settings, b)
	if err != nil {
		return nil, err
	}
	if err := h.batch.validate(); err != nil {
		return nil, fmt.Errorf("bind handler %q: %w", h.name, err)
	}
	if isNil(h.box) {
		return nil, fmt.Errorf("bind handler %q: Batch got no inbox; make one with pgxinbox.New or sqlinbox.New", h.name)
	}
	if err := base.check(ctx, h.box); err != nil {
		return nil, err
	}
	return &boundBatch[Tx, T]{bound: base, box: h.box, fn: h.fn, batch: h.batch.withDefaults()}, nil
}

// BatchBound is a Bound that takes many events at once.
type BatchBound interface {
	Bound
	// Batch says how many, with defaults filled in.
	Batch() BatchSettings
	// HandleBatch applies events in one transaction, all or none, as
	// inbox.BatchInbox does; see there for its answers. The calls are in the order
	// of each key, and none is a retry of a parked event. Errors and panics are as
	// Handle's, for the batch. The first call's Begun is told.
	HandleBatch(ctx context.Context, cs []Call) ([]inbox.Answer, error)
}

type boundBatch[Tx, T any] struct {
	bound

	box   inbox.BatchInbox[Tx]
	fn    func(ctx context.Context, tx Tx, es []event.Of[T]) error
	batch BatchSettings
}

// Batch implements BatchBound.
func (h *boundBatch[Tx, T]) Batch() BatchSettings { return h.batch }

// HandleBatch implements BatchBound.
func (h *boundBatch[Tx, T]) HandleBatch(ctx context.Context, cs []Call) ([]inbox.Answer, error) {
	if len(cs) == 0 {
		return nil, errors.New("handle a batch: it has no events")
	}
	as := make([]inbox.Admission, len(cs))
	es := make([]event.Of[T], len(cs))
	for i := range cs {
		var err error
		if es[i], err = typed[T](h.name, &cs[i]); err != nil {
			return nil, err
		}
		as[i] = h.admission(&cs[i])
	}
	answers, err := h.box.ApplyBatch(ctx, as, func(ctx context.Context, tx Tx, fresh []int) error {
		chosen := es
		if len(fresh) < len(es) {
			chosen = make([]event.Of[T], 0, len(fresh))
			for _, i := range fresh {
				chosen = append(chosen, es[i])
			}
		}
		return h.call(ctx, tx, &cs[0], chosen)
	})
	for i := 0; i < len(answers) && err == nil; i++ {
		if answers[i] == inbox.Parked {
			err = h.parkedIn(h.box)
		}
	}
	return answers, err
}

// Handle implements Bound: a batch of one.
func (h *boundBatch[Tx, T]) Handle(ctx context.Context, c Call) (inbox.Answer, error) {
	e, err := typed[T](h.name, &c)
	if err != nil {
		return 0, err
	}
	answer, err := h.box.Apply(ctx, h.admission(&c), func(ctx context.Context, tx Tx) error {
		return h.call(ctx, tx, &c, []event.Of[T]{e})
	})
	if err == nil && answer == inbox.Parked {
		err = h.parkedIn(h.box)
	}
	return answer, err
}

func (h *boundBatch[Tx, T]) call(ctx context.Context, tx Tx, c *Call, es []event.Of[T]) error {
	a := batchAttempt{h.attempt(ctx, c)}
	defer a.Cancel()
	return h.fn(a, tx, es) //nolint:contextcheck // a is derived from ctx
}

// batchAttempt is an attempt at many events: none of them is the cause of new
// ones, and no error before it was of all of them.
type batchAttempt struct{ *attempt }

// Value implements context.Context.
func (a batchAttempt) Value(key any) any {
	if key == (attemptKey{}) {
		return a.attempt
	}
	return a.Context.Value(key)
}

// Skip implements Bound.
func (h *boundBatch[Tx, T]) Skip(ctx context.Context, c Call) (inbox.Answer, error) {
	return h.box.Apply(ctx, h.admission(&c), func(context.Context, Tx) error { return nil })
}

// Inbox implements Bound.
func (h *boundBatch[Tx, T]) Inbox() inbox.Keeper { return h.box }

// Park implements Bound.
func (h *boundBatch[Tx, T]) Park(ctx context.Context, c Call, f inbox.Failure) (inbox.Answer, error) {
	return h.park(ctx, h.box, &c, f)
}

// Letters implements Bound.
func (h *boundBatch[Tx, T]) Letters() deadletter.Store { return letters(h.box) }
