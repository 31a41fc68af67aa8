package publisher

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// partition is the queue of one partition, and the batch on its way from it.
//
// At most one batch is in flight (I2), in a request that may hold batches of
// other partitions of the same broker. While there is work the partition is
// busy: it waits for its broker's next request, or is in one, or its batch has
// failed. Then it goes alone, and sends that batch again before anything behind
// it.
type partition struct {
	pub    *Publisher
	topic  *topic
	id     int32
	leader atomic.Pointer[broker] // nil while there is none

	wake chan struct{} // a record of the batch was given up

	mu         sync.Mutex
	head, tail *record // the queue
	seq        uint64  // of the last record queued
	busy       bool    // a broker or a goroutine sends
	retired    bool    // takes no more records
	idle       chan struct{}

	batch      []*record // records taken from the queue, in order
	batchBytes int       // their bytes, when they were taken
	inFlight   bool      // the batch is with a broker
	lastErr    error     // why the batch was not acknowledged so far
	givenUp    map[string]span
	pruning    bool // the batch holds settled records
}

// keptBatch is the room for a batch that a partition keeps while it is idle.
const keptBatch = 64

// span is what a failed record holds back: the records of its key that were
// queued after from, and up to to.
type span struct{ from, to uint64 }

func (s span) holds(r *record) bool {
	return r.key != nil && s.from < r.seq && r.seq <= s.to
}

func newPartition(t *topic, id int32) *partition {
	return &partition{pub: t.pub, topic: t, id: id, wake: make(chan struct{}, 1)}
}

// add queues one call's records, from first linked to last. It is false when the
// partition is retired: nothing was queued.
func (p *partition) add(c *call, first, last *record) bool {
	p.mu.Lock()
	if p.retired {
		p.mu.Unlock()
		return false
	}
	if c.broken.Load() {
		first, last = p.withoutBroken(c, first)
	}
	for r := first; r != nil; r = r.next {
		p.seq++
		r.seq = p.seq
	}
	start := false
	if first != nil {
		if p.tail == nil {
			p.head = first
		} else {
			p.tail.next = first
		}
		p.tail = last
		start = !p.busy
		p.busy = true
	}
	p.mu.Unlock()
	if start {
		p.offer()
	}
	return true
}

// withoutBroken takes the records out of the list whose key has failed in c.
func (p *partition) withoutBroken(c *call, first *record) (head, tail *record) {
	for r := first; r != nil; {
		next := r.next
		r.next = nil
		switch {
		case c.holdsBack(p.topic.name, r.key):
			p.fail(r, heldBack(errEarlierInCall))
		case tail == nil:
			head, tail = r, r
		default:
			tail.next = r
			tail = r
		}
		r = next
	}
	return head, tail
}

// offer has the queue sent: by the leader's next request, or alone when there
// is no leader. The partition is busy.
func (p *partition) offer() {
	if leader := p.leader.Load(); leader != nil {
		leader.offer(p)
		return
	}
	if p.takeBatch() {
		p.settle(p.leaderless(), time.Now())
	}
}

func (p *partition) leaderless() answer {
	return answer{verdict: again, stale: true, err: fmt.Errorf("partition %d of topic %q has no leader", p.id, p.topic.name)}
}

// load takes a batch and marks it as in flight; false when there is nothing to
// send, and the partition is busy no more.
func (p *partition) load() bool {
	for p.takeBatch() {
		if p.pub.aborted() {
			p.refuse(nil, ErrClosed, false)
			continue
		}
		if p.begin() {
			return true
		}
	}
	return false
}

// settle takes the answer to a request that was begun at started. What was not
// acknowledged is dealt with apart: the other partitions go on.
func (p *partition) settle(a answer, started time.Time) {
	p.end(a)
	if a.verdict == acked {
		p.next()
		return
	}
	p.pub.hold()
	go p.alone(a, started)
}

