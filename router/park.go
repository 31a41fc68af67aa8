package router

import (
	"errors"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// park parks the message for the handler, as wished. It reports whether the
// handler has finished with the message. What cannot be parked because the
// database is away is wished for again; where there is no place to park, or no
// room, the event is held.
func (m *delivered) park(st *tryState, a *attempt, w *wish) bool {
	h := a.handler
	st.wish, st.full = nil, false
	if w.why == causeRetryAfter && h.deadline > 0 && !w.due.IsZero() && m.deadline(h).Sub(w.due) <= h.deadline/nearPart {
		m.near(st, h) // it will be, before it is tried again
	}
	f := w.failure(st)
	answer, canceled, err := a.again().park(f)
	switch {
	case err == nil && answer == inbox.Parked:
		h.met.parked.Inc()
		h.met.attempts.Observe(float64(st.tries))
		m.logParked(a, w, f)
		return true
	case err == nil && answer == inbox.Duplicate: // by the member that had it before
		h.met.duplicate.Inc()
		return true
	case err == nil:
		st.due = time.Now().Add(leastDelay)
		return false
	case canceled:
		m.cutShort(a, err)
		return false
	case errors.Is(err, handlers.ErrNoParking):
		m.noParking(st, a, w)
		return false
	case errors.Is(err, inbox.ErrFull):
		if w.why == causeRetryAfter || w.why == causeDeadline {
			st.wish = w // to run the handler again now would be wrong
		}
		m.holdFull(st, a, err)
		return false
	}
	st.wish = w
	m.wait(st, h)
	m.logNotParked(st, a, w, err)
	return false
}

// noParking holds an event for a handler that has no dead letters. What asked to
// be tried later waits for it in its lane.
func (m *delivered) noParking(st *tryState, a *attempt, w *wish) {
	now := time.Now()
	if w.why == causeRetryAfter {
		st.due = w.due
		m.stillHeld(st, a.handler.name)
		m.sub.router.log.Debug("handler asked to be tried later", append(a.attrs(), slog.Time("due", st.due))...)
		return
	}
	st.due = now.Add(around(m.sub.router.cfg.SlowRetry))
	if !st.held {
		m.logPanic(a, w.err)
	}
	m.hold(st, a.handler.name, a.handler.met, w.why, w.err, a.attrs())
}

// failure is what is written about the event.
func (w *wish) failure(st *tryState) inbox.Failure {
	f := inbox.Failure{
		Cause: w.why.parked(), Error: tidy(w.err.Error(), maxError), Attempts: st.tries,
		First: st.first, Last: st.at, Due: w.due,
	}
	if p, ok := errors.AsType[*PanicError](w.err); ok {
		f.Stack = tidy(string(p.Stack), maxStack)
	}
	return f
}

// The bounds of what is written about a failure, in bytes.
const (
	maxError = 4 << 10
	maxStack = 16 << 10
)

// tidy makes text that every database takes, within a bound.
func tidy(s string, limit int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "..."
}

// logParked says, once per event, that and why it is parked, and where it is
// seen.
func (m *delivered) logParked(a *attempt, w *wish, f inbox.Failure) {
	m.logPanic(a, w.err)
	attrs := append(a.attrs(), slog.String("class", string(f.Cause)), slog.Any("cause", w.err), slog.Int("attempts", f.Attempts))
	if m.event.IsZero() {
		attrs = append(attrs, dump(m.record))
	}
	if !w.due.IsZero() {
		m.sub.router.log.Warn("event is parked, and what follows it under its key goes behind it: it is tried again when it is due; see tidings dlq show", append(attrs, slog.Time("due", w.due))...)
		return
	}
	m.sub.router.log.Warn("event is parked, and what follows it under its key goes behind it: see tidings dlq show, then retry, edit or discard it", attrs...)
}

// logPanic logs the stack of a panic that is not retried.
func (m *delivered) logPanic(a *attempt, err error) {
	if p, ok := errors.AsType[*PanicError](err); ok {
		m.sub.router.log.Error("handler panicked", append(a.attrs(), slog.Any("cause", err), slog.String("stack", string(p.Stack)))...)
	}
}

// logNotParked logs, at a bounded rate, that nothing could be parked.
func (m *delivered) logNotParked(st *tryState, a *attempt, w *wish, err error) {
	unlogged, ok := a.handler.warn.pass(time.Now())
	if !ok {
		return
	}
	attrs := append(a.attrs(), slog.String("class", w.why.String()), slog.Any("event_cause", w.err), slog.Any("cause", err), slog.Time("due", st.due))
	if unlogged > 0 {
		attrs = append(attrs, slog.Int64("unlogged", unlogged))
	}
	m.sub.router.log.Warn("event could not be parked, that is tried again", attrs...)
}

// holdFull holds an event that could not be parked because the handler's dead
// letters are full. It is no fault of the event: the handler is told of, once.
func (m *delivered) holdFull(st *tryState, a *attempt, err error) {
	st.due, st.full = time.Now().Add(around(m.sub.router.cfg.SlowRetry)), true
	m.hold(st, a.handler.name, a.handler.met, causeFull, err, a.attrs())
}
