package publisher

import (
	"sync"
	"sync/atomic"
)

// call is one Publish: the records it brought, and what became of them.
type call struct {
	open atomic.Int64  // records without an outcome
	done chan struct{} // closed when there are none

	broken atomic.Bool // a key has failed: look into keys before adding more
	mu     sync.Mutex
	failed []failure
	keys   map[topicKey]struct{} // keys of which a record has failed
}

type failure struct {
	index   int
	topic   string
	err     error
	inDoubt bool
}

type topicKey struct{ topic, key string }

// record is one event on its way: what the queues hold.
type record struct {
	next  *record
	call  *call
	index int
	seq   uint64 // its place in the partition's queue
	key   []byte // nil: ordered with nothing
	body  []byte // key, value and headers, encoded
	piece *piece
	// settled is true when the call knows the outcome. Guarded by the
	// partition's mutex.
	settled bool
	// doubt is true when a broker may hold it although it is not acknowledged.
	doubt bool
}

// piece is records whose memory is one, so that any of them keeps all of it: the
// room in the buffer is given back for all, with the last (I8).
type piece struct {
	room amount
	held atomic.Int64 // records
}

// amount is room in the buffer.
type amount struct{ events, bytes int }

func newPiece(room amount) *piece {
	p := &piece{room: room}
	p.held.Store(int64(room.events))
	return p
}

// release says what room is free when n more records are held no longer.
func (p *piece) release(n int) amount {
	if p.held.Add(int64(-n)) == 0 {
		return p.room
	}
	return amount{}
}

// size bounds the bytes of r in a batch.
func (r *record) size() int { return len(r.body) + recordOverhead }

func newCall(n int) *call {
	c := &call{done: make(chan struct{})}
	c.open.Store(int64(n))
	return c
}

// settle counts n records as decided.
func (c *call) settle(n int) {
	if n > 0 && c.open.Add(int64(-n)) == 0 {
		close(c.done)
	}
}

// fail settles one record as not acknowledged. A key that failed holds back
// the call's later records of it (I2).
func (c *call) fail(key []byte, f failure) {
	c.mu.Lock()
	c.failed = append(c.failed, f)
	if key != nil {
		if c.keys == nil {
			c.keys = make(map[topicKey]struct{})
		}
		c.keys[topicKey{f.topic, string(key)}] = struct{}{}
		c.broken.Store(true)
	}
	c.mu.Unlock()
	c.settle(1)
}

// holdsBack says whether an earlier record of key failed in this call.
func (c *call) holdsBack(topic string, key []byte) bool {
	if key == nil || !c.broken.Load() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, is := c.keys[topicKey{topic, string(key)}]
	return is
}
