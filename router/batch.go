package router

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/internal/delivery"
)

// batching is how a subscription brings events to a handler in batches.
type batching struct {
	handlers.BatchSettings

	handler *boundHandler
	bound   handlers.BatchBound
	events  prometheus.Observer // of each batch that was applied
	splits  prometheus.Counter
}

// alone refuses a batch handler that would share its group.
func (r *Router) alone(s Subscription) error {
	all := append([]Subscription{s}, make([]Subscription, 0, len(r.subs))...)
	for _, other := range r.subs {
		all = append(all, other.Subscription)
	}
	count := 0
	var batch, other handlers.Handler
	for _, s := range all {
		for _, h := range s.Handlers {
			count++
			if _, ok := h.(handlers.Batcher); ok && batch == nil {
				batch = h
			} else {
				other = h
			}
		}
	}
	if batch == nil || count == 1 {
		return nil
	}
	return fmt.Errorf("router: handler %q takes events in batches, and shares group %q with handler %q: give it a group of its own, by a router with another Config.Group", batch.Name(), r.cfg.Group, other.Name())
}

// bindBatch notes a handler that takes batches.
func (s *subscription) bindBatch(h *boundHandler) {
	if b, ok := h.Bound.(handlers.BatchBound); ok {
		met := s.router.met
		s.batch = &batching{
			handler: h, bound: b, BatchSettings: b.Batch(),
			events: met.batches.WithLabelValues(h.name), splits: met.splits.WithLabelValues(h.name),
		}
	}
}

// batch is some messages on their way to the handler together.
type batch struct {
	*batching

	sub     *subscription
	ctx     context.Context //nolint:containedctx // lives as long as the call it was made for
	feed    delivery.Gatherer
	blocked map[string]bool // keys of which nothing more is handled in this batch
	stopped bool            // cut short: the rest goes back
	settled bool            // the first message is
}

// batched is one of its messages.
type batched struct {
	delivered

	index    int // in the feed
	delivery *delivery.Delivery
	payload  any
	skip     bool // no handler takes its type
	ordinary bool // not for a batch: it cannot be decoded, say, or has failed before
	ended    bool // finished
}

// handleBatch handles a message and those that can be gathered with it. All that
// is finished, or has failed, is settled one by one; the rest goes back to its
// lanes untried.
func (s *subscription) handleBatch(ctx context.Context, first *delivery.Delivery, feed delivery.Gatherer) error {
	if p, _ := first.State.(*progress); !p.untried() {
		return s.handleAlone(ctx, first)
	}
	if _, ok := s.batch.handler.mayBatch(); !ok {
		return s.handleAlone(ctx, first)
	}
	all := append([]*delivery.Delivery{first}, s.gather(ctx, first, feed)...)
	if len(all) == 1 {
		return s.handleAlone(ctx, first)
	}
	s.inFlight.Add(float64(len(all) - 1))
	defer s.inFlight.Sub(float64(len(all) - 1))
	b := &batch{batching: s.batch, sub: s, ctx: ctx, feed: feed, blocked: map[string]bool{}}
	together, ordinary := b.sort(all)
	b.apply(together) //nolint:contextcheck // b carries ctx
	for _, m := range b.passable(ordinary) {
		if !b.stopped && !b.blocked[m.key()] {
			b.deliver(m)
		}
	}
	if !b.settled {
		return errUnfinished
	}
	return nil
}

// handleAlone handles one message the ordinary way.
func (s *subscription) handleAlone(ctx context.Context, d *delivery.Delivery) error {
	if s.deliverLane(ctx, d) {
		return nil
	}
	p, _ := d.State.(*progress)
	d.Alone = !p.untried()
	return errUnfinished
}

// untried tells whether nothing is held against a message: it did not fail, the
// database was away.
func (p *progress) untried() bool {
	if p == nil {
		return true
	}
	for i := range p.each {
		if st := &p.each[i]; st.tries > 0 || st.held || st.wish != nil || st.last != nil {
			return false
		}
	}
	return p.every == nil && !p.whole.held
}

