package publisher

import (
	"context"
	"fmt"
	"slices"

	"github.com/tidings-bus/tidings/event"
)

const (
	// A call goes through the buffer in pieces, so that one larger than the
	// buffer passes too, and so that it holds only one piece encoded outside it.
	pieceEvents = 1000
	pieceBytes  = 1 << 20
)

// source gives the i-th record of a call and its topic, or why it has none.
type source func(i int) (topic string, r event.KafkaRecord, err error)

// publish sends n records and returns those that were not acknowledged.
func (p *Publisher) publish(ctx context.Context, n int, at source) ([]failure, error) {
	if err := p.enter(); err != nil {
		return nil, fmt.Errorf("publish: %w", err)
	}
	defer p.leave()
	s := sending{pub: p, call: newCall(n), at: at, n: n}
	for s.next < n && ctx.Err() == nil {
		s.piece(ctx)
	}
	for ; s.next < n; s.next++ {
		s.refuse(s.next, "", nil, context.Cause(ctx))
	}
	select {
	case <-s.call.done:
	case <-ctx.Done():
		for _, q := range s.touched {
			q.withdraw(s.call, ctx)
		}
		<-s.call.done // by now every record has its outcome
	}
	return s.call.failed, nil
}

// sending is one call on its way into the queues.
type sending struct {
	pub     *Publisher
	call    *call
	at      source
	n       int
	next    int          // the first record that was not looked at
	touched []*partition // those that have, or had, records of the call

	topic   *topic           // the last one looked up
	refused map[string]error // topics that cannot be published to
}

// taken is a record of the piece at hand.
type taken struct {
	index  int
	size   int // of its body
	topic  *topic
	record event.KafkaRecord
}

// piece takes the next records, waits for room, and queues them. Each of them
// is then queued or failed.
func (s *sending) piece(ctx context.Context) {
	records, room, bodies := s.take(ctx)
	if len(records) == 0 {
		return
	}
	if err := s.pub.budget.take(ctx, room.events, room.bytes); err != nil {
		for _, r := range records {
			s.refuse(r.index, r.topic.name, r.record.Key, fmt.Errorf("waiting for room in the publisher's buffer: %w", context.Cause(ctx)))
		}
		return
	}
	buffer := make([]byte, 0, bodies)
	held := newPiece(room)
	slab := make([]record, len(records))
	for i := range records {
		from := len(buffer)
		buffer = appendBody(buffer, &records[i].record)
		slab[i] = record{call: s.call, index: records[i].index, key: records[i].record.Key, body: buffer[from:len(buffer):len(buffer)], piece: held}
	}
	for from, to := 0, 0; from < len(records); from = to {
		t := records[from].topic
		for to < len(records) && records[to].topic == t {
			to++
		}
		s.spread(ctx, t, slab[from:to])
	}
}

// take looks at the next records: as many as make a piece. Those that cannot be
// published are failed.
func (s *sending) take(ctx context.Context) (records []taken, room amount, bodies int) {
	limits := &s.pub.config
	maxEvents := min(pieceEvents, limits.MaxBufferedEvents, s.n-s.next)
	maxBytes := min(pieceBytes, limits.MaxBufferedBytes)
	records = make([]taken, 0, maxEvents)
	for ; s.next < s.n && len(records) < maxEvents; s.next++ {
		name, r, err := s.at(s.next)
		if err == nil {
			err = s.resolve(ctx, name)
		}
		size := bodySize(&r)
		cost := size + recordOverhead
		switch {
		case err != nil:
		case s.call.holdsBack(name, r.Key):
			err = heldBack(errEarlierInCall)
		case cost > limits.MaxBufferedBytes:
			err = fmt.Errorf("%w: %d bytes, MaxBufferedBytes is %d: raise it, or keep the data elsewhere and publish a reference to it",
				ErrTooLarge, cost, limits.MaxBufferedBytes)
		}
		if err != nil {
			s.refuse(s.next, name, r.Key, err)
			continue
		}
		if len(records) > 0 && room.bytes+cost > maxBytes {
			break // it opens the next piece
		}
		records = append(records, taken{s.next, size, s.topic, r})
		room.events++
		room.bytes += cost
		bodies += size
	}
	return records, room, bodies
}

// resolve sets s.topic, once its partitions are known.
func (s *sending) resolve(ctx context.Context, name string) error {
	if s.topic != nil && s.topic.name == name {
		return nil
	}
	if err := s.refused[name]; err != nil {
		return err
	}
	t := s.pub.topic(name)
	if _, err := t.ready(ctx); err != nil {
		if s.refused == nil {
			s.refused = make(map[string]error)
		}
		s.refused[name] = err
		return err
	}
	s.topic = t
	return nil
}

// refuse fails a record that is in no queue.
func (s *sending) refuse(index int, topic string, key []byte, err error) {
	s.pub.metrics.failed(topic, false)
	s.call.fail(key, failure{index: index, topic: topic, err: err})
}

// spread adds records of one topic to its partitions, in order, or fails them.
// There is room for them in the buffer.
func (s *sending) spread(ctx context.Context, t *topic, records []record) {
	for len(records) > 0 {
		layout, err := t.ready(ctx)
		if err != nil {
			for i := range records {
				s.refuse(records[i].index, t.name, records[i].key, err)
			}
			s.pub.free(records[0].piece.release(len(records)))
			return
		}
		if len(records) == 1 {
			q := layout.choose(t, records[0].key, len(records[0].body))
			if s.add(q, &records[0], &records[0]) {
				return
			}
			continue
		}
		records = s.spreadOver(layout, t, records)
	}
}

// spreadOver returns the records that were not added because their partition
// was retired meanwhile.
func (s *sending) spreadOver(layout *layout, t *topic, records []record) []record {
	type chain struct {
		first, last *record
		added       bool
	}
	chains := make([]chain, len(layout.partitions))
	at := make([]int32, len(records))
	for i := range records {
		r := &records[i]
		at[i] = layout.choose(t, r.key, len(r.body)).id
		c := &chains[at[i]]
		if c.first == nil {
			c.first = r
		} else {
			c.last.next = r
		}
		c.last = r
	}
	missed := false
	for id := range chains {
		c := &chains[id]
		if c.first != nil {
			c.added = s.add(layout.partitions[id], c.first, c.last)
			missed = missed || !c.added
		}
	}
	if !missed {
		return nil
	}
	var rest []record
	for i := range records {
		if !chains[at[i]].added {
			records[i].next = nil
			rest = append(rest, records[i])
		}
	}
	return rest
}

func (s *sending) add(q *partition, first, last *record) bool {
	if !q.add(s.call, first, last) {
		return false
	}
	if !slices.Contains(s.touched, q) {
		s.touched = append(s.touched, q)
	}
	return true
}
