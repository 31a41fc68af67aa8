package handlers

import (
	"context"
	"time"

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
}

// Bound is a handler in its group.
type Bound interface {
	Name() string
	// Type is the wire name of the events it takes.
	Type() string
	// Timeout bounds one attempt; zero: none.
	Timeout() time.Duration
	// Handle applies one event. The payload is decoded by the caller, once for
	// all handlers of the type. It returns when the effect is committed.
	Handle(ctx context.Context, c Call) (inbox.Answer, error)
	// Inboxes returns the inbox whose upkeep the handler needs, or nil.
	Inbox() inbox.Keeper
}

// Call is one attempt at one event.
type Call struct {
	Event   event.Event
	Payload any // the catalog's Go type, by value
	Place   inbox.Place
	Attempt int // from 1
}
