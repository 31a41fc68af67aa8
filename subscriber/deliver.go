package subscriber

import (
	"context"
	"sync"

	"github.com/tidings-bus/tidings/internal/delivery"
	"github.com/tidings-bus/tidings/internal/lanes"
)

// deliver is one attempt at one message: it offers it to the reader of the
// channel and waits for its ack or nack. A reader that takes from the feed makes
// more of it: the outcome is that of the last message.
func (s *subscription) deliver(it *lanes.Item[record]) lanes.Outcome {
	h := &handout{subscription: s, item: it, left: feedMost}
	first := h.begin(s.values)
	m := s.config.Unmarshal(first.Delivery().Record)
	m.SetContext(first)
	defer h.cancel()

	select {
	case s.out <- m:
		it.Handed()
	case <-it.Recall():
		return lanes.Withdrawn()
	}

	select {
	case <-m.Acked():
		return h.end(true)
	case <-m.Nacked():
		return h.end(false)
	case <-it.Canceled():
	}
	h.cancel()
	select {
	case <-m.Acked(): // it was done all the same
		return h.end(true)
	case <-m.Nacked():
		return h.end(false)
	case <-it.Gone():
		return lanes.Withdrawn()
	}
}

// feedMost is how many messages may follow one by its feed: the way through
// watermill is then a small part of each, and the others that wait for a reader
// get their turn soon.
const feedMost = 31

// handout is a watermill message that was handed out, and those that followed it
// by its feed.
type handout struct {
	*subscription

	mu       sync.Mutex
	item     *lanes.Item[record]
	attempt  *delivery.Context
	left     int // messages that may follow
	batch    batch
	canceled bool
	over     bool // acked or nacked
}

// begin starts the attempt at the item.
func (h *handout) begin(values context.Context) *delivery.Context {
	d := h.item.Value.delivery
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
	if h.left == 0 || h.canceled || h.batch.group != nil {
		return nil
	}
	next := h.item.Next()
	if next == nil {
		return nil
	}
	h.acked()
	h.attempt.Cancel()
	h.left--
	h.item = next
	return h.begin(values)
}

// cancel ends the attempt that runs; none follows.
func (h *handout) cancel() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.canceled = true
	h.attempt.Cancel()
}

func (s *subscription) acked() lanes.Outcome {
	s.metrics.acked.Inc()
	return lanes.Finished()
}

func (s *subscription) nacked(d *delivery.Delivery) lanes.Outcome {
	s.metrics.nacked.Inc()
	delay := d.RetryIn
	if delay <= 0 {
		delay = s.config.RetryDelay(d.Attempt)
	}
	if d.Alone {
		return lanes.RetryIn(delay).Alone()
	}
	return lanes.RetryIn(delay)
}
