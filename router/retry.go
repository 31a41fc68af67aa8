package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// retrier retries the parked events of one handler, in the way in which it
// handles messages: same decoding, context, timeout and metrics, and a stop
// names it.
type retrier struct {
	sub     *subscription
	handler *boundHandler
}

// soon is how long a key waits when the database was away at its retry, or the
// group is paused.
const soon = time.Second

// Retry implements deadletter.Retrier.
func (r *retrier) Retry(ctx context.Context, l deadletter.Letter) deadletter.Outcome {
	h := r.handler
	if r.sub.paused() {
		return deadletter.Outcome{Verdict: deadletter.NotTried, After: soon}
	}
	m := &delivered{sub: r.sub, ctx: ctx, record: l.Record, time: l.Time, place: l.Place}
	a := &attempt{message: m, handler: h, number: l.Attempts + 1, letter: &l}
	if l.Error != "" {
		a.last = errors.New(l.Error)
	}
	payload, skip, why, err := r.read(m)
	switch {
	case err != nil:
		return r.book(a, &l, why, err) //nolint:contextcheck // a carries ctx
	case skip:
		return r.skip(a, &l) //nolint:contextcheck // a carries ctx
	case r.expired(ctx, m, &l):
		return r.book(a, &l, causeDeadline, m.tooLate(h)) //nolint:contextcheck // a carries ctx
	}
	if wait, ok := h.mayRun(m); !ok {
		return deadletter.Outcome{Verdict: deadletter.NotTried, After: wait}
	}
	answer, canceled, err := a.run(payload)        //nolint:contextcheck // a carries ctx
	return r.outcome(a, &l, answer, canceled, err) //nolint:contextcheck // a carries ctx
}

// read decodes the letter. Skip: it is none of the handler's, which a message
// that could not be decoded did not say before.
func (r *retrier) read(m *delivered) (payload any, skip bool, why cause, err error) {
	s := r.sub
	if m.event, err = event.FromKafka(m.record); err != nil {
		return nil, false, causeUndecodable, fmt.Errorf("reading the event: %w", err)
	}
	if typ := m.event.Type(); typ != r.handler.Type() {
		if s.router.cfg.UnknownTypes == Refuse && !s.router.cfg.Catalog.Knows(typ) {
			return nil, false, causeUnknownType, unknownType(m.event)
		}
		return nil, true, 0, nil
	}
	if payload, err = s.decode(m.event); err != nil {
		return nil, false, causeUndecodable, err
	}
	return payload, false, 0, nil
}

// expired tells an event whose deadline passed while it was parked: it is not
// applied by itself. Who asks for it has it applied all the same.
func (r *retrier) expired(ctx context.Context, m *delivered, l *deadletter.Letter) bool {
	h := r.handler
	return h.deadline > 0 && !deadletter.Asked(ctx) && l.Cause != inbox.CauseDeadline && !time.Now().Before(m.deadline(h))
}

func (r *retrier) skip(a *attempt, l *deadletter.Letter) deadletter.Outcome {
	answer, canceled, err := a.skip()
	if err == nil && answer == inbox.Fresh {
		r.sub.skipped.Inc()
		return deadletter.Outcome{Verdict: deadletter.Applied}
	}
	return r.outcome(a, l, answer, canceled, err)
}

// outcome says what became of a try, and books a failure.
func (r *retrier) outcome(a *attempt, l *deadletter.Letter, answer inbox.Answer, canceled bool, err error) deadletter.Outcome {
	h := r.handler
	switch {
	case err == nil && answer == inbox.Fresh:
		h.met.applied.Inc()
		h.met.attempts.Observe(float64(a.number))
		h.met.age.Observe(max(0, time.Since(a.message.event.Time()).Seconds()))
		r.sub.router.log.Info("parked event was applied", a.attrs()...)
		return deadletter.Outcome{Verdict: deadletter.Applied}
	case err == nil && answer == inbox.Duplicate:
		h.met.duplicate.Inc()
		return deadletter.Outcome{Verdict: deadletter.Applied}
	case err == nil && (answer == inbox.Gone || answer == inbox.Parked):
		return deadletter.Outcome{Verdict: deadletter.Passed}
	case err != nil && canceled:
		h.met.retries[causeCanceled].Inc()
		return deadletter.Outcome{Verdict: deadletter.NotTried, Err: err, After: soon}
	}
	why, err := classify(answer, err)
	h.met.retries[why].Inc()
	if !why.counts() || why == causeCommitUnknown || !why.hopeless() && h.out() {
		return deadletter.Outcome{Verdict: deadletter.NotTried, Err: err, After: soon}
	}
	return r.book(a, l, why, err)
}

// book writes the failure of a retry to the letter.
func (r *retrier) book(a *attempt, l *deadletter.Letter, why cause, err error) deadletter.Outcome {
	m, h, now := a.message, r.handler, time.Now()
	w := &wish{why: why, err: err}
	if later, ok := errors.AsType[*handlers.RetryAfterError](err); ok && why == causeRetryAfter {
		w.due = m.before(h, now.Add(later.After))
	}
	st := tryState{tries: a.number, first: l.First, at: l.Last}
	st.failed(now, err)
	f := w.failure(&st)
	m.logPanic(a, err)
	answer, canceled, parkErr := a.again().park(f)
	switch {
	case parkErr == nil && answer == inbox.Parked:
		return deadletter.Outcome{Verdict: deadletter.Failed, Err: err}
	case parkErr == nil && answer == inbox.Duplicate:
		return deadletter.Outcome{Verdict: deadletter.Applied}
	case parkErr == nil:
		return deadletter.Outcome{Verdict: deadletter.Passed}
	}
	if !canceled {
		if unlogged, ok := h.warn.pass(now); ok {
			r.sub.router.log.Warn("the failure of a parked event could not be written, it is tried again",
				append(a.attrs(), slog.Any("event_cause", err), slog.Any("cause", parkErr), slog.Int64("unlogged", unlogged))...)
		}
	}
	return deadletter.Outcome{Verdict: deadletter.NotTried, Err: errors.Join(err, parkErr), After: soon}
}
