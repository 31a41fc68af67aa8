package lanes

import (
	"context"
	"math"
	"time"
)

// Drain stops the partition: nothing is added any more, offers that nobody has
// taken are recalled, and what has not started and lies above the highest
// started message is left to the next owner. The rest is finished, so that the
// watermark reaches the highest started message and nothing is done twice.
//
// What keeps failing does not hold it up: a message that fails, sleeps or is not
// taken beyond patience is given up, and so is all above it that has not
// started, for the next owner begins with it anyway.
//
// It returns true when nothing of the partition runs any more, false when ctx
// ended first; then call Cancel. Only one goroutine may call Drain and Idle.
func (p *Partition[V]) Drain(ctx context.Context, patience time.Duration) bool {
	p.stop()
	if !p.await(ctx, func() bool { return p.unsettled == 0 }) {
		return false
	}
	p.bound(patience)

	finished := func() bool { return p.left <= 0 && p.running == 0 }
	patient, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if p.await(patient, finished) {
		return true
	}
	p.hurry()
	return p.await(ctx, finished)
}

// Idle waits until nothing of the partition runs, or ctx ends: false.
func (p *Partition[V]) Idle(ctx context.Context) bool {
	return p.await(ctx, func() bool { return p.running == 0 })
}

// Cancel ends the partition at once: nothing starts any more, and the running
// messages' Canceled channel is closed. What finishes nevertheless still counts.
func (p *Partition[V]) Cancel() {
	p.set.mu.Lock()
	defer p.set.mu.Unlock()
	p.cancel()
}

// Close forgets the partition. Work that still runs has its Gone channel closed;
// its outcome counts no more. Closing twice does nothing.
func (p *Partition[V]) Close() {
	p.set.mu.Lock()
	defer p.set.mu.Unlock()
	p.close()
}

// stop feeds nothing more and recalls the offers that are out.
func (p *Partition[V]) stop() {
	p.set.mu.Lock()
	defer p.set.mu.Unlock()
	if p.phase != open {
		return
	}
	p.phase = stopping
	p.queue()
	// From here on Handed looks for us; before, we see what it stored.
	p.settling.Store(true)
	for _, it := range p.log[p.head:] {
		if it.state == running && !it.handed.Load() {
			it.unsettled = true
			p.unsettled++
		}
	}
	close(p.recall)
}

// bound lets only those run that are below the highest started message.
func (p *Partition[V]) bound(patience time.Duration) {
	p.set.mu.Lock()
	defer p.set.mu.Unlock()
	if p.phase != stopping {
		return
	}
	p.phase = draining
	p.recall = make(chan struct{})
	p.patience = p.set.now() + patience
	p.limit = -1
	for _, it := range p.log[p.head:] {
		if it.started || it.state == running && it.handed.Load() {
			p.limit = it.offset
		}
	}
	for _, it := range p.log[p.head:] {
		if it.state == sleeping && it.wake > p.patience {
			p.limit = min(p.limit, it.offset-1)
			break
		}
	}
	p.trim()
	if p.set.halted {
		p.yield()
	}
	p.set.wake()
}

// hurry ends the time for retries.
func (p *Partition[V]) hurry() {
	p.set.mu.Lock()
	defer p.set.mu.Unlock()
	if p.phase != draining {
		return
	}
	p.hasty = true
	p.recallOffers()
	for _, it := range p.log[p.head:] {
		if it.state == sleeping {
			p.abandon(it.offset)
			break
		}
	}
}

// abandon gives up the message at offset and so what has not started above it.
func (p *Partition[V]) abandon(offset int64) {
	if offset <= p.limit {
		p.limit = offset - 1
		p.trim()
	}
}

// trim drops what waits above the limit and counts what is left below it.
func (p *Partition[V]) trim() {
	p.keep(p.limit)
	p.left = 0
	for _, it := range p.log[p.head:] {
		switch {
		case it.state == done || it.state == dropped:
		case it.offset <= p.limit:
			p.left++
		case it.state == sleeping:
			p.asleep--
			p.set.sleepers.remove(it)
			it.state = dropped
		case it.state == waiting:
			it.state = dropped
		}
	}
	p.queue()
	p.checkIdle()
}

func (p *Partition[V]) cancel() {
	if p.phase >= canceled {
		return
	}
	if p.phase == open || p.phase == draining {
		close(p.recall)
	}
	p.phase = canceled
	p.limit = math.MinInt64
	p.trim()
	close(p.canceled)
}

func (p *Partition[V]) close() {
	if p.phase == closed {
		return
	}
	p.cancel()
	p.phase = closed
	close(p.gone)
	s := p.set
	s.counted -= p.counted
	for _, c := range p.cells {
		p.forget(c)
	}
	s.bytes -= p.bytes
	if p.paused {
		p.paused = false
		s.paused--
	}
	p.log, p.lanes, p.head = nil, nil, 0
	delete(s.partitions, p)
	s.share()
	s.reviewAll()
	s.wake()
	p.signal()
}

// checkIdle wakes the one who drains when it may have got what it waits for.
func (p *Partition[V]) checkIdle() {
	if p.phase != open && p.left <= 0 && p.running == 0 {
		p.signal()
	}
}

func (p *Partition[V]) signal() {
	select {
	case p.event <- struct{}{}:
	default:
	}
}

// await waits until reached holds, looking again at each signal, or ctx ends.
func (p *Partition[V]) await(ctx context.Context, reached func() bool) bool {
	for {
		p.set.mu.Lock()
		ok := reached()
		p.set.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-p.event:
		case <-ctx.Done():
			return false
		}
	}
}