// next goes on when the batch has its outcome.
func (p *partition) next() {
	p.mu.Lock()
	more := p.head != nil
	if !more {
		p.rest()
	}
	p.mu.Unlock()
	if more {
		p.offer()
	}
}

// rest ends the work. p.mu is held.
func (p *partition) rest() {
	p.busy = false
	if cap(p.batch) > keptBatch {
		p.batch = nil
	}
	if p.idle != nil {
		close(p.idle)
		p.idle = nil
	}
}

// takeBatch moves the next records from the queue to the batch; false when there
// are none, and the partition is busy no more.
func (p *partition) takeBatch() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.batch)
	p.batch = p.batch[:0]
	p.lastErr = nil
	clear(p.givenUp)
	p.pruning = false
	bytes := batchHeader
	for r := p.head; r != nil && len(p.batch) < p.pub.config.MaxBatchEvents; r = p.head {
		if len(p.batch) > 0 && bytes+r.size() > int(p.topic.batchBytes.Load()) {
			break
		}
		bytes += r.size()
		p.head = r.next
		r.next = nil
		p.batch = append(p.batch, r)
	}
	if p.head == nil {
		p.tail = nil
	}
	p.batchBytes = bytes
	if len(p.batch) == 0 {
		p.rest()
		return false
	}
	return true
}

// alone sends the batch, for which a was the first answer, until each of its
// records has an outcome or went back to the queue.
func (p *partition) alone(a answer, started time.Time) {
	defer p.pub.leave()
	var pause backoff
	for p.retry(a, started, &pause) {
		if p.pub.aborted() {
			p.refuse(nil, ErrClosed, false)
			break
		}
		if !p.begin() {
			break
		}
		started = time.Now()
		a = p.attempt()
		p.end(a)
	}
	p.next()
}

// retry deals with an answer, and waits where that may help. It says whether
// the batch is to be sent again.
func (p *partition) retry(a answer, started time.Time, pause *backoff) bool {
	switch a.verdict {
	case acked:
		return false
	case refusedAll:
		p.refuse(nil, a.err, a.doubt)
		return false
	case refusedOne:
		p.refuseSome(a)
		*pause = backoff{}
		return true
	case again, unanswered:
	}
	p.pub.metrics.retried(a.err)
	wait := pause.next()
	p.pub.config.Logger.Debug("produce request failed, it will be sent again",
		"topic", p.topic.name, "partition", p.id, "in", wait, "err", a.err)
	if a.stale {
		if err := p.topic.refresh(p, started); err != nil {
			p.refuse(nil, err, false)
			return false
		}
	}
	p.wait(wait)
	return true
}

// begin marks the batch as in flight, without the records that were given up;
// false when none is left.
func (p *partition) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.prune()
	p.inFlight = len(p.batch) > 0
	return p.inFlight
}

// end takes the batch back with its answer. What was acknowledged is settled at
// once: a caller that leaves in between would take it for never sent.
func (p *partition) end(a answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight = false
	if a.verdict == acked {
		p.acknowledge()
		return
	}
	p.lastErr = a.err
	if a.doubt {
		for _, r := range p.batch {
			r.doubt = true
		}
	}
}

// attempt sends the batch once, in a request of its own.
func (p *partition) attempt() answer {
	leader := p.leader.Load()
	if leader == nil {
		return p.leaderless()
	}
	r := newRequest(p.pub)
	r.add(p)
	r.send(leader.address)
	return r.answers[0]
}

// wait sleeps for d, or until nobody waits for the batch any more.
func (p *partition) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return
		case <-p.pub.abort:
			return
		case <-p.wake:
			if p.abandoned() {
				return
			}
		}
	}
}

func (p *partition) abandoned() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.batch {
		if !r.settled {
			return false
		}
	}
	return true
}

// retire closes the queue to new records and returns a channel that is closed
// when the last one has its outcome; nil when it is empty already.
func (p *partition) retire() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retired = true
	if !p.busy {
		return nil
	}
	if p.idle == nil {
		p.idle = make(chan struct{})
	}
	return p.idle
}
