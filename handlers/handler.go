package handlers

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// Handler is a named function over one type of event, with the guarantee it was
// built for: see On and InTx. One value serves every delivery.
type Handler interface {
	// Name identifies the handler within its group; its inbox rows carry it,
	// so renaming it makes it a new handler.
	Name() string
	// Bind ties the handler to a group. Called once, by the router, at start:
	// it resolves the Go type in the catalog and checks the inbox.
	Bind(ctx context.Context, b Binding) (Bound, error)
}

// Binding is what a handler is bound to.
type Binding struct {
	Group   string
	Catalog *event.Catalog
	// Epoch tells fresh starts of a handler apart; zero is the first.
	Epoch int
}

// Policy is what a handler wants of its callers: from its Settings.
type Policy interface {
	// Timeout bounds one attempt; zero: none. Handle enforces it on the
	// handler's context; time spent waiting for the key's row is not counted.
	// The caller uses it to tell a handler that ignores its context.
	Timeout() time.Duration
	// Delay returns how long to wait after the attempt-th failed attempt (from
	// 1) before the next, with jitter, when the first one failed so long ago.
	// Spent reports that it was the last one.
	Delay(attempt int, failing time.Duration) (d time.Duration, spent bool)
	// Patience bounds the time from the first failed attempt to the last; zero:
	// none. Delay heeds it; it is told for delays that the handler asks for.
	Patience() time.Duration
	// Deadline is how long after its time an event may be handled; zero: none.
	// The caller enforces it: an attempt begins before it.
	Deadline() time.Duration
	// Concurrency bounds how many calls of Handle run at once in a process; its
	// Max and Min are filled in.
	Concurrency() Concurrency
}

// Bound is a handler in its group.
type Bound interface {
	Name() string
	// Type is the wire name of the events it takes.
	Type() string
	Policy
	// Handle applies one event. The payload is decoded by the caller, once for
	// all handlers of the type. It returns when the effect is committed.
	//
	// Errors that steer the caller are found by errors.As: *RetryAfterError and
	// *RejectError. One that wraps inbox.ErrNotAdmitted was no attempt: the
	// handler's function did not run. A panic of the function passes through,
	// after its transaction was rolled back.
	//
	// Parked says that the key has parked events and this one is written behind
	// them, durably: acknowledge it. One that wraps inbox.ErrFull could not be
	// written there, and was no attempt either.
	Handle(ctx context.Context, c Call) (inbox.Answer, error)
	// Inbox returns the inbox whose upkeep the handler needs, or nil.
	Inbox() inbox.Keeper
	// Skip finishes an event that is not for the handler, as Handle does but
	// without an effect: a parked message that could not be decoded may turn out
	// to be of another handler's type. Without an inbox it returns ErrNoParking.
	Skip(ctx context.Context, c Call) (inbox.Answer, error)
	// Park gives an event up: see inbox.Parker. Of a message that is no event, c
	// has the place and the message only. Without a place to park, it returns
	// ErrNoParking.
	Park(ctx context.Context, c Call, f inbox.Failure) (inbox.Answer, error)
	// Letters returns the store of what the handler parked, or nil.
	Letters() deadletter.Store
}

// ErrNoParking is returned by Park when the handler has no dead letters: the
// event is held.
var ErrNoParking = errors.New("handler has no dead letters")

// Call is one attempt at one event.
type Call struct {
	Event   event.Event
	Payload any // the catalog's Go type, by value
	Place   inbox.Place
	Message inbox.Message // as it was read
	Letter  int64         // above 0: a retry of that parked event; see inbox.Admission
	// LetterID is the event ID that the parked event was parked under: another
	// one than the event's when it could not be read then.
	LetterID uuid.UUID
	Attempt  int // from 1
	// LastError is what the attempt before this one ended with.
	LastError error
	// Begun, when set, is told when the handler's function begins: waiting for
	// the key's row and for the database comes before it.
	Begun interface{ Begin() }
}
