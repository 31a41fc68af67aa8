package event

import (
	"context"
	"errors"
)

// ErrUnknownType is wrapped by Catalog.Decode's error for a type that nobody registered.
var ErrUnknownType = errors.New("unknown event type")

// Catalog maps Go types to wire names and versions.
type Catalog struct{}

// Decode returns e's payload as the Go type registered for it.
func (c *Catalog) Decode(e Event) (any, error) { return nil, ErrUnknownType }

type causeKey struct{}

// WithCause returns a context in which new events follow from e.
func WithCause(ctx context.Context, e Event) context.Context {
	return context.WithValue(ctx, causeKey{}, e)
}

// Of is an event with its payload decoded.
type Of[T any] struct {
	Event
	Payload T
}
