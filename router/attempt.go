package router

import (
	"context"
	"log/slog"
	"runtime"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/internal/scope"
)

// attempt is one try of one handler at one event, and the context it runs in.
type attempt struct {
	scope.Context

	message *delivered
	handler *boundHandler
	number  int
	last    error              // what the one before ended with
	letter  *deadletter.Letter // nil: a message
	batch   int                // events that are tried together; message is the first
	started time.Time
	begun   atomic.Int64 // when the function began, after started; 0: not yet

	prev, next *attempt // in the router's workList
}

// Begin implements the handlers' Call.Begun.
func (a *attempt) Begin() { a.begun.Store(max(1, int64(time.Since(a.started)))) }

// working is how long the handler's function has run. What comes before it,
// such as waiting for the key, does not count.
func (a *attempt) working(now time.Time) time.Duration {
	begun := a.begun.Load()
	if begun == 0 {
		return 0
	}
	return now.Sub(a.started) - time.Duration(begun)
}

type attemptKey struct{}

// Value finds the attempt itself; the rest is the message's.
func (a *attempt) Value(key any) any {
	if _, ok := key.(attemptKey); ok {
		return a
	}
	return a.Context.Value(key)
}

// Logger returns the logger of the handler whose context this is: every line
// names the handler, the event, its place, correlation and trace. Elsewhere it
// is slog.Default().
func Logger(ctx context.Context) *slog.Logger {
	a, ok := ctx.Value(attemptKey{}).(*attempt)
	if !ok {
		return slog.Default()
	}
	return a.message.sub.router.log.With(a.attrs()...)
}

func (a *attempt) attrs() []any {
	if a.batch > 0 {
		return a.batchAttrs()
	}
	attrs := placeAttrs(a.message.place)
	if !a.message.event.IsZero() {
		attrs = append(attrs, eventAttrs(a.message.event)...)
	}
	attrs = append(attrs, slog.String("handler", a.handler.name), slog.Int("attempt", a.number))
	if a.letter != nil {
		attrs = append(attrs, slog.Int64("letter", a.letter.ID))
	}
	return attrs
}

// call is what the handler is given.
func (a *attempt) call(payload any) handlers.Call {
	m := a.message
	c := handlers.Call{
		Event: m.event, Payload: payload, Place: m.place,
		Message: inbox.Message{Record: m.record, Time: m.time},
		Attempt: a.number, LastError: a.last, Begun: a,
	}
	if a.letter != nil {
		c.Letter, c.LetterID = a.letter.ID, a.letter.EventID
	}
	return c
}

// run calls the handler. Canceled reports that its context ended from outside;
// the handler sees to its timeout itself.
func (a *attempt) run(payload any) (answer inbox.Answer, canceled bool, err error) {
	turn, err := a.turn()
	if err != nil {
		a.handler.tell(a, 0, true, err)
		return 0, true, err
	}
	a.begin()
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
		canceled = a.end()
		giveBack(turn, canceled, err)
		a.handler.met.handle.Observe(time.Since(a.started).Seconds())
		a.handler.tell(a, answer, canceled, err)
	}()
	answer, err = a.handler.Handle(a, a.call(payload))
	runtime.KeepAlive(a) // stackOf finds this goroutine by it
	return answer, false, err
}

// runBatch calls the handler with many events; otherwise it is as run.
func (a *attempt) runBatch(h handlers.BatchBound, calls []handlers.Call) (answers []inbox.Answer, canceled bool, err error) {
	turn, err := a.turn()
	if err != nil {
		return nil, true, err
	}
	calls[0].Begun = a
	a.begin()
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
		canceled = a.end()
		giveBack(turn, canceled, err)
		a.handler.met.handle.Observe(time.Since(a.started).Seconds())
		if err == nil { // a failure is told by the events that it is tried with alone
			a.handler.tell(a, applied(answers), false, nil)
		}
	}()
	answers, err = h.HandleBatch(a, calls)
	runtime.KeepAlive(a) // stackOf finds this goroutine by it
	if err == nil && len(answers) != len(calls) {
		err = errNoAnswer
	}
	return answers, false, err
}

// applied is Fresh when any of answers is.
func applied(answers []inbox.Answer) inbox.Answer {
	if slices.Contains(answers, inbox.Fresh) {
		return inbox.Fresh
	}
	return inbox.Duplicate
}

// batchAttrs says where a batch begins.
func (a *attempt) batchAttrs() []any {
	p := a.message.place
	return []any{
		slog.String("topic", p.Topic), slog.Int("partition", int(p.Partition)), slog.Int64("offset", p.Offset),
		slog.String("handler", a.handler.name), slog.Int("events", a.batch),
	}
}

// again returns an attempt for what follows this one: its context has ended.
func (a *attempt) again() *attempt {
	return &attempt{message: a.message, handler: a.handler, number: a.number, last: a.last, letter: a.letter}
}

// park parks the message for the handler, or books the failure of a retry.
func (a *attempt) park(f inbox.Failure) (answer inbox.Answer, canceled bool, err error) {
	a.begin()
	answer, err = a.handler.Park(a, a.call(nil), f)
	return answer, a.end(), err
}

// skip finishes the message for the handler, without an effect.
func (a *attempt) skip() (answer inbox.Answer, canceled bool, err error) {
	a.begin()
	answer, err = a.handler.Skip(a, a.call(nil))
	return answer, a.end(), err
}

// begin makes the attempt a context that a stop can end.
func (a *attempt) begin() {
	a.Init(a.message.ctx)
	a.started = time.Now()
	a.message.sub.router.work.add(a)
}

// end reports whether the context ended from outside.
func (a *attempt) end() (canceled bool) {
	canceled = a.Err() != nil
	a.Cancel()
	a.message.sub.router.work.remove(a)
	return canceled
}
