package router

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

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
	attrs := append(placeAttrs(a.message.place), eventAttrs(a.message.event)...)
	return append(attrs, slog.String("handler", a.handler.name), slog.Int("attempt", a.number))
}

// try runs handler i once and deals with what it says. It reports whether the
// handler has finished with the message.
func (m *delivered) try(rt *route, i int, h *boundHandler, payload any) bool {
	a := &attempt{message: m, handler: h, number: 1}
	if m.progress != nil {
		a.number += m.state(rt, i).tries
	}
	answer, canceled, err := a.run(payload)
	switch {
	case err == nil && answer == inbox.Fresh:
		h.met.applied.Inc()
		h.met.age.Observe(max(0, time.Since(m.event.Time()).Seconds()))
	case err == nil && answer == inbox.Duplicate:
		h.met.duplicate.Inc()
	case err != nil && canceled: // by a stop or with its partition: it did not fail
		m.stopped = true
		h.met.retries[causeCanceled].Inc()
		m.sub.router.log.Debug("handler was cancelled", append(a.attrs(), slog.Any("cause", err))...)
		return false
	default:
		m.failed(m.state(rt, i), a, answer, err)
		return false
	}
	if m.progress != nil && m.state(rt, i).held {
		m.release(h.name)
	}
	m.finish(rt, i)
	return true
}

// run calls the handler. Canceled reports that its context ended from outside;
// the handler sees to its timeout itself.
func (a *attempt) run(payload any) (answer inbox.Answer, canceled bool, err error) {
	m := a.message
	a.Init(m.ctx)
	a.started = time.Now()
	work := &m.sub.router.work
	work.add(a)
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
		canceled = a.Err() != nil
		a.Cancel()
		work.remove(a)
		a.handler.met.handle.Observe(time.Since(a.started).Seconds())
	}()
	answer, err = a.handler.Handle(a, handlers.Call{Event: m.event, Payload: payload, Place: m.place, Attempt: a.number, Begun: a})
	return answer, false, err
}

// failed settles when the handler is tried again, and holds the event when a
// soon retry has no prospect.
func (m *delivered) failed(st *tryState, a *attempt, answer inbox.Answer, err error) {
	h, now := a.handler, time.Now()
	why, err := classify(answer, err)
	h.met.retries[why].Inc()
	if why == causeRetryAfter {
		var later *handlers.RetryAfterError
		errors.As(err, &later)
		st.due = now.Add(later.After)
		m.stillHeld(st, h.name)
		m.sub.router.log.Debug("handler asked to be tried later", append(a.attrs(), slog.Time("due", st.due))...)
		return
	}
	if why == causeNotAdmitted { // its database is away or its key is locked: no try
		st.waits++
		delay, _ := h.Delay(st.waits)
		st.due = now.Add(delay)
		m.stillHeld(st, h.name)
	} else {
		st.tries++
		delay, spent := h.Delay(st.tries)
		if st.held || spent || why.hopeless() {
			st.due = now.Add(around(m.sub.router.cfg.SlowRetry))
			m.hold(st, h.name, h.met, why, err, a.attrs())
			return
		}
		st.due = now.Add(delay)
	}
	m.logFailure(st, a, why, err)
}

// logFailure logs a failure that is retried soon. Panics always, others at a
// bounded rate: when a database is away, every key fails.
func (m *delivered) logFailure(st *tryState, a *attempt, why cause, err error) {
	var p *PanicError
	panicked := errors.As(err, &p)
	unlogged, ok := a.handler.warn.pass(time.Now())
	if !ok && !panicked {
		return
	}
	attrs := append(a.attrs(), slog.String("class", why.String()), slog.Any("cause", err), slog.Time("due", st.due))
	if panicked {
		m.sub.router.log.Error("handler panicked", append(attrs, slog.String("stack", string(p.Stack)))...)
		return
	}
	if unlogged > 0 {
		attrs = append(attrs, slog.Int64("unlogged", unlogged))
	}
	m.sub.router.log.Warn("handler failed, it is tried again", attrs...)
}

// classify says what kind of failure it was, and gives an answer its error.
func classify(answer inbox.Answer, err error) (cause, error) {
	var (
		p        *PanicError
		rejected *handlers.RejectError
		later    *handlers.RetryAfterError
	)
	switch {
	case err == nil && answer == inbox.Late:
		return causeLate, errLate
	case err == nil && answer == inbox.Parked:
		return causeParked, errParked
	case err == nil:
		return causeError, errNoAnswer
	case errors.As(err, &p):
		return causePanic, err
	case errors.As(err, &rejected):
		return causeRejected, err
	case errors.As(err, &later):
		return causeRetryAfter, err
	case errors.Is(err, inbox.ErrCommitUnknown):
		return causeCommitUnknown, err
	case errors.Is(err, inbox.ErrNotAdmitted):
		return causeNotAdmitted, err
	case errors.Is(err, context.DeadlineExceeded):
		return causeTimeout, err
	default:
		return causeError, err
	}
}

// hopeless tells causes that the same event will meet again at every soon retry.
func (c cause) hopeless() bool { return c >= causeRejected }

var (
	errLate     = errors.New("its ID is unknown, but its sequence is not above the last one applied for the aggregate: two producers, or a topic that grew, broke the order")
	errParked   = errors.New("its key has parked events, and it must go behind them")
	errNoAnswer = errors.New("the handler returned neither an answer nor an error")
)