// gather collects what may join the first message, waiting for more when the
// handler wants that.
func (s *subscription) gather(ctx context.Context, first *delivery.Delivery, feed delivery.Gatherer) []*delivery.Delivery {
	most, bytes := s.batch.Max-1, s.batch.MaxBytes-recordSize(&first.Record)
	more := feed.Gather(most, bytes)
	if s.batch.Wait == 0 || len(more) >= most {
		return more
	}
	timeout := time.NewTimer(s.batch.Wait)
	defer timeout.Stop()
	counted := 0
	for len(more) < most {
		for ; counted < len(more); counted++ {
			bytes -= recordSize(&more[counted].Record)
		}
		if bytes <= 0 {
			break
		}
		select {
		case <-feed.Arrived():
			more = append(more, feed.Gather(most-len(more), bytes)...)
			continue
		case <-timeout.C:
		case <-ctx.Done():
		case <-s.router.stopC:
		}
		break
	}
	return more
}

func recordSize(r *event.KafkaRecord) int64 {
	n := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return int64(n)
}

// sort tells what is applied together from what takes the ordinary way after it.
// What is behind one of the latter under its key does neither: it goes back.
func (b *batch) sort(all []*delivery.Delivery) (together, ordinary []*batched) {
	behind := map[string]bool{}
	messages := make([]batched, len(all))
	for i, d := range all {
		m := &messages[i]
		m.index, m.delivery = i, d
		b.prepare(m)
		switch key := m.key(); {
		case behind[key]:
		case m.ordinary:
			ordinary = append(ordinary, m)
			behind[key] = key != ""
		default:
			together = append(together, m)
		}
	}
	return together, ordinary
}

// prepare decodes a message and says which way it takes.
func (b *batch) prepare(m *batched) {
	s := b.sub
	m.delivered = s.delivered(b.ctx, m.delivery)
	var err error
	if m.event, err = event.FromKafka(m.record); err != nil || !m.progress.untried() {
		m.ordinary = true
		return
	}
	if s.routes[m.event.Type()] == nil {
		m.skip = s.router.cfg.UnknownTypes == Skip || s.router.cfg.Catalog.Knows(m.event.Type())
		m.ordinary = !m.skip
		return
	}
	if m.payload, err = s.decode(m.event); err != nil {
		m.ordinary = true
		return
	}
	h := b.handler
	m.ordinary = h.deadline > 0 && time.Until(m.deadline(h)) <= h.deadline/nearPart // it is judged there
}

func (m *batched) key() string { return string(m.place.Key) }

// passable are those whose keys are not blocked.
func (b *batch) passable(ms []*batched) []*batched {
	if len(b.blocked) == 0 {
		return ms
	}
	free := make([]*batched, 0, len(ms))
	for _, m := range ms {
		if !b.blocked[m.key()] {
			free = append(free, m)
		}
	}
	return free
}

// apply applies ms in one transaction, and splits them when that fails: the one
// that fails alone takes the ordinary way, which counts the try, and its key is
// done with. The order of a key is kept, for the first part comes first.
func (b *batch) apply(ms []*batched) {
	ms = b.passable(ms)
	calls := b.calls(ms)
	switch {
	case b.stopped || len(ms) == 0:
		return
	case len(calls) <= 1:
		for _, m := range ms {
			if !b.stopped && !b.blocked[m.key()] {
				b.deliver(m)
			}
		}
		return
	}
	if wait, ok := b.handler.mayBatch(); !ok {
		b.putOff(ms, wait)
		return
	}
	a := &attempt{message: &ms[0].delivered, handler: b.handler, number: 1, batch: len(calls)}
	answers, canceled, err := a.runBatch(b.bound, calls)
	if err == nil {
		b.events.Observe(float64(len(calls)))
		b.book(ms, answers)
		return
	}
	if canceled {
		b.stopped = true
		b.handler.met.retries[causeCanceled].Inc()
		return
	}
	why, err := classify(inbox.Fresh, err)
	if why == causeNotAdmitted || why == causeCommitUnknown {
		// No event is to blame: one goes first, and the others only after it.
		for ; ms[0].skip; ms = ms[1:] {
			b.deliver(ms[0])
		}
		if wait := b.deliver(ms[0]); !ms[0].ended {
			b.putOff(ms[1:], wait)
			return
		}
		ms = ms[1:]
	} else {
		b.splits.Inc()
		b.sub.router.log.Debug("batch failed, it is split", append(a.attrs(), slog.String("class", why.String()), slog.Any("cause", err))...)
	}
	b.apply(ms[:len(ms)/2])
	b.apply(ms[len(ms)/2:])
}

