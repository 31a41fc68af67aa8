package publisher

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// How records of a partition end: acknowledged, refused by the broker, held back
// behind one that failed, or withdrawn by their caller.

var errEarlierInCall = errors.New("in this call")

// acknowledge settles the whole batch. p.mu is held.
func (p *partition) acknowledge() {
	for from, to := 0, 0; from < len(p.batch); from = to { // before its callers go on
		of := p.batch[from].piece
		for to < len(p.batch) && p.batch[to].piece == of {
			to++
		}
		p.pub.free(of.release(to - from))
	}
	p.pub.metrics.acknowledged(p.topic.name, len(p.batch))
	var of *call
	n := 0
	for _, r := range p.batch {
		if r.settled {
			continue // its caller left in doubt
		}
		r.settled = true
		if r.call != of {
			of.settleIf(n)
			of, n = r.call, 0
		}
		n++
	}
	of.settleIf(n)
	clear(p.batch)
	p.batch = p.batch[:0]
}

func (c *call) settleIf(n int) {
	if c != nil {
		c.settle(n)
	}
}

// refuseSome deals with an answer that blames the records: those the broker
// named are refused; where it named none, the batch is split to find them.
func (p *partition) refuseSome(a answer) {
	at := slices.DeleteFunc(a.culprits, func(i int) bool { return i < 0 || i >= len(p.batch) })
	tooLarge := isTooLarge(a.err)
	switch {
	case len(at) > 0:
		p.refuse(at, a.err, a.doubt)
	case len(p.batch) > 1:
		p.split(tooLarge)
	case tooLarge:
		p.refuse(nil, fmt.Errorf("%w: %d bytes in topic %q: %w: raise max.message.bytes of the topic, or keep the data elsewhere and publish a reference to it",
			ErrTooLarge, p.batch[0].size(), p.topic.name, a.err), false)
	default:
		p.refuse(nil, a.err, a.doubt)
	}
}

// split puts the second half of the batch back to the front of the queue.
func (p *partition) split(tooLarge bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	half := len(p.batch) / 2
	for _, r := range slices.Backward(p.batch[half:]) {
		r.next = p.head
		p.head = r
		if p.tail == nil {
			p.tail = r
		}
	}
	clear(p.batch[half:])
	p.batch = p.batch[:half]
	if tooLarge {
		bytes := batchHeader
		for _, r := range p.batch {
			bytes += r.size()
		}
		// The topic takes less than was assumed: do not ask again each time.
		p.topic.batchBytes.Store(int64(max(bytes, 16<<10)))
	}
}

// refuse fails the batch's records at the places given, nil for all, and holds
// back what is queued behind them under their keys.
func (p *partition) refuse(at []int, err error, doubt bool) {
	p.mu.Lock()
	keys := make(map[string]span)
	rest := p.batch[:0:0]
	for i, r := range p.batch {
		if at != nil && !slices.Contains(at, i) {
			if s, is := keys[string(r.key)]; !is || r.key == nil || r.seq < s.from {
				rest = append(rest, r)
				continue
			}
			p.fail(r, heldBack(err))
			continue
		}
		if r.key != nil {
			if _, is := keys[string(r.key)]; !is {
				keys[string(r.key)] = span{r.seq, p.seq}
			}
		}
		r.doubt = r.doubt || doubt
		p.fail(r, err)
	}
	p.batch = rest
	p.holdBack(keys, err)
	p.mu.Unlock()
}

// withdraw takes c's records back because of cause. Those in the queue are gone
// and hold back what is behind them; those in the batch may be in flight: they
// stay in it, and what is behind them waits for the batch's outcome.
func (p *partition) withdraw(c *call, ctx context.Context) {
	p.mu.Lock()
	cause := ended(ctx, p.lastErr)
	for _, r := range p.batch {
		if r.call != c || r.settled {
			continue
		}
		r.settled = true
		p.pub.metrics.failed(p.topic.name, r.doubt || p.inFlight)
		c.fail(r.key, failure{r.index, p.topic.name, cause, r.doubt || p.inFlight})
		p.pruning = true
		if r.key == nil {
			continue
		}
		if p.givenUp == nil {
			p.givenUp = make(map[string]span)
		}
		s, is := p.givenUp[string(r.key)]
		if !is {
			s.from = r.seq
		}
		s.to = p.seq // what is published after this may proceed
		p.givenUp[string(r.key)] = s
	}
	keys := make(map[string]span)
	p.filterQueue(func(r *record) bool {
		if r.call == c {
			if _, is := keys[string(r.key)]; !is && r.key != nil {
				keys[string(r.key)] = span{r.seq, p.seq}
			}
			p.fail(r, cause)
			return false
		}
		return true
	})
	p.holdBack(keys, context.Cause(ctx))
	pruning := p.pruning
	p.mu.Unlock()
	if pruning {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// prune takes the records out of the batch whose callers have left, and holds
// back what was queued behind them by then. What came later proceeds, unless it
// stands behind one that is held back. The batch must not be in flight. p.mu is
// held.
func (p *partition) prune() {
	if !p.pruning {
		return
	}
	p.pruning = false
	rest := p.batch[:0:0]
	for _, r := range p.batch {
		if r.settled {
			p.pub.free(r.piece.release(1))
			continue
		}
		if s, is := p.givenUp[string(r.key)]; is && s.holds(r) {
			p.fail(r, heldBack(errGivenUp))
			p.givenUp[string(r.key)] = span{s.from, p.seq}
			continue
		}
		rest = append(rest, r)
	}
	p.batch = rest
	p.holdBack(p.givenUp, errGivenUp)
	clear(p.givenUp)
}

var errGivenUp = errors.New("its caller stopped waiting")

// holdBack fails the queued records that stand behind a failed one of their key.
// p.mu is held.
func (p *partition) holdBack(keys map[string]span, cause error) {
	if len(keys) == 0 || p.head == nil {
		return
	}
	p.filterQueue(func(r *record) bool {
		s, is := keys[string(r.key)]
		if !is || !s.holds(r) {
			return true
		}
		p.fail(r, heldBack(cause))
		keys[string(r.key)] = span{s.from, p.seq}
		return false
	})
}

// filterQueue keeps the queued records for which keep is true. p.mu is held.
func (p *partition) filterQueue(keep func(*record) bool) {
	var head, tail *record
	for r := p.head; r != nil; {
		next := r.next
		r.next = nil
		if keep(r) {
			if tail == nil {
				head = r
			} else {
				tail.next = r
			}
			tail = r
		}
		r = next
	}
	p.head, p.tail = head, tail
}

// fail settles r as not acknowledged and gives its room back. p.mu is held.
func (p *partition) fail(r *record, err error) {
	p.pub.free(r.piece.release(1)) // before its caller goes on
	if r.settled {
		return
	}
	r.settled = true
	p.pub.metrics.failed(p.topic.name, r.doubt)
	r.call.fail(r.key, failure{r.index, p.topic.name, err, r.doubt})
}
