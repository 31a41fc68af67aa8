package lanes

// queue holds the ready messages of a partition, first in, first out.
type queue[V any] struct{ first, last *Item[V] }

func (q *queue[V]) push(it *Item[V]) {
	it.queued = nil
	if q.last == nil {
		q.first = it
	} else {
		q.last.queued = it
	}
	q.last = it
}

func (q *queue[V]) pop() *Item[V] {
	it := q.first
	q.first = it.queued
	if q.first == nil {
		q.last = nil
	}
	it.queued = nil
	return it
}

// keep drops what is above limit.
func (q *queue[V]) keep(limit int64) {
	it := q.first
	q.first, q.last = nil, nil
	for it != nil {
		next := it.queued
		it.queued = nil
		if it.offset <= limit {
			q.push(it)
		} else {
			it.state = dropped
		}
		it = next
	}
}

// ring is a list of partitions that take turns.
type ring[V any] struct{ first, last *Partition[V] }

func (r *ring[V]) push(p *Partition[V]) {
	p.ring, p.previous, p.following = r, r.last, nil
	if r.last == nil {
		r.first = p
	} else {
		r.last.following = p
	}
	r.last = p
}

func (r *ring[V]) remove(p *Partition[V]) {
	if p.previous == nil {
		r.first = p.following
	} else {
		p.previous.following = p.following
	}
	if p.following == nil {
		r.last = p.previous
	} else {
		p.following.previous = p.previous
	}
	p.ring, p.previous, p.following = nil, nil, nil
}
