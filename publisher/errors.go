package publisher

import (
	"errors"
	"fmt"
	"strings"

	"github.com/tidings-bus/tidings/event"
)

// What can stand in a FailedEvent's Err, to be told with errors.Is. A context's
// own error is there too when the context ended the wait.
var (
	// ErrClosed says that the publisher was closed.
	ErrClosed = errors.New("publisher closed")
	// ErrHeldBack says that an earlier event of the same key failed, so that
	// this one was not sent ahead of it. Publish both again, the earlier first.
	ErrHeldBack = errors.New("held back, an earlier event of its key failed")
	// ErrTooLarge says that the broker does not take an event of this size.
	ErrTooLarge = errors.New("event too large")
	// ErrInvalid says that the event cannot be published by anyone: it has no
	// key or no valid topic.
	ErrInvalid = errors.New("event cannot be published")
	// ErrUnknownTopic says that the topic does not exist.
	ErrUnknownTopic = errors.New("unknown topic")
	// ErrPartitionsChanged says that the topic has not the partition count that
	// is recorded for it: its keys may have moved.
	ErrPartitionsChanged = errors.New("partition count changed")
	// ErrNotAuthorized says that the user may not do it.
	ErrNotAuthorized = errors.New("not authorized")
	// ErrCredentials says that a broker refused the user's credentials.
	ErrCredentials = errors.New("wrong credentials")
	// ErrUnreachable says that no broker could be reached.
	ErrUnreachable = errors.New("no broker reachable")
)

// PublishError says which events of a call were not acknowledged. Every event
// of the call that is not in Failed was acknowledged by all in-sync replicas.
type PublishError struct {
	// Failed holds the events that were not acknowledged, in the call's order.
	// Never empty.
	Failed []FailedEvent
	// Total is the number of events in the call.
	Total int
}

// FailedEvent is one event that was not acknowledged.
type FailedEvent struct {
	// Index is its place in the call, from 0.
	Index int
	// Event is the event; the zero Event for a raw watermill message.
	Event event.Event
	// Topic is where it was bound for.
	Topic string
	// Err says why.
	Err error
	// InDoubt says that the event may be in the log all the same: it was sent,
	// and no answer that rules it out has come. Publishing it again is safe
	// where consumers tell duplicates by ID, as the inbox does.
	InDoubt bool
}

// Error names the first failed event and its cause, and counts the rest.
func (e *PublishError) Error() string {
	first := e.Failed[0]
	var b strings.Builder
	fmt.Fprintf(&b, "publish: %d of %d not acknowledged", len(e.Failed), e.Total)
	doubt := 0
	for _, f := range e.Failed {
		if f.InDoubt {
			doubt++
		}
	}
	if doubt > 0 {
		fmt.Fprintf(&b, ", %d of them may be in the log", doubt)
	}
	b.WriteString(": ")
	if e.Total > 1 {
		b.WriteString("first ")
	}
	b.WriteString(first.name())
	fmt.Fprintf(&b, ": %v", first.Err)
	return b.String()
}

func (f FailedEvent) name() string {
	if f.Event.Type() == "" {
		return fmt.Sprintf("message %d for topic %q", f.Index, f.Topic)
	}
	return fmt.Sprintf("%s %s of %s %q", f.Event.Type(), f.Event.CloudEventID(), f.Event.Aggregate().Type, f.Event.Aggregate().ID)
}

// Unwrap returns the distinct causes, so that errors.Is and errors.As find any.
func (e *PublishError) Unwrap() []error {
	var errs []error
	seen := make(map[string]bool, 1)
	for _, f := range e.Failed {
		if text := f.Err.Error(); !seen[text] {
			seen[text] = true
			errs = append(errs, f.Err)
		}
	}
	return errs
}

// Events returns the failed events, in the call's order.
func (e *PublishError) Events() []event.Event {
	events := make([]event.Event, len(e.Failed))
	for i, f := range e.Failed {
		events[i] = f.Event
	}
	return events
}
