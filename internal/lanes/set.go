package lanes

import (
	"sync"
	"time"
)

// Set runs the messages of several partitions within common limits. It starts
// its workers as they are needed, Limits.Running at most, and keeps them until
// Close. All methods may be called from any goroutine.
type Set[V any] struct {
	work    func(*Item[V]) Outcome
	offers  bool
	limits  Limits
	changed chan struct{} // see Changed
	workers sync.WaitGroup

	mu         sync.Mutex
	wanted     sync.Cond // an idle worker waits here
	idle       int       // workers that wait
	started    int       // workers that live
	closed     bool
	halted     bool // by Pause
	partitions map[*Partition[V]]struct{}

	running  int // messages with workers
	reserve  int // slots that each partition can count on
	reserved int // of these, the unused
	counted  int // unfinished messages, of each lane and tenant its share at most
	bytes    int64

	laneShare   int
	tenantShare int
	place       int64 // see Config.Place

	paused   int  // partitions that ask to be paused
	strained bool // a partition may be paused for the totals' sake alone

	fair     *fair[V] // nil: all messages are one tenant's
	draining ring[V]  // partitions with a ready message and a slot of their own; these first
	feeding  ring[V]

	sleepers sleepers[V]
	timer    *time.Timer
	start    time.Time // sleepers count from here, by the monotonic clock
}

// Limits bound a Set. All must be positive, a partition's at most the total's,
// and RunAhead at least PartitionPending.
type Limits struct {
	Running          int   // messages with workers
	PartitionRunning int   //
	Pending          int   // unfinished messages, of each key and tenant its share at most
	PartitionPending int   //
	RunAhead         int   // messages from the watermark to the newest, per partition
	Bytes            int64 // of unfinished messages, and of the places of finished ones above the watermark
	PartitionBytes   int64 //
}

// Config makes a Set.
type Config[V any] struct {
	Limits Limits
	// Work runs one attempt at a message and says what became of it. It is
	// called by many workers at once. It must return when Item.Gone is closed.
	Work func(*Item[V]) Outcome
	// Offers says that Work offers messages to somebody and calls Item.Handed
	// when one is taken. Otherwise it has them from the start.
	Offers bool
	// Place is how many bytes the place of a message takes until the watermark
	// has passed it, finished or not: counted besides Entry.Size.
	Place int64
	// Fair, when set, shares the slots among the tenants that entries name.
	Fair *Fairness
}

// Outcome is what Work says of its attempt: Finished, RetryIn or Withdrawn.
type Outcome struct {
	verdict verdict
	delay   time.Duration
	alone   bool // the next attempt gathers no others
}

type verdict int

const (
	finished verdict = iota
	failed
	withdrawn
)

// Finished says that the message is done with: the watermark may pass it.
func Finished() Outcome { return Outcome{verdict: finished} }

// RetryIn says that the attempt failed: the lane sleeps for d, then the same
// message runs again. With d <= 0 it queues at once.
func RetryIn(d time.Duration) Outcome { return Outcome{verdict: failed, delay: d} }

// Withdrawn says that nobody took the message before Item.Recall was closed: the
// attempt does not count.
func Withdrawn() Outcome { return Outcome{verdict: withdrawn} }

// New makes a Set without partitions.
func New[V any](config Config[V]) *Set[V] {
	s := &Set[V]{
		work:       config.Work,
		offers:     config.Offers,
		limits:     config.Limits,
		changed:    make(chan struct{}, 1),
		partitions: map[*Partition[V]]struct{}{},
		start:      time.Now(),

		laneShare:   config.Limits.laneShare(),
		tenantShare: config.Limits.tenantShare(),
		place:       config.Place,
		fair:        newFair[V](config.Fair, config.Limits),
	}
	s.wanted.L = &s.mu
	return s
}

// Close ends the workers and waits for them. Every partition is closed first, as
// by Partition.Close.
func (s *Set[V]) Close() {
	s.mu.Lock()
	for p := range s.partitions {
		p.close()
	}
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.wanted.Broadcast()
	s.mu.Unlock()
	s.workers.Wait()
}

// slot is a worker's place: the message it has now. Item.Next changes it, and
// Set.Settle empties it.
type slot[V any] struct {
	item    *Item[V]
	settled *Item[V] // whose slot it is, when that was settled before its work returned
}

// run is one worker.
func (s *Set[V]) run() {
	var mine slot[V]
	var out Outcome
	for {
		it := s.turn(&mine, out)
		if it == nil {
			return
		}
		mine.item, it.slot = it, &mine
		out = s.work(it)
	}
}

