package lanes

import (
	"fmt"
	"sync/atomic"
	"time"
)

// Partition is one ordered log of the Set: its lanes and its watermark.
type Partition[V any] struct {
	set *Set[V]
	id  int32

	log   []*Item[V]          // by offset, from the oldest unfinished on
	head  int                 // log[:head] is behind the watermark
	lanes map[string]*Item[V] // the last message of each active key
	ready queue[V]            // unless the Set is fair: then each tenant's are in its cell

	cells    map[string]*cell[V]
	cellHeap cells[V]

	next      int64 // above every offset added
	watermark int64 // everything below is finished; -1: nothing is

	pending  int
	counted  int // of them, see Set.counted
	keyless  int // of them, without a key
	running  int
	asleep   int
	bytes    int64
	paused   bool // asks to be paused
	told     bool // what Flow said last
	ring     *ring[V]
	previous *Partition[V]
	// following is the partition whose turn is next.
	following *Partition[V]

	phase     phase
	limit     int64 // while draining: what is above does not run any more
	left      int   // while draining: unfinished messages up to limit
	unsettled int   // offers of which the drain does not know yet
	settling  atomic.Bool
	hasty     bool          // drain: the time for retries is over
	patience  time.Duration // drain: when it will be, since Set.start
	recall    chan struct{} // the offers that are out end when it closes
	canceled  chan struct{}
	gone      chan struct{}
	event     chan struct{} // wakes the one who drains
	arrived   chan struct{} // see Item.Arrived; nil: nobody asked
}

type phase uint8

const (
	open     phase = iota
	stopping       // finding out which messages have started
	draining       // finishing what is below the highest of them
	canceled       // nothing starts any more
	closed
)

// Entry is a message to add.
type Entry[V any] struct {
	Offset int64
	Key    []byte // copied; null or empty orders nothing
	Size   int    // bytes that it holds in memory until it is finished
	Room   *Room  // besides, shared with others; or nil
	Tenant string // whose it is, if the Set is fair
	Value  V
	// Skip adds only the offset, as finished: a place of the log that holds no
	// message, such as a transaction's marker.
	Skip bool
}

// OrderError says that an offset was not above those added before it: the log
// went back, as after an unclean change of its leader.
type OrderError struct {
	Offset, Next int64
}

func (e *OrderError) Error() string {
	return fmt.Sprintf("offset %d added where %d or above was due: close the partition and open it anew", e.Offset, e.Next)
}

