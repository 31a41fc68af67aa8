package lanes

// Pause lets nothing start any more until Resume: offers are recalled, sleeping
// lanes stay where they are when they wake, and every partition asks to be
// paused. What a handler has goes on, and is booked. A drain gives up at once
// what no handler has. It does not wait. Pausing twice is pausing once.
func (s *Set[V]) Pause() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.halted || s.closed {
		return
	}
	s.halted = true
	for p := range s.partitions {
		switch p.phase {
		case open:
			p.recallOffers()
		case draining:
			p.recallOffers()
			p.yield()
		case stopping, canceled, closed:
		}
	}
	s.reviewAll()
}

// Resume ends a pause.
func (s *Set[V]) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.halted {
		return
	}
	s.halted = false
	s.reviewAll()
	s.wake()
}

// recallOffers ends the offers that are out; later ones have another channel.
func (p *Partition[V]) recallOffers() {
	close(p.recall)
	p.recall = make(chan struct{})
}

// yield ends a drain with what the handlers have: nothing else may start.
func (p *Partition[V]) yield() {
	p.hasty = true
	for _, it := range p.log[p.head:] {
		// An offer that is being recalled gives itself up when it is booked.
		if it.state != done && it.state != running {
			p.abandon(it.offset)
			return
		}
	}
}
