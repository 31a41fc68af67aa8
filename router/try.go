package router

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// try runs handler i once and deals with what it says. It reports whether the
// handler has finished with the message: applied it, or parked it.
func (m *delivered) try(rt *route, i int, h *boundHandler, payload any) bool {
	a := &attempt{message: m, handler: h, number: 1}
	if m.progress != nil {
		st := m.state(rt, i)
		a.number, a.last = st.tries+1, st.last
		if w := st.wish; w != nil && (w.due.IsZero() || w.due.After(time.Now())) {
			return m.settle(rt, i, m.park(st, a, w))
		}
		st.wish = nil
	}
	if h.deadline > 0 {
		if err := m.judge(rt, i, h); err != nil {
			return m.settle(rt, i, m.park(m.state(rt, i), a, &wish{why: causeDeadline, err: err}))
		}
	}
	if wait, ok := h.mayRun(m); !ok {
		m.postpone(m.state(rt, i), h, wait)
		return false
	}

	answer, canceled, err := a.run(payload)
	switch {
	case err == nil && answer == inbox.Fresh:
		h.met.applied.Inc()
		h.met.age.Observe(max(0, time.Since(m.event.Time()).Seconds()))
		if a.number > 1 {
			h.met.attempts.Observe(float64(a.number))
		}
	case err == nil && answer == inbox.Duplicate:
		h.met.duplicate.Inc()
	case err == nil && answer == inbox.Parked:
		h.met.parkedBehind.Inc()
	case err != nil && canceled: // by a stop or with its partition: it did not fail
		m.cutShort(a, err)
		return false
	default:
		return m.settle(rt, i, m.failed(m.state(rt, i), a, answer, err))
	}
	return m.settle(rt, i, true)
}

// settle remembers that handler i has finished with the message, if it has.
func (m *delivered) settle(rt *route, i int, finished bool) bool {
	if !finished {
		return false
	}
	if m.progress != nil && m.state(rt, i).held {
		m.release(rt.handlers[i].name)
	}
	m.finish(rt, i)
	return true
}

// cutShort notes that the attempt was ended from outside.
func (m *delivered) cutShort(a *attempt, err error) {
	m.stopped = true
	a.handler.met.retries[causeCanceled].Inc()
	m.sub.router.log.Debug("handler was cancelled", append(a.attrs(), slog.Any("cause", err))...)
}

// postpone asks again after wait; nothing has failed.
func (m *delivered) postpone(st *tryState, h *boundHandler, wait time.Duration) {
	st.due = time.Now().Add(wait)
	m.stillHeld(st, h.name)
}

// failed settles when the handler is tried again, and parks the event when a
// soon retry has no prospect. It reports whether the handler has finished with
// the message.
func (m *delivered) failed(st *tryState, a *attempt, answer inbox.Answer, err error) bool {
	h, now := a.handler, time.Now()
	why, err := classify(answer, err)
	h.met.retries[why].Inc()
	switch {
	case why == causeRetryAfter:
		return m.later(st, a, now, err)
	case why == causeFull:
		m.holdFull(st, a, err)
		return false
	case !why.counts(): // its database is away or its key is locked: no try
		m.wait(st, h)
	case !why.hopeless() && h.out(): // nor is this: it would fail whatever it says
		st.failed(now, err)
		m.wait(st, h)
	default:
		st.failed(now, err)
		st.tries++
		delay, spent := h.Delay(st.tries, now.Sub(st.first))
		if st.held && !st.full || spent || why.hopeless() {
			return m.park(st, a, &wish{why: why, err: err})
		}
		st.due = m.before(h, now.Add(delay))
		m.foresee(st, h)
	}
	m.logFailure(st, a, why, err)
	return false
}

// later tries an event again when its handler wants it: soon out of its lane,
// else out of the dead letters.
func (m *delivered) later(st *tryState, a *attempt, now time.Time, err error) bool {
	var asked *handlers.RetryAfterError
	errors.As(err, &asked)
	h := a.handler
	st.failed(now, err)
	after := asked.After
	if after == 0 {
		st.waits++
		after, _ = h.Delay(st.waits, 0)
	}
	due := m.before(h, now.Add(after))
	patience := h.Patience()
	if asked.After > handlers.MaxHold || patience > 0 && due.Sub(st.first) > patience {
		return m.park(st, a, &wish{why: causeRetryAfter, err: err, due: due})
	}
	st.due = due
	m.foresee(st, h)
	m.stillHeld(st, h.name)
	m.sub.router.log.Debug("handler asked to be tried later", append(a.attrs(), slog.Time("due", st.due))...)
	return false
}

// wait puts off what the database, and not the event, is in the way of.
func (m *delivered) wait(st *tryState, h *boundHandler) {
	st.waits++
	delay, _ := h.Delay(st.waits, 0)
	st.due = time.Now().Add(delay)
	m.stillHeld(st, h.name)
}

// nearPart is the last part of an event's time in which it counts as near its
// deadline: a tenth.
const nearPart = 10

// judge returns an error when the deadline of the handler for the event has
// passed, and counts the event, once, when it is near.
func (m *delivered) judge(rt *route, i int, h *boundHandler) error {
	at := m.deadline(h)
	left := time.Until(at)
	if left <= 0 {
		return m.tooLate(h)
	}
	if left <= h.deadline/nearPart {
		m.near(m.state(rt, i), h)
	}
	return nil
}

// tooLate says that the deadline has passed.
func (m *delivered) tooLate(h *boundHandler) error {
	return fmt.Errorf("handler %q takes events until %v after their time, and that was at %s", h.name, h.deadline, m.deadline(h).UTC().Format(time.RFC3339))
}

// near counts the event as near its deadline, once.
func (m *delivered) near(st *tryState, h *boundHandler) {
	if !st.near {
		st.near = true
		h.met.near.Inc()
	}
}

// foresee counts an event as near that is not tried again before its deadline.
func (m *delivered) foresee(st *tryState, h *boundHandler) {
	if h.deadline > 0 && !st.due.Before(m.deadline(h)) {
		m.near(st, h)
	}
}

// deadline is until when the handler may begin to handle the event. Events that
// tell no time have the record's.
func (m *delivered) deadline(h *boundHandler) time.Time {
	from := m.event.Time()
	if from.IsZero() {
		from = m.time
	}
	if from.IsZero() {
		return time.Now().Add(h.deadline)
	}
	return from.Add(h.deadline)
}

// before returns due, or the deadline when that comes first: then it is parked.
func (m *delivered) before(h *boundHandler, due time.Time) time.Time {
	if h.deadline > 0 {
		if at := m.deadline(h); at.Before(due) {
			return at
		}
	}
	return due
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
