package lanes

// Changed receives when Flow has something new to say.
func (s *Set[V]) Changed() <-chan struct{} { return s.changed }

// Flow returns the partitions that have come to ask to be paused or resumed since
// the last call.
func (s *Set[V]) Flow() (pause, resume []*Partition[V]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.partitions {
		if p.paused == p.told {
			continue
		}
		p.told = p.paused
		if p.paused {
			pause = append(pause, p)
		} else {
			resume = append(resume, p)
		}
	}
	return pause, resume
}

// review decides on p, and on those that waited for the totals to fall.
func (s *Set[V]) review(p *Partition[V]) {
	s.decide(p)
	if s.strained && s.paused > 0 && (2*s.counted <= s.limits.Pending || 2*s.bytes <= s.limits.Bytes) {
		s.strained = false
		s.reviewAll()
	}
}

// reviewAll decides on all, when totals or shares have changed.
func (s *Set[V]) reviewAll() {
	for p := range s.partitions {
		s.decide(p)
	}
}

// decide whether p shall be paused or resumed.
func (s *Set[V]) decide(p *Partition[V]) {
	switch {
	case p.phase != open:
	case !p.paused && s.full(p):
		p.paused = true
		s.paused++
		s.announce()
	case p.paused && s.low(p):
		s.resume(p)
	}
}

func (s *Set[V]) resume(p *Partition[V]) {
	p.paused = false
	s.paused--
	s.announce()
}

// full: p is past a bound of its own, or past its share of a total. Three
// quarters of a total are for whoever comes first, the last quarter is shared out
// in equal parts: a stuck partition cannot keep the others out.
func (s *Set[V]) full(p *Partition[V]) bool {
	l, n := s.limits, len(s.partitions)
	if s.halted || p.counted >= l.PartitionPending || len(p.log)-p.head >= l.RunAhead || p.bytes >= l.PartitionBytes {
		return true
	}
	if 4*s.counted >= 3*l.Pending && 4*n*p.counted >= l.Pending || 4*s.bytes >= 3*l.Bytes && 4*int64(n)*p.bytes >= l.Bytes {
		s.strained = true
		return true
	}
	return false
}

// low: p is at half of every bound; of a total that is not, it has half its share.
func (s *Set[V]) low(p *Partition[V]) bool {
	l, n := s.limits, len(s.partitions)
	if s.halted || 2*p.counted > l.PartitionPending || 2*(len(p.log)-p.head) > l.RunAhead || 2*p.bytes > l.PartitionBytes {
		return false
	}
	if (2*s.counted > l.Pending && 8*n*p.counted > l.Pending) || (2*s.bytes > l.Bytes && 8*int64(n)*p.bytes > l.Bytes) {
		s.strained = true
		return false
	}
	return true
}

func (s *Set[V]) announce() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Stats is what a partition holds at one moment.
type Stats struct {
	ID        int32
	Pending   int   // unfinished messages
	Bytes     int64 // of them, and of the places from the watermark to the newest message
	Held      int   // messages from the watermark to the newest
	Lanes     int   // active keys, and messages without one
	Running   int
	Sleeping  int // lanes that wait for their next attempt
	Watermark int64
	Next      int64 // above every offset added
	Paused    bool
}

// Stats returns the numbers of every partition, in no order.
func (s *Set[V]) Stats() []Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Stats, 0, len(s.partitions))
	for p := range s.partitions {
		all = append(all, Stats{
			ID: p.id, Pending: p.pending, Bytes: p.bytes, Held: len(p.log) - p.head,
			Lanes: len(p.lanes) + p.keyless, Running: p.running, Sleeping: p.asleep,
			Watermark: p.watermark, Next: p.next, Paused: p.paused,
		})
	}
	return all
}
