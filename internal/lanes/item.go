package lanes

import (
	"sync/atomic"
	"time"
)

// Item is one message in its lane. Work may use it until it returns.
type Item[V any] struct {
	Value V

	partition *Partition[V]
	slot      *slot[V] // of the worker that has it
	offset    int64
	size      int64
	room      *Room
	lane      *tally   // of its lane, if that ever had two messages at a time
	cell      *cell[V] // of its tenant, if the Set is fair
	key       string   // "": orders nothing
	attempt   int32
	place     int32 // in the heap of sleepers
	state     state
	counted   bool          // against what may be pending, see tally
	started   bool          // some attempt reached a handler
	unsettled bool          // a drain waits to know whether it was handed over
	group     *Group[V]     // that has it; nil: none
	led       bool          // it was gathered behind another one of its key that is unfinished
	alone     bool          // not to be gathered with others
	handed    atomic.Bool   // this attempt reached a handler
	recall    chan struct{} // of this attempt
	behind    *Item[V]      // the next one of its key
	queued    *Item[V]      // the next ready one of its partition
	wake      time.Duration // when sleeping, since Set.start
}

type state uint8

const (
	waiting  state = iota // behind another one of its key
	ready                 // for a worker
	running               // with a worker
	sleeping              // until its next attempt
	done                  // finished
	dropped               // left to the next owner of the partition
)

// Attempt counts the runs of this message, this one included.
func (it *Item[V]) Attempt() int { return int(it.attempt) }

// Offset is the message's place in its partition.
func (it *Item[V]) Offset() int64 { return it.offset }

// Partition is where the message belongs.
func (it *Item[V]) Partition() *Partition[V] { return it.partition }

// Handed tells the Set that a handler has the message now. Work that offers
// messages (Config.Offers) calls it as soon as one is taken: a drain leaves alone
// what no handler has seen.
func (it *Item[V]) Handed() {
	it.handed.Store(true)
	p := it.partition
	if p.settling.Load() {
		p.set.mu.Lock()
		it.settle()
		p.set.mu.Unlock()
	}
}

// Next books the message as finished and gives its slot to another one that is
// ready in its partition, already handed over; what Work returns is then the
// outcome of that one. Its Canceled and Gone are the same channels. It returns
// nil, and has booked nothing, when none is ready, when other partitions wait
// for the slot, and when the partition drains. It never blocks.
func (it *Item[V]) Next() *Item[V] {
	s := it.partition.set
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.follow(it)
}

// Recall is closed when an offer that nobody has taken yet must be withdrawn.
func (it *Item[V]) Recall() <-chan struct{} { return it.recall }

// Canceled is closed when the handler shall stop: the partition is lost, or its
// drain took too long.
func (it *Item[V]) Canceled() <-chan struct{} { return it.partition.canceled }

// Gone is closed when the partition is closed: the outcome counts no more.
func (it *Item[V]) Gone() <-chan struct{} { return it.partition.gone }

// settle answers the drain that waits to know whether it was handed over.
func (it *Item[V]) settle() {
	if it.unsettled {
		it.unsettled = false
		p := it.partition
		if p.unsettled--; p.unsettled == 0 {
			p.signal()
		}
	}
}
