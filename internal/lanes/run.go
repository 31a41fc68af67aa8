package lanes

// Group is a message, which has been handed over, and what is gathered in its
// slot.
type Group[V any] struct{ first *Item[V] }

// Group begins a group with the message, once in an attempt.
func (it *Item[V]) Group() *Group[V] {
	s := it.partition.set
	s.mu.Lock()
	defer s.mu.Unlock()
	g := &Group[V]{first: it}
	if it.state == running {
		it.group = g
	}
	return g
}

// Gather hands out further messages of the partition in the slot of the first:
// the run behind it in its lane first, then the messages
// that are ready, each with the run behind it; most of them at most, and with
// sizes of no more than bytes together. Each is handed over, in its attempt, and
// has the same Canceled and Gone as the first. What became of them, and of the
// first, is said by Settle before Work returns.
//
// What shall be tried alone (Outcome.Alone) is left to other workers. Gather
// returns nothing while the partition stops, and only what is to be finished
// while it drains. It never blocks.
func (of *Group[V]) Gather(most int, bytes int64) []*Item[V] {
	it := of.first
	p := it.partition
	p.set.mu.Lock()
	defer p.set.mu.Unlock()
	if p.set.halted || it.group != of || it.alone || p.phase != open && p.phase != draining {
		return nil
	}
	g := gathering[V]{p: p, group: of, most: most, bytes: bytes}
	last := it // a gathering before this one may have taken a part of the run
	for last.behind != nil && last.behind.state == running {
		last = last.behind
	}
	g.run(last)
	p.pickReady(func(head *Item[V]) (take, more bool) {
		if g.full(head) {
			return false, false
		}
		if head.alone {
			return false, true
		}
		g.take(head)
		g.run(head)
		return true, true
	})
	p.queue()
	return g.items
}

// Arrived receives when there may be more to gather: something became ready in
// the partition.
func (it *Item[V]) Arrived() <-chan struct{} {
	p := it.partition
	p.set.mu.Lock()
	defer p.set.mu.Unlock()
	if p.arrived == nil {
		p.arrived = make(chan struct{}, 1)
		p.announce() // what came before it was asked for
	}
	return p.arrived
}

func (p *Partition[V]) announce() {
	select {
	case p.arrived <- struct{}{}:
	default:
	}
}

// gathering is what one call of Gather has taken.
type gathering[V any] struct {
	p     *Partition[V]
	group *Group[V]
	items []*Item[V]
	most  int
	bytes int64
}

func (g *gathering[V]) full(next *Item[V]) bool {
	return len(g.items) >= g.most || next.size > g.bytes
}

func (g *gathering[V]) take(it *Item[V]) {
	it.state = running
	it.attempt++
	it.handed.Store(true)
	it.recall = g.p.recall
	it.slot = nil
	it.group = g.group
	g.bytes -= it.size
	g.items = append(g.items, it)
}

// run takes what waits behind it in its lane.
func (g *gathering[V]) run(it *Item[V]) {
	for next := it.behind; next != nil && !g.full(next); next = next.behind {
		if g.p.phase == draining && next.offset > g.p.limit {
			return
		}
		g.take(next)
		next.led = true
	}
}

// Settle books what became of messages of the group, the first too, whose slot
// stays in use until its work returns. Each is
// finished on its own, those of one key in their order: when one fails or is
// withdrawn, those behind it that were gathered with it go back behind it,
// untried, whatever is said of them: they are no longer of the group, and may be
// with another worker. A message that is settled already stays so.
func (of *Group[V]) Settle(its []*Item[V], outs []Outcome) {
	s := of.first.partition.set
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, it := range its {
		p := it.partition
		if p.phase == closed || it.group != of {
			continue
		}
		if it.slot != nil {
			it.slot.item, it.slot.settled = nil, it
			it.slot = nil
		}
		p.settle(it, outs[i])
		p.checkIdle()
	}
	for i, it := range its {
		if i == 0 || it.partition != its[i-1].partition {
			s.review(it.partition)
		}
	}
	s.wake()
}

// Alone returns the outcome with the wish that the next attempt is not gathered
// with others: the message made a batch of them fail.
func (o Outcome) Alone() Outcome {
	o.alone = true
	return o
}

// settle books it.
func (p *Partition[V]) settle(it *Item[V], out Outcome) {
	it.settle()
	it.group = nil
	it.alone = it.alone || out.alone
	switch {
	case it.led:
		p.putBack(it)
	case out.verdict == finished:
		it.started = true
		p.finish(it)
	case out.verdict == failed:
		it.started = true
		p.putBack(it.behind)
		p.retry(it, out.delay)
	case out.verdict == withdrawn:
		it.attempt--
		p.putBack(it.behind)
		p.withdraw(it)
	}
}

// putBack returns it, and what was gathered behind it, to the lane in which
// they follow one that is unfinished.
func (p *Partition[V]) putBack(it *Item[V]) {
	for ; it != nil && it.state == running; it = it.behind {
		it.attempt--
		it.led = false
		it.group = nil
		it.state = waiting
		if p.phase >= draining && it.offset > p.limit {
			it.state = dropped
		}
	}
}

// pick goes through what is ready and takes out what f says, until f wants no more.
func (q *queue[V]) pick(f func(*Item[V]) (take, more bool)) {
	var before *Item[V]
	for it, more := q.first, true; it != nil && more; {
		next := it.queued
		var take bool
		if take, more = f(it); take {
			if before == nil {
				q.first = next
			} else {
				before.queued = next
			}
			if q.last == it {
				q.last = before
			}
			it.queued = nil
		} else {
			before = it
		}
		it = next
	}
}
