package router

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/internal/delivery"
)

// leastDelay is the shortest delay asked of a lane: zero would mean its default.
const leastDelay = time.Millisecond

// delivered is one attempt at one message.
type delivered struct {
	sub      *subscription
	ctx      context.Context //nolint:containedctx // lives as long as the call it was made for
	record   event.KafkaRecord
	time     time.Time // the record's; zero: unknown
	place    inbox.Place
	id       string // of a message whose place is unknown
	event    event.Event
	progress *progress // nil: nothing failed yet
	stopped  bool      // the attempt was cut short: nothing is to be learnt from it
}

// handle is the subscription's watermill handler: nil acknowledges the message.
func (s *subscription) handle(msg *message.Message) error {
	if s.router.killed.Load() {
		return errUnfinished
	}
	s.inFlight.Inc()
	returned := false
	defer func() {
		s.inFlight.Dec()
		if !returned { // a handler ended its goroutine (runtime.Goexit)
			msg.Nack()
		}
	}()
	var err error
	if d := delivery.FromContext(msg.Context()); d != nil {
		err = s.handleLane(msg, d)
	} else {
		err = s.handleForeign(msg)
	}
	returned = true
	return err
}

// handleLane handles a message whose subscriber can put it aside, and those that
// follow it by its feed.
func (s *subscription) handleLane(msg *message.Message, d *delivery.Delivery) error {
	ctx := msg.Context()
	if feed, ok := d.Feed.(delivery.Gatherer); ok && s.batch != nil {
		return s.handleBatch(ctx, d, feed)
	}
	for s.deliverLane(ctx, d) {
		if d.Feed == nil || s.router.killed.Load() {
			return nil
		}
		next := d.Feed.Next(msg.Context())
		if next == nil {
			return nil
		}
		ctx, d = next, next.Delivery() //nolint:fatcontext // next derives from the first one
	}
	return errUnfinished
}

// deliverLane is one attempt at d. It reports whether the message is finished.
func (s *subscription) deliverLane(ctx context.Context, d *delivery.Delivery) bool {
	m := s.delivered(ctx, d)
	if m.deliver() { //nolint:contextcheck // m carries ctx
		d.State = nil
		return true
	}
	if m.progress != nil {
		d.State = m.progress
		d.RetryIn = max(time.Until(m.progress.due()), leastDelay)
	}
	return false
}

// delivered is the attempt at d.
func (s *subscription) delivered(ctx context.Context, d *delivery.Delivery) delivered {
	m := delivered{
		sub:    s,
		ctx:    ctx,
		record: d.Record,
		time:   d.Time,
		place:  inbox.Place{Topic: d.Topic, Partition: d.Partition, Offset: d.Offset, Key: d.Record.Key},
	}
	m.progress, _ = d.State.(*progress)
	return m
}

// deliver runs every handler that has not finished and whose time has come. It
// reports whether the message is finished.
func (m *delivered) deliver() bool {
	s := m.sub
	var err error
	if m.event, err = event.FromKafka(m.record); err != nil {
		return m.refuse(causeUndecodable, fmt.Errorf("reading the event: %w", err))
	}
	rt := s.routes[m.event.Type()]
	if rt == nil {
		return m.deliverUnrouted()
	}
	payload, err := s.decode(m.event)
	if err != nil {
		return m.refuse(causeUndecodable, err)
	}
	m.readable()

	finished := true
	for i, h := range rt.handlers {
		if p := m.progress; p != nil && p.each != nil {
			if p.each[i].done {
				continue
			}
			if p.each[i].due.After(time.Now()) {
				finished = false
				continue
			}
		}
		if !m.try(rt, i, h, payload) {
			finished = false
			if m.stopped {
				return false
			}
		}
	}
	return finished
}

// deliverUnrouted finishes an event that no handler takes, or refuses it.
func (m *delivered) deliverUnrouted() bool {
	s := m.sub
	if s.router.cfg.Catalog.Knows(m.event.Type()) {
		s.skipped.Inc()
		m.readable()
		return true
	}
	if s.router.cfg.UnknownTypes == Refuse {
		return m.refuse(causeUnknownType, unknownType(m.event))
	}
	s.unknown.Inc()
	s.skipped.Inc()
	return true
}

func unknownType(e event.Event) error {
	return fmt.Errorf("%w %q, version %d: register it in the catalog, or let the router skip unknown types", event.ErrUnknownType, e.Type(), e.Version())
}

// decode returns the event's payload. Upcasters are the user's: a panic is an error.
func (s *subscription) decode(e event.Event) (payload any, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("decoding %s: %w", e.Type(), &PanicError{Value: v, Stack: debug.Stack()})
		}
	}()
	return s.router.cfg.Catalog.Decode(e)
}

// state returns where handler i's progress is kept, making it when there is none.
func (m *delivered) state(rt *route, i int) *tryState {
	if m.progress == nil {
		m.progress = &progress{}
	}
	return m.progress.of(i, len(rt.handlers))
}

// finish remembers that handler i has finished, when others of the route have
// not, or may not.
func (m *delivered) finish(rt *route, i int) {
	if len(rt.handlers) == 1 && m.progress == nil {
		return
	}
	m.state(rt, i).done = true
}
