package publisher

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/segmentio/kafka-go/protocol/rawproduce"
)

// partition is the queue of one partition, and the batch on its way from it.
//
// At most one goroutine sends, and at most one batch is in flight (I2). It
// lives while there is work: a lone record is sent at once, and what comes while
// a request is in flight shares the next one. A batch that fails is sent again
// before anything behind it.
type partition struct {
	pub    *Publisher
	topic  *topic
	id     int32
	leader atomic.Pointer[string] // address; nil while there is none

	wake chan struct{} // a record of the batch was given up

	mu         sync.Mutex
	head, tail *record // the queue
	seq        uint64  // of the last record queued
	busy       bool    // a goroutine sends
	retired    bool    // takes no more records
	idle       chan struct{}

	batch    []*record // records taken from the queue, in order
	inFlight bool      // the batch is with a broker
	lastErr  error     // why the batch was not acknowledged so far
	givenUp  map[string]span
	pruning  bool // the batch holds settled records
}

// span is what a failed record holds back: the records of its key that were
// queued after from, and up to to.
type span struct{ from, to uint64 }

func (s span) holds(r *record) bool {
	return r.key != nil && s.from < r.seq && r.seq <= s.to
}

func newPartition(t *topic, id int32) *partition {
	return &partition{pub: t.pub, topic: t, id: id, wake: make(chan struct{}, 1)}
}

// add queues one call's records, from first linked to last. It is false when the
// partition is retired: nothing was queued.
func (p *partition) add(c *call, first, last *record) bool {
	p.mu.Lock()
	if p.retired {
		p.mu.Unlock()
		return false
	}
	if c.broken.Load() {
		first, last = p.withoutBroken(c, first)
	}
	for r := first; r != nil; r = r.next {
		p.seq++
		r.seq = p.seq
	}
	if first != nil {
		if p.tail == nil {
			p.head = first
		} else {
			p.tail.next = first
		}
		p.tail = last
		if !p.busy {
			p.busy = true
			p.pub.hold()
			go p.send()
		}
	}
	p.mu.Unlock()
	return true
}

// withoutBroken takes the records out of the list whose key has failed in c.
func (p *partition) withoutBroken(c *call, first *record) (head, tail *record) {
	for r := first; r != nil; {
		next := r.next
		r.next = nil
		switch {
		case c.holdsBack(p.topic.name, r.key):
			p.fail(r, heldBack(errEarlierInCall))
		case tail == nil:
			head, tail = r, r
		default:
			tail.next = r
			tail = r
		}
		r = next
	}
	return head, tail
}

// send runs while there is work.
func (p *partition) send() {
	defer p.pub.leave()
	for p.takeBatch() {
		p.deliver()
	}
}

// takeBatch moves the next records from the queue to the batch; false when there
// are none, and the goroutine is to end.
func (p *partition) takeBatch() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.batch)
	p.batch = p.batch[:0]
	p.lastErr = nil
	clear(p.givenUp)
	p.pruning = false
	bytes := batchHeader
	for r := p.head; r != nil && len(p.batch) < p.pub.config.MaxBatchEvents; r = p.head {
		if len(p.batch) > 0 && bytes+r.size() > int(p.topic.batchBytes.Load()) {
			break
		}
		bytes += r.size()
		p.head = r.next
		r.next = nil
		p.batch = append(p.batch, r)
	}
	if p.head == nil {
		p.tail = nil
	}
	if len(p.batch) == 0 {
		p.busy = false
		p.batch = nil
		if p.idle != nil {
			close(p.idle)
			p.idle = nil
		}
		return false
	}
	return true
}

// deliver sends the batch until each of its records has an outcome, or went back
// to the queue.
func (p *partition) deliver() {
	var pause backoff
	for {
		if p.pub.aborted() {
			p.refuse(nil, ErrClosed, false)
			return
		}
		if !p.begin() {
			return
		}
		started := time.Now()
		a := p.attempt()
		p.end(a)
		switch a.verdict {
		case acked:
			p.acknowledge()
			return
		case refusedAll:
			p.refuse(nil, a.err, a.doubt)
			return
		case refusedOne:
			p.refuseSome(a)
			pause = backoff{}
			continue
		case again:
		}
		p.pub.metrics.retried(a.err)
		wait := pause.next()
		p.pub.config.Logger.Debug("produce request failed, it will be sent again",
			"topic", p.topic.name, "partition", p.id, "in", wait, "err", a.err)
		if a.stale {
			if err := p.topic.refresh(started); err != nil {
				p.refuse(nil, err, false)
				return
			}
		}
		p.wait(wait)
	}
}

// begin marks the batch as in flight, without the records that were given up;
// false when none is left.
func (p *partition) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.prune()
	p.inFlight = len(p.batch) > 0
	return p.inFlight
}

func (p *partition) end(a answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight = false
	p.lastErr = a.err
	if a.doubt {
		for _, r := range p.batch {
			r.doubt = true
		}
	}
}

// attempt sends the batch once.
func (p *partition) attempt() answer {
	leader := p.leader.Load()
	if leader == nil {
		return answer{verdict: again, stale: true, err: fmt.Errorf("partition %d of topic %q has no leader", p.id, p.topic.name)}
	}
	buffer := p.pub.buffers.Get().(*requestBuffer) //nolint:forcetypeassert // the pool holds nothing else
	defer p.pub.buffers.Put(buffer)
	started := time.Now()
	data, err := appendBatch(buffer.data[:0], p.batch, started, p.pub.codec)
	if err != nil {
		return answer{verdict: refusedAll, err: fmt.Errorf("compress by %s: %w", p.pub.config.Compression, err)}
	}
	buffer.data = data
	buffer.reader.Reset(data)
	m, err := p.pub.wire.roundTrip(p.pub.always, *leader, &rawproduce.Request{
		Acks:    -1, // every in-sync replica
		Timeout: int32(p.pub.config.RequestTimeout.Milliseconds() * 4 / 5),
		Topics: []rawproduce.RequestTopic{{
			Topic: p.topic.name,
			Partitions: []rawproduce.RequestPartition{{
				Partition: p.id,
				RecordSet: protocol.RawRecordSet{Reader: &buffer.reader},
			}},
		}},
	})
	p.pub.metrics.requested(time.Since(started), len(p.batch), len(data))
	if err != nil {
		return judgeError(err)
	}
	res, _ := m.(*produce.Response)
	if len(res.Topics) != 1 || len(res.Topics[0].Partitions) != 1 {
		return answer{verdict: again, doubt: true, err: fmt.Errorf("broker %s answered for %d topics, asked for one", *leader, len(res.Topics))}
	}
	return judge(&res.Topics[0].Partitions[0])
}

// wait sleeps for d, or until nobody waits for the batch any more.
func (p *partition) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return
		case <-p.pub.abort:
			return
		case <-p.wake:
			if p.abandoned() {
				return
			}
		}
	}
}

func (p *partition) abandoned() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.batch {
		if !r.settled {
			return false
		}
	}
	return true
}

// retire closes the queue to new records and returns a channel that is closed
// when the last one has its outcome; nil when it is empty already.
func (p *partition) retire() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retired = true
	if !p.busy {
		return nil
	}
	if p.idle == nil {
		p.idle = make(chan struct{})
	}
	return p.idle
}
