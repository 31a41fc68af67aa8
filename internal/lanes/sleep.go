package lanes

import "time"

// now is the monotonic time since the Set was made.
func (s *Set[V]) now() time.Duration { return time.Since(s.start) }

// sleep puts it aside until its next attempt.
func (s *Set[V]) sleep(it *Item[V], d time.Duration) {
	it.state = sleeping
	it.partition.asleep++
	it.wake = s.now() + d
	s.sleepers.push(it)
	if s.sleepers[0] == it {
		s.alarm(d)
	}
}

func (s *Set[V]) alarm(d time.Duration) {
	if s.timer == nil {
		s.timer = time.AfterFunc(d, s.rouse)
		return
	}
	s.timer.Reset(d)
}

// rouse wakes the lanes whose time has come.
func (s *Set[V]) rouse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	now := s.now()
	// Not all at once when there are many: others want the lock too.
	for n := 0; n < 1024 && len(s.sleepers) > 0 && s.sleepers[0].wake <= now; n++ {
		it := s.sleepers[0]
		s.sleepers.remove(it)
		it.partition.asleep--
		it.partition.enqueue(it)
	}
	if len(s.sleepers) > 0 {
		s.alarm(max(0, s.sleepers[0].wake-now))
	}
	s.wake()
}

// sleepers is a binary heap by the time of waking. A message knows its place, so
// that it can leave early.
type sleepers[V any] []*Item[V]

func (h *sleepers[V]) push(it *Item[V]) {
	it.place = int32(len(*h)) //nolint:gosec // bounded by what is pending
	*h = append(*h, it)
	h.up(len(*h) - 1)
}

func (h *sleepers[V]) remove(it *Item[V]) {
	last := len(*h) - 1
	i := int(it.place)
	h.swap(i, last)
	(*h)[last] = nil
	*h = (*h)[:last]
	if i < last {
		h.down(i)
		h.up(i)
	}
}

func (h *sleepers[V]) swap(i, j int) {
	s := *h
	s[i], s[j] = s[j], s[i]
	s[i].place, s[j].place = s[j].place, s[i].place
}

func (h *sleepers[V]) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if (*h)[parent].wake <= (*h)[i].wake {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h *sleepers[V]) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(*h) {
			return
		}
		if right := child + 1; right < len(*h) && (*h)[right].wake < (*h)[child].wake {
			child = right
		}
		if (*h)[i].wake <= (*h)[child].wake {
			return
		}
		h.swap(i, child)
		i = child
	}
}
