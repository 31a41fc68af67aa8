package pathmodel

import (
	"context"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tidings-bus/tidings/internal/delivery"
	"github.com/tidings-bus/tidings/internal/lanes"
)

// reader is a member's subscriber: real lanes over the world's log, used as
// package subscriber uses them.
type reader struct {
	delivery.Feeder

	world      *world
	member     *member
	limits     lanes.Limits
	patience   time.Duration
	set        *lanes.Set[*delivery.Delivery]
	out        chan *message.Message
	values     context.Context
	feeds      bool
	bell       chan struct{} // the log has grown, or a partition was opened
	subscribed chan struct{}

	mu    sync.Mutex
	parts map[int32]*part
}

// part is a partition that the reader has.
type part struct {
	lanes  *lanes.Partition[*delivery.Delivery]
	next   int64 // to add
	paused bool
}

func newReader(w *world, m *member) *reader {
	l := lanes.Limits{Running: 64, PartitionRunning: 32, Pending: 1000, PartitionPending: 500, RunAhead: 1000, Bytes: 1 << 20, PartitionBytes: 1 << 20}
	if w.chance(3) { // little of everything: pauses, and lanes that wait for slots
		l.Running, l.PartitionRunning = 2, 1+w.random.IntN(2)
		l.Pending, l.PartitionPending, l.RunAhead = 8, 4+w.random.IntN(4), 8+w.random.IntN(8)
	}
	return &reader{
		world: w, member: m, limits: l, patience: time.Duration(w.random.IntN(3000)) * time.Millisecond,
		bell: make(chan struct{}, 1), subscribed: make(chan struct{}), parts: map[int32]*part{},
	}
}

// Subscribe implements message.Subscriber.
func (r *reader) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	r.values, r.feeds = ctx, delivery.IsWithFeed(ctx)
	r.out = make(chan *message.Message)
	r.set = lanes.New(lanes.Config[*delivery.Delivery]{Limits: r.limits, Work: r.deliver, Offers: true, Place: 16})
	close(r.subscribed)
	go r.run(ctx)
	return r.out, nil
}

// Close implements message.Subscriber.
func (r *reader) Close() error { return nil }

// run feeds the lanes until ctx ends, and gives up what it has then.
func (r *reader) run(ctx context.Context) {
	defer close(r.out)
	defer r.set.Close()
	for {
		select {
		case <-ctx.Done():
			for _, id := range r.has() {
				if r.member.isDead() {
					r.drop(id)
				} else {
					r.giveUp(id)
				}
			}
			return
		case <-r.bell:
		case <-r.set.Changed():
		}
		r.pump()
	}
}

func (r *reader) ring() {
	select {
	case r.bell <- struct{}{}:
	default:
	}
}

// pump adds what the log has and the lanes would take.
func (r *reader) pump() {
	for more := true; more; {
		more = false
		pause, resume := r.set.Flow()
		r.mu.Lock()
		for _, p := range r.parts {
			for _, l := range pause {
				p.paused = p.paused || l == p.lanes
			}
			for _, l := range resume {
				p.paused = p.paused && l != p.lanes
			}
		}
		for id, p := range r.parts {
			if p.paused {
				continue
			}
			fetched := r.world.fetch(id, p.next, 3)
			if len(fetched) == 0 {
				continue
			}
			more = true
			entries := make([]lanes.Entry[*delivery.Delivery], 0, len(fetched))
			for _, it := range fetched {
				d := &delivery.Delivery{Topic: topic, Partition: id, Offset: it.offset, Time: it.at, Record: it.record}
				entries = append(entries, lanes.Entry[*delivery.Delivery]{Offset: it.offset, Key: it.record.Key, Size: 100, Value: d})
				p.next = it.offset + 1
			}
			if err := p.lanes.Add(entries...); err != nil {
				r.world.t.Errorf("add to the lanes: %v", err)
			}
		}
		r.mu.Unlock()
	}
}

// open begins with a partition where the group has committed it.
func (r *reader) open(id int32) {
	r.mu.Lock()
	r.parts[id] = &part{lanes: r.set.Open(id), next: r.world.begin(id)}
	r.mu.Unlock()
	r.ring()
}

func (r *reader) has() []int32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := make([]int32, 0, len(r.parts))
	for id := range r.parts {
		ids = append(ids, id)
	}
	return ids
}

func (r *reader) take(id int32) *part {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.parts[id]
	delete(r.parts, id)
	return p
}

// commit commits what is finished of a partition.
func (r *reader) commit(id int32) {
	r.mu.Lock()
	p := r.parts[id]
	r.mu.Unlock()
	if p != nil {
		r.world.commit(id, p.lanes)
	}
}

// giveUp drains a partition and commits it.
func (r *reader) giveUp(id int32) {
	p := r.take(id)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if !p.lanes.Drain(ctx, r.patience) {
		r.cancel(p)
	}
	r.world.commit(id, p.lanes)
	p.lanes.Close()
}

// drop ends a partition at once; nothing is committed.
func (r *reader) drop(id int32) {
	p := r.take(id)
	r.cancel(p)
	p.lanes.Close()
}

func (r *reader) cancel(p *part) {
	p.lanes.Cancel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if !p.lanes.Idle(ctx) {
		r.world.t.Error("handlers do not end when they are cancelled")
	}
}

// deliver is one attempt at one message, and at those that follow by its feed.
func (r *reader) deliver(it *lanes.Item[*delivery.Delivery]) lanes.Outcome {
	h := &handout{reader: r, item: it, left: 5}
	first := h.begin(r.values)
	m := message.NewMessage("", first.Delivery().Record.Value)
	m.SetContext(first)
	defer h.cancel()
	select {
	case r.out <- m:
		it.Handed()
	case <-it.Recall():
		return lanes.Withdrawn()
	}
	select {
	case <-m.Acked():
		return lanes.Finished()
	case <-m.Nacked():
		return h.nacked()
	case <-it.Canceled():
	}
	h.cancel()
	select {
	case <-m.Acked(): // it was done all the same
		return lanes.Finished()
	case <-m.Nacked():
		return h.nacked()
	case <-it.Gone():
		return lanes.Withdrawn()
	}
}

// handout is a message that was handed out, and those that follow it.
type handout struct {
	*reader

	mu       sync.Mutex
	item     *lanes.Item[*delivery.Delivery]
	attempt  *delivery.Context
	left     int
	canceled bool
}

func (h *handout) begin(values context.Context) *delivery.Context {
	d := h.item.Value
	d.Attempt, d.RetryIn, d.Alone, d.Feed = h.item.Attempt(), 0, false, nil
	if h.feeds {
		d.Feed = h
	}
	h.attempt = delivery.Start(values, d)
	return h.attempt
}

// Next implements delivery.Feed.
func (h *handout) Next(values context.Context) *delivery.Context {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.left == 0 || h.canceled {
		return nil
	}
	next := h.item.Next()
	if next == nil {
		return nil
	}
	h.attempt.Cancel()
	h.left--
	h.item = next
	return h.begin(values)
}

func (h *handout) cancel() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.canceled = true
	h.attempt.Cancel()
}

func (h *handout) nacked() lanes.Outcome {
	h.mu.Lock()
	defer h.mu.Unlock()
	return lanes.RetryIn(max(h.item.Value.RetryIn, time.Millisecond))
}
