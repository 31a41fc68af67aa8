package subscriber

import (
	"github.com/tidings-bus/tidings/internal/delivery"
	"github.com/tidings-bus/tidings/internal/lanes"
)

// batchSlots is how many batches of one partition may run side by side, retries
// of single messages included: while one commits another forms, and with more
// they would only be smaller.
const batchSlots = 4

// batch is what a handout has gathered, its first message included.
type batch struct {
	group      *lanes.Group[record] // nil: nothing is gathered
	items      []*lanes.Item[record]
	deliveries []*delivery.Delivery
	settled    []bool
}

// Gather implements delivery.Gatherer.
func (h *handout) Gather(most int, bytes int64) []*delivery.Delivery {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over || h.canceled {
		return nil
	}
	b := &h.batch
	if b.group == nil {
		b.group = h.item.Group()
		b.items = append(b.items, h.item)
		b.deliveries = append(b.deliveries, h.attempt.Delivery())
		b.settled = append(b.settled, false)
	}
	from := len(b.items)
	for _, it := range b.group.Gather(most, bytes) {
		d := it.Value.delivery
		d.Attempt, d.RetryIn, d.Alone, d.Feed = it.Attempt(), 0, false, nil
		b.items = append(b.items, it)
		b.deliveries = append(b.deliveries, d)
		b.settled = append(b.settled, false)
	}
	return b.deliveries[from:]
}

// Arrived implements delivery.Gatherer.
func (h *handout) Arrived() <-chan struct{} { return h.item.Arrived() }

// Settle implements delivery.Gatherer.
func (h *handout) Settle(ends []delivery.End) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := &h.batch
	if h.over || b.group == nil {
		return
	}
	items := make([]*lanes.Item[record], 0, len(ends))
	outs := make([]lanes.Outcome, 0, len(ends))
	for _, end := range ends {
		if b.settled[end.Index] {
			continue
		}
		b.settled[end.Index] = true
		items = append(items, b.items[end.Index])
		switch end.Verdict {
		case delivery.Finished:
			outs = append(outs, h.acked())
		case delivery.Failed:
			outs = append(outs, h.nacked(b.deliveries[end.Index]))
		case delivery.Returned:
			outs = append(outs, lanes.Withdrawn())
		}
	}
	b.group.Settle(items, outs)
}

// end is the outcome of a handout whose watermill message was acked or nacked.
// What was gathered and not settled goes back.
func (h *handout) end(acked bool) lanes.Outcome {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	b := &h.batch
	var items []*lanes.Item[record]
	var outs []lanes.Outcome
	for i, it := range b.items {
		if i > 0 && !b.settled[i] {
			items = append(items, it)
			outs = append(outs, lanes.Withdrawn())
		}
	}
	if len(items) > 0 {
		b.group.Settle(items, outs)
	}
	switch {
	case b.group != nil && b.settled[0]:
		return lanes.Finished() // for its slot: the message is booked
	case acked:
		return h.acked()
	}
	return h.nacked(h.attempt.Delivery())
}