// calls are what the handler is given of ms.
func (b *batch) calls(ms []*batched) []handlers.Call {
	calls := make([]handlers.Call, 0, len(ms))
	for _, m := range ms {
		if !m.skip {
			calls = append(calls, handlers.Call{
				Event: m.event, Payload: m.payload, Place: m.place, Attempt: 1,
				Message: inbox.Message{Record: m.record, Time: m.time},
			})
		}
	}
	return calls
}

// book finishes what the inbox answered of an applied batch.
func (b *batch) book(ms []*batched, answers []inbox.Answer) {
	ends := make([]delivery.End, 0, len(ms))
	var late []*batched
	met, now := b.handler.met, time.Now()
	for _, m := range ms {
		var answer inbox.Answer
		if !m.skip {
			answer, answers = answers[0], answers[1:]
		}
		if b.blocked[m.key()] {
			continue
		}
		if m.skip {
			m.deliver()
			ends = append(ends, m.done())
			continue
		}
		switch answer {
		case inbox.Fresh:
			met.applied.Inc()
			met.age.Observe(max(0, now.Sub(m.event.Time()).Seconds()))
		case inbox.Duplicate:
			met.duplicate.Inc()
		case inbox.Parked:
			met.parkedBehind.Inc()
		default:
			// It is late, which the ordinary way deals with. What follows it under
			// its key was not answered, and goes back.
			late = append(late, m)
			b.block(m)
			continue
		}
		ends = append(ends, m.done())
	}
	b.settle(ends...)
	for _, m := range late {
		if !b.stopped {
			b.deliver(m)
		}
	}
}

// deliver is one attempt at a message the ordinary way. It returns when the next
// one is, if that did not finish it; from then on the message is another's.
func (b *batch) deliver(m *batched) (wait time.Duration) {
	if b.sub.deliverLane(b.ctx, m.delivery) {
		b.settle(m.done())
		return 0
	}
	b.block(m)
	if b.ctx.Err() != nil || b.sub.router.killed.Load() {
		b.stopped = true
		return 0
	}
	wait = m.delivery.RetryIn
	p, _ := m.delivery.State.(*progress)
	m.delivery.Alone = !p.untried()
	b.settle(delivery.End{Index: m.index, Verdict: delivery.Failed})
	return wait
}

func (b *batch) settle(ends ...delivery.End) {
	for _, end := range ends {
		b.settled = b.settled || end.Index == 0
	}
	b.feed.Settle(ends)
}

// done finishes the message.
func (m *batched) done() delivery.End {
	m.delivery.State = nil
	m.ended = true
	return delivery.End{Index: m.index, Verdict: delivery.Finished}
}

// block keeps what follows m under its key out of this batch.
func (b *batch) block(m *batched) {
	if key := m.key(); key != "" {
		b.blocked[key] = true
	}
}

// putOff has ms come again after a while; they have not failed.
func (b *batch) putOff(ms []*batched, wait time.Duration) {
	ends := make([]delivery.End, 0, len(ms))
	for _, m := range ms {
		if b.stopped || b.blocked[m.key()] {
			continue
		}
		m.delivery.RetryIn = max(wait, leastDelay)
		ends = append(ends, delivery.End{Index: m.index, Verdict: delivery.Failed})
		b.block(m)
	}
	b.settle(ends...)
}
