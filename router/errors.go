package router

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

// ErrHandlerStuck is what a StuckError is.
var ErrHandlerStuck = errors.New("handler ignores its context")

// errUnfinished refuses a message: it comes again.
var errUnfinished = errors.New("message is not finished")

// StuckError is returned by Run when handlers did not return although their
// contexts were cancelled: they still run, each in a goroutine that ends when
// it returns. Nothing of their messages was acknowledged.
type StuckError struct {
	Handlers []Stuck
}

// Stuck is a handler that does not return, and what it works on.
type Stuck struct {
	Handler   string
	Topic     string
	Partition int32 // -1: unknown
	Offset    int64 // -1: unknown
	EventID   uuid.UUID
	EventType string
	Running   time.Duration
	// Stack is where the handler was when it was found out. It may be empty.
	Stack string
}

// Error names every handler and its event. Their stacks are in Handlers.
func (e *StuckError) Error() string {
	var b strings.Builder
	b.WriteString("router: ")
	for i, s := range e.Handlers {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "handler %q has been on %s %s (%s/%d@%d) for %v",
			s.Handler, s.EventType, s.EventID, s.Topic, s.Partition, s.Offset, s.Running.Round(time.Millisecond))
	}
	b.WriteString(": its context is cancelled and it does not return: pass the context on to whatever it waits for")
	return b.String()
}

// Is makes a StuckError an ErrHandlerStuck.
func (e *StuckError) Is(target error) bool { return target == ErrHandlerStuck }

// PanicError is a handler's panic, recovered: a try that failed.
type PanicError struct {
	Value any
	Stack []byte
}

// Error says what the handler panicked with; Stack says where.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap returns the value when the panic was with an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
