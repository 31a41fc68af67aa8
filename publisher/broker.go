package publisher

import (
	"runtime"
	"sync"
	"time"
)

// broker gathers what goes to one broker. While requests are on their way, the
// partitions with something to send wait, and share the next request: a broker's
// work is by the request more than by the event. With none on its way, what
// comes is sent at once.
//
// A partition is here only between its batches; one whose batch failed is
// elsewhere (partition.alone) until that batch has its outcome, so that it holds
// up nobody.
type broker struct {
	pub     *Publisher
	address string

	mu        sync.Mutex
	ready     []*partition // have something to send, in the order they came
	gathering bool         // a goroutine is about to take them
	flying    int          // requests that make the next one wait
}

const (
	// maxFlying is how many requests may make what comes wait for their answer.
	// Two, so that broker and callers work at the same time.
	maxFlying = 2
	// yields to other goroutines before a request is put together. One is not
	// enough: an idle processor takes the yielding goroutine right up again. 64
	// callers make requests of 27 events with one, of 40 with three, and not more
	// with six (two processors).
	yields = 3
	// patience is for how long a request does: a broker answers for all of its
	// partitions at once, when the slowest has its replicas.
	patience = 10 * time.Millisecond
	// fullRequest is the bytes from which a request takes in no more partitions,
	// and makes nobody wait, as there is nothing to gain.
	fullRequest = 1 << 20
)

// broker returns the one at address.
func (p *Publisher) broker(address string) *broker {
	p.brokersMu.Lock()
	defer p.brokersMu.Unlock()
	b := p.brokers[address]
	if b == nil {
		b = &broker{pub: p, address: address}
		p.brokers[address] = b
	}
	return b
}

// offer has the partition's queue sent, by and by.
func (b *broker) offer(p *partition) {
	b.mu.Lock()
	b.ready = append(b.ready, p)
	start := b.claim()
	b.mu.Unlock()
	if start {
		b.start()
	}
}

// claim makes the caller the one who gathers next, unless there is one or too
// much is on its way: then who lands goes on. b.mu is held.
func (b *broker) claim() bool {
	if b.gathering || b.flying >= maxFlying {
		return false
	}
	b.gathering = true
	return true
}

func (b *broker) start() {
	b.pub.hold()
	go b.send()
}

// send gathers and sends while there is something. It runs on a claim.
func (b *broker) send() {
	defer b.pub.leave()
	for {
		// Callers that were woken by one answer come back together: whoever can
		// run now does so first, and is in this request. It costs a lone one
		// nothing.
		for range yields {
			runtime.Gosched()
		}
		r := b.gather()
		if r == nil {
			return
		}
		slow := time.AfterFunc(patience, func() { b.pass(r) })
		started := time.Now()
		r.send(b.address)
		slow.Stop()
		again := b.land(r)
		for i, p := range r.partitions {
			p.settle(r.answers[i], started)
		}
		if !again {
			return
		}
	}
}

// gather takes the ready partitions' batches into a request and gives the claim
// up; nil when there is nothing to send.
func (b *broker) gather() *request {
	r := newRequest(b.pub)
	b.mu.Lock()
	for len(b.ready) > 0 && r.bytes < fullRequest {
		ready := b.ready
		b.ready = nil
		b.mu.Unlock()
		taken := 0
		for _, p := range ready {
			if r.bytes >= fullRequest {
				break
			}
			taken++
			if p.load() {
				r.add(p)
			}
		}
		b.mu.Lock()
		b.ready = append(ready[taken:], b.ready...)
	}
	b.gathering = false
	if len(r.partitions) > 0 && r.bytes < fullRequest {
		r.counts = true
		b.flying++
	}
	start := len(b.ready) > 0 && b.claim()
	b.mu.Unlock()
	if start {
		b.start()
	}
	if len(r.partitions) == 0 {
		return nil
	}
	return r
}

// pass lets others no longer wait for r.
func (b *broker) pass(r *request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.uncount(r)
	if len(b.ready) > 0 && b.claim() {
		b.start()
	}
}

// land is pass for one who can go on to gather: it says whether to.
func (b *broker) land(r *request) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.uncount(r)
	return b.claim()
}

func (b *broker) uncount(r *request) {
	if r.counts {
		r.counts = false
		b.flying--
	}
}