// Open adds a partition to the Set. The id is for the caller's use.
func (s *Set[V]) Open(id int32) *Partition[V] {
	p := &Partition[V]{
		set:       s,
		id:        id,
		lanes:     map[string]*Item[V]{},
		watermark: -1,
		recall:    make(chan struct{}),
		canceled:  make(chan struct{}),
		gone:      make(chan struct{}),
		event:     make(chan struct{}, 1),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.partitions[p] = struct{}{}
	s.share()
	s.reviewAll()
	return p
}

// ID is what Open was given.
func (p *Partition[V]) ID() int32 { return p.id }

// Add puts messages at the end of the partition, by rising offsets; gaps are
// fine. It never blocks: heed Flow. A partition that drains or is closed takes
// nothing, silently. On an OrderError the messages before it were added.
func (p *Partition[V]) Add(entries ...Entry[V]) error {
	s := p.set
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.phase != open {
		return nil
	}
	defer s.wake()
	defer s.review(p)
	for i := range entries {
		e := &entries[i]
		if e.Offset < p.next {
			return &OrderError{Offset: e.Offset, Next: p.next}
		}
		p.next = e.Offset + 1
		if e.Skip {
			p.skip(e.Offset)
			continue
		}
		it := &Item[V]{Value: e.Value, partition: p, offset: e.Offset, size: int64(e.Size), room: e.Room, cell: p.cellOf(e.Tenant)}
		p.log = append(p.log, it)
		p.hold(s.place)
		if len(e.Key) == 0 {
			p.keyless++
			p.charge(it)
			p.enqueue(it)
		} else if last := p.lanes[string(e.Key)]; last == nil {
			it.key = string(e.Key)
			p.lanes[it.key] = it
			p.charge(it)
			p.enqueue(it)
		} else {
			if last.lane == nil {
				last.lane = &tally{}
				if last.counted {
					last.lane.counted = 1
				}
			}
			it.key, it.lane = last.key, last.lane
			p.charge(it)
			last.behind = it
			p.lanes[it.key] = it
		}
	}
	return nil
}

func (p *Partition[V]) skip(offset int64) {
	if p.head == len(p.log) {
		p.watermark = offset + 1
		return
	}
	p.log = append(p.log, &Item[V]{partition: p, offset: offset, state: done})
	p.hold(p.set.place)
}

// Watermark is the next offset to commit; ok is false while nothing is finished.
func (p *Partition[V]) Watermark() (next int64, ok bool) {
	p.set.mu.Lock()
	defer p.set.mu.Unlock()
	return p.watermark, p.watermark >= 0
}

// enqueue makes it ready to run.
func (p *Partition[V]) enqueue(it *Item[V]) {
	it.state = ready
	p.push(it)
	p.queue()
	if p.arrived != nil {
		p.announce()
	}
}

// queue puts p where its state belongs: into the turns of those that could run a
// message now, at the end, or out of them.
func (p *Partition[V]) queue() {
	var want *ring[V]
	if p.running < p.set.limits.PartitionRunning && p.phase != closed && p.hasReady() {
		switch p.phase {
		case open:
			want = &p.set.feeding
		case draining:
			want = &p.set.draining
		case stopping, canceled, closed:
		}
	}
	if p.ring != nil {
		if p.ring == want && p.following == nil {
			return
		}
		p.ring.remove(p)
	}
	if want != nil {
		want.push(p)
	}
}

func (p *Partition[V]) finish(it *Item[V]) {
	var zero V
	it.state = done
	it.Value = zero // the message may be large, the place is small
	p.discharge(it)
	if p.phase == draining && it.offset <= p.limit {
		p.left--
	}
	next := it.behind
	it.behind = nil
	switch {
	case it.key == "":
		p.keyless--
	case next == nil:
		delete(p.lanes, it.key)
	case next.state == running: // gathered with it: it heads the lane now
		next.led = false
	case p.phase == open || p.phase == stopping || p.phase == draining && next.offset <= p.limit:
		p.enqueue(next)
	}
	p.advance()
}

// advance moves the watermark over what is finished.
func (p *Partition[V]) advance() {
	for p.head < len(p.log) && p.log[p.head].state == done {
		it := p.log[p.head]
		p.watermark = it.offset + 1
		p.hold(-p.set.place)
		p.log[p.head] = nil
		p.head++
	}
	if p.head == len(p.log) {
		p.log, p.head = p.log[:0], 0
	} else if p.head >= 1024 && 2*p.head >= len(p.log) {
		n := copy(p.log, p.log[p.head:])
		clear(p.log[n:])
		p.log, p.head = p.log[:n], 0
	}
}

func (p *Partition[V]) retry(it *Item[V], d time.Duration) {
	switch {
	case p.phase == canceled:
		it.state = dropped
	case p.phase == draining && (p.hasty || it.offset > p.limit || p.set.now()+d > p.patience):
		p.abandon(it.offset)
		it.state = dropped
	case d <= 0:
		p.enqueue(it)
	default:
		p.set.sleep(it, d)
	}
}

func (p *Partition[V]) withdraw(it *Item[V]) {
	switch {
	case p.phase == canceled || p.phase == draining && it.offset > p.limit:
		it.state = dropped
	case p.phase == draining && p.hasty:
		p.abandon(it.offset)
		it.state = dropped
	default:
		p.enqueue(it)
	}
}