// turn ends a worker's work on what it had and takes its next message, under one
// lock; nil ends the worker.
func (s *Set[V]) turn(mine *slot[V], out Outcome) *Item[V] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if it := mine.settled; it != nil {
		mine.settled = nil
		s.vacate(it)
	} else if mine.item != nil {
		s.book(mine.item, out)
	}
	return s.await()
}

// step is turn for a worker whose message was not settled before.
func (s *Set[V]) step(last *Item[V], out Outcome) *Item[V] {
	return s.turn(&slot[V]{item: last}, out)
}

// await returns what a worker does next, when there is something.
func (s *Set[V]) await() *Item[V] {
	for !s.closed {
		if p := s.pick(); p != nil {
			it := s.take(p)
			s.wake() // each worker wakes one more while there is work
			return it
		}
		s.idle++
		s.wanted.Wait()
		s.idle--
	}
	s.started--
	return nil
}

// vacate frees the slot of a worker whose message was settled before.
func (s *Set[V]) vacate(it *Item[V]) {
	p := it.partition
	s.release(it)
	p.checkIdle()
	s.review(p)
}

func (s *Set[V]) book(it *Item[V], out Outcome) {
	p := it.partition
	s.release(it)
	if p.phase == closed {
		return
	}
	p.settle(it, out)
	p.checkIdle()
	s.review(p)
}

// follow books it as finished and hands its slot on within its partition; see
// Item.Next. Nobody needs to be woken: whatever may run besides had a worker on
// its way before, for the slots in use stay the same.
func (s *Set[V]) follow(it *Item[V]) *Item[V] {
	p := it.partition
	if s.halted || p.phase != open || !p.hasReady() && it.behind == nil || s.waited(p) {
		return nil
	}
	it.started = true
	if s.fair != nil {
		s.fair.end(it)
	}
	p.finish(it)
	next := p.pop()
	if s.fair != nil {
		s.fair.begin(next)
	}
	next.state = running
	next.attempt++
	next.handed.Store(true)
	next.recall = p.recall
	if next.slot = it.slot; next.slot != nil {
		next.slot.item = next
	}
	p.queue()
	s.review(p)
	return next
}

// waited tells whether another partition than p has no slot to go on in.
func (s *Set[V]) waited(p *Partition[V]) bool {
	if s.fair != nil {
		return s.pickOf(s.limits.Running-s.running+1) != p
	}
	if s.limits.Running-s.running > s.reserved {
		return false
	}
	return s.draining.first != nil || s.feeding.first != nil && (s.feeding.first != p || p.following != nil)
}

// wake gets one more worker going when there is something it may run.
func (s *Set[V]) wake() {
	switch {
	case s.closed || s.pick() == nil:
	case s.idle > 0:
		s.wanted.Signal()
	case s.started < s.limits.Running:
		s.started++
		s.workers.Go(s.run)
	}
}

// pick returns the partition whose turn it is, or nil when nothing may run.
func (s *Set[V]) pick() *Partition[V] { return s.pickOf(s.limits.Running - s.running) }

// pickOf is pick with so many slots free.
func (s *Set[V]) pickOf(free int) *Partition[V] {
	if free <= 0 || s.halted {
		return nil
	}
	if s.draining.first != nil {
		return s.draining.first
	}
	if s.fair != nil {
		return s.fairest(free <= s.reserved)
	}
	if free > s.reserved {
		return s.feeding.first
	}
	for p := s.feeding.first; p != nil; p = p.following {
		if p.running < s.reserve {
			return p
		}
	}
	return nil
}

// take gives p's next message a slot.
func (s *Set[V]) take(p *Partition[V]) *Item[V] {
	it := p.pop()
	if s.fair != nil {
		s.fair.begin(it)
	}
	if p.running < s.reserve {
		s.reserved--
	}
	p.running++
	s.running++
	it.state = running
	it.attempt++
	it.handed.Store(!s.offers)
	it.recall = p.recall
	p.queue()
	return it
}

// release frees the slot of it.
func (s *Set[V]) release(it *Item[V]) {
	p := it.partition
	s.running--
	p.running--
	if s.fair != nil {
		s.fair.end(it)
	}
	if p.phase == closed {
		return
	}
	if p.running < s.reserve {
		s.reserved++
	}
	p.queue()
}

// share reckons anew what each partition can count on, after one came or went: a
// quarter of all slots in equal parts, and one at least while there are enough.
func (s *Set[V]) share() {
	n := len(s.partitions)
	s.reserve, s.reserved = 0, 0
	if n == 0 {
		return
	}
	s.reserve = s.limits.Running / (4 * n)
	if s.reserve == 0 && n <= s.limits.Running {
		s.reserve = 1
	}
	s.reserve = min(s.reserve, s.limits.PartitionRunning)
	for p := range s.partitions {
		s.reserved += max(0, s.reserve-p.running)
	}
}
