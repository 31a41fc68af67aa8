package router

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/internal/delivery"
	"github.com/tidings-bus/tidings/internal/limit"
	"github.com/tidings-bus/tidings/internal/outage"
)

// Subscription is a topic, where its messages come from, and who handles them.
type Subscription struct {
	// Topic is what Subscriber is asked for.
	Topic string
	// Subscriber delivers the messages. One with lanes keeps the order of each
	// key and retries each on its own; see the package's documentation for
	// others. It may serve several subscriptions; it is not closed.
	Subscriber message.Subscriber
	// Handlers take the events of their types; events of other types are
	// skipped. They run in this order.
	Handlers []handlers.Handler
	// Place tells where a message of a subscriber without lanes stands in the
	// log, from the message's context. Nil, or false: unknown, and the inbox
	// sees partition -1, offset -1.
	Place func(ctx context.Context) (partition int32, offset int64, ok bool)
}

func (s Subscription) validate() error {
	if s.Topic == "" {
		return errors.New("router: Subscription.Topic is empty: name the topic to read")
	}
	if s.Subscriber == nil {
		return fmt.Errorf("router: Subscription.Subscriber is nil for topic %q: give a watermill message.Subscriber, such as subscriber.New's", s.Topic)
	}
	if len(s.Handlers) == 0 {
		return fmt.Errorf("router: Subscription.Handlers is empty for topic %q: without a handler every message would be acknowledged unhandled", s.Topic)
	}
	for i, h := range s.Handlers {
		if h == nil {
			return fmt.Errorf("router: Subscription.Handlers[%d] is nil for topic %q", i, s.Topic)
		}
		if h.Name() == "" {
			return fmt.Errorf("router: Subscription.Handlers[%d] has no name for topic %q: its inbox goes by its name", i, s.Topic)
		}
	}
	return nil
}

// subscription is a Subscription in its router. To watermill it is the
// subscriber: one whose channel is open already, and which a closing watermill
// router does not close.
type subscription struct {
	Subscription

	router *Router
	topic  string
	bound  []*boundHandler
	routes map[string]*route // by wire type

	messages <-chan *message.Message // set by open
	handler  *message.Handler        // watermill's
	batch    *batching               // nil: one event at a time

	inFlight    prometheus.Gauge
	skipped     prometheus.Counter
	unknown     prometheus.Counter
	undecodable prometheus.Counter
	whole       *handlerMetrics // of events held for every handler
}

// route is the handlers of one type.
type route struct{ handlers []*boundHandler }

// boundHandler is a handler in its group.
type boundHandler struct {
	handlers.Bound

	router   *Router
	name     string
	deadline time.Duration
	outage   *outage.Detector // nil: none is told
	limit    limit.Limit      // nil: none
	parks    bool             // it has dead letters
	met      *handlerMetrics
	warn     throttle
}

func newSubscription(r *Router, s Subscription) *subscription {
	return &subscription{
		router:       r,
		Subscription: s,
		topic:        s.Topic,
		routes:       map[string]*route{},
		inFlight:     r.met.inFlight.WithLabelValues(s.Topic),
		skipped:      r.met.events.WithLabelValues(s.Topic, "", outcomeSkipped),
		unknown:      r.met.unknown.WithLabelValues(s.Topic),
		undecodable:  r.met.undecodable.WithLabelValues(s.Topic),
		whole:        r.met.forHandler(s.Topic, everyHandler),
	}
}

// bind ties the handlers to the group.
func (s *subscription) bind(ctx context.Context) error {
	for _, h := range s.Handlers {
		b, err := h.Bind(ctx, handlers.Binding{Group: s.router.cfg.Group, Catalog: s.router.cfg.Catalog})
		if err != nil {
			return fmt.Errorf("router: binding handler %q of topic %q in group %q: %w", h.Name(), s.topic, s.router.cfg.Group, err)
		}
		bh := &boundHandler{
			Bound:    b,
			router:   s.router,
			name:     b.Name(),
			deadline: b.Deadline(),
			outage:   s.router.cfg.Outage.detector(),
			met:      s.router.met.forHandler(s.topic, b.Name()),
		}
		bh.limit = bh.met.limitOf(b.Concurrency())
		_, bh.parks = b.Inbox().(inbox.Parker)
		s.bound = append(s.bound, bh)
		s.bindBatch(bh)
		rt := s.routes[b.Type()]
		if rt == nil {
			rt = &route{}
			s.routes[b.Type()] = rt
		}
		rt.handlers = append(rt.handlers, bh)
	}
	return nil
}

// open asks the subscriber for the messages. They end some time after ctx does:
// when the subscriber has drained, committed and left.
func (s *subscription) open(ctx context.Context) error {
	ctx = delivery.WithoutMetadata(ctx)
	if delivery.Feeds(s.Subscriber) {
		ctx = delivery.WithFeed(ctx)
		if s.batch != nil {
			ctx = delivery.WithBatches(ctx)
		}
	}
	messages, err := s.Subscriber.Subscribe(ctx, s.topic)
	if err != nil {
		return fmt.Errorf("router: subscribing to %q for group %q: %w", s.topic, s.router.cfg.Group, err)
	}
	s.messages = messages
	return nil
}

// paused tells whether the subscriber begins nothing for now, as package
// subscriber's says of itself and its group.
func (s *subscription) paused() bool {
	p, ok := s.Subscriber.(interface{ Paused() bool })
	return ok && p.Paused()
}

// Subscribe hands watermill's router the channel that open got. It ignores the
// context: watermill cancels it before running handlers have finished.
func (s *subscription) Subscribe(context.Context, string) (<-chan *message.Message, error) {
	return s.messages, nil
}

// String is empty, so that watermill does not add the subscriber's type to the
// context of every message; nopPublisher's likewise.
func (s *subscription) String() string { return "" }

// nopPublisher stands where watermill expects a publisher: handlers return no messages.
type nopPublisher struct{}

func (nopPublisher) Publish(string, ...*message.Message) error { return nil }
func (nopPublisher) Close() error                              { return nil }
func (nopPublisher) String() string                            { return "" }

// Close does nothing: what was given is not closed, and the end of the Subscribe
// context is what ends the messages.
func (s *subscription) Close() error { return nil }
