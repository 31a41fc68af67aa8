package deadletter

import (
	"context"
	"errors"
	"time"

	"github.com/tidings-bus/tidings/handlers/inbox"
)

const (
	// page is how many letters of a key are read at once, and pageBytes about how
	// large they are together, if there are several.
	page      = 20
	pageBytes = 1 << 20
	// The bounds of the time before an event that was not tried is tried again.
	minNotTried = 50 * time.Millisecond
	maxNotTried = time.Minute
	// lookAtTurn is how often one who waits for a turn looks whether it is still wanted.
	lookAtTurn = 5 * time.Second
)

// retry retries the events of a key in order and gives the key back: it ends
// when none is left, at the first failure, when the claim is lost, and when the
// Runner stops.
func (r *Runner) retry(c *claim) {
	var p Progress
	done := r.drain(c, &p)
	if errors.Is(context.Cause(c.ctx), errLost) {
		r.log.Warn("lost the claim on a parked key, its retry stopped", "handler", c.Handler.Name, "key", c.ID)
		return
	}
	r.release(c.ctx, c.Key, done, p)
}

// drain reports whether its request is done with the key.
func (r *Runner) drain(c *claim, p *Progress) (done bool) {
	retrier := r.config.Handlers[c.Handler.Name]
	for failed, passed := 0, int64(0); r.goesOn(c); {
		// From the head each time: what was applied has left, and what arrived
		// meanwhile is behind it.
		letters, err := r.config.Store.Letters(c.ctx, c.ID, 0, pageOf(&c.Key))
		if c.ctx.Err() != nil {
			return false
		}
		if r.failed(err); err != nil && !errors.Is(err, ErrNotFound) {
			failed++
			r.pause(c, backoff(r.config.Poll, failed))
			continue
		}
		if len(letters) == 0 {
			p.KeysDone = 1
			return true
		}
		failed = 0
		switch last, verdict := r.batch(c, retrier, letters, p); verdict {
		case Applied: // all of them: read on
		case Failed:
			p.KeysStopped = 1
			return true
		case Passed:
			if last == passed { // the store says first and not first: do not spin
				r.pause(c, r.config.Poll)
			}
			passed = last
		case NotTried: // has waited
		default: // told to stop before the next one, or nothing is due
			return r.goesOn(c)
		}
	}
	return false
}

// pageOf is how many letters of the key to read at once, by their mean size.
func pageOf(k *Key) int {
	if k.Events < 1 || k.Bytes < 1 {
		return page
	}
	return int(min(max(1, pageBytes/max(1, k.Bytes/k.Events)), page))
}

// batch retries letters one after the other, and returns the last verdict and
// letter. No verdict: the next one is not to be tried now.
func (r *Runner) batch(c *claim, retrier Retrier, letters []Letter, p *Progress) (int64, Verdict) {
	for _, l := range letters {
		if !r.goesOn(c) || !r.permitted(c) || !wanted(c, &l) {
			return l.ID, 0
		}
		o := retrier.Retry(c.ctx, l)
		r.metrics.retried(c.Handler.Name, o.Verdict)
		switch o.Verdict {
		case Applied:
			p.Applied++
			continue
		case Failed:
			p.Failed++
			r.log.Warn("a parked event failed again, its key waits", "handler", l.Handler.Name, "topic", l.Place.Topic,
				"event", l.EventID, "letter", l.ID, "cause", o.Err)
		case NotTried:
			r.pause(c, min(max(o.After, minNotTried), maxNotTried))
		case Passed:
		}
		return l.ID, o.Verdict
	}
	return 0, Applied
}

// wanted: a request wants all events of its keys. A key that is retried because
// its head was due goes on with what waits only for those before it.
func wanted(c *claim, l *Letter) bool {
	return c.Request != 0 || l.Cause == inbox.CauseBehind || !l.Due.IsZero() && !l.Due.After(time.Now())
}

// permitted waits for its turn under the rate of the key's request.
func (r *Runner) permitted(c *claim) bool {
	if c.Request == 0 {
		return true
	}
	for failed := 0; r.goesOn(c); {
		wait, err := r.config.Store.Permit(c.ctx, c.Request)
		if c.ctx.Err() != nil {
			return false
		}
		if r.failed(err); errors.Is(err, ErrNotFound) {
			return false // somebody ended the request
		}
		if err == nil {
			return r.turn(c, wait)
		}
		failed++
		r.pause(c, backoff(r.config.Poll, failed))
	}
	return false
}

// turn waits for a turn that was reserved. Somebody may end the request before it
// comes, which is looked up now and then: turns may be hours away.
func (r *Runner) turn(c *claim, wait time.Duration) bool {
	for wait > 0 && r.goesOn(c) {
		step := min(wait, lookAtTurn)
		r.pause(c, step)
		wait -= step
		if step < r.config.Poll || !r.goesOn(c) {
			continue // as soon as somebody would hear of it otherwise
		}
		q, err := r.config.Store.Request(c.ctx, c.Request)
		if r.failed(err); errors.Is(err, ErrNotFound) || err == nil && q.State != Open {
			return false
		}
	}
	return r.goesOn(c)
}

// goesOn: neither is the claim lost nor the Runner told to stop.
func (r *Runner) goesOn(c *claim) bool {
	select {
	case <-r.stop:
		return false
	default:
		return c.ctx.Err() == nil
	}
}

func (r *Runner) pause(c *claim, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.stop:
	case <-c.ctx.Done():
	}
}
