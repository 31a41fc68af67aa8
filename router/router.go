package router

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// Router brings the messages of its subscriptions to their handlers. Make it
// with New, add subscriptions with Subscribe, then Run it, once.
type Router struct {
	cfg Config
	log *slog.Logger
	met *metrics

	mu      sync.Mutex // guards subs and places until Run, faults and letters after
	subs    []*subscription
	places  map[string]string // handler name -> topic
	keepers []inbox.Keeper
	faults  map[string]error // inbox ID -> why its upkeep fails
	letters []*letterBox

	phase  atomic.Int32
	killed atomic.Bool   // running handlers are cancelled, new messages refused
	stopC  chan struct{} // closed when the stop begins
	work   workList
	held   heldEvents
	memory memory
}

// The phases of a router's life.
const (
	phaseNew int32 = iota
	phaseStarting
	phaseRunning
	phaseStopping
	phaseStopped
)

// New returns a router without subscriptions. It starts nothing.
func New(cfg Config) (*Router, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	met, err := newMetrics(cfg.Metrics, cfg.Group)
	if err != nil {
		return nil, err
	}
	return &Router{
		cfg:    cfg,
		log:    cfg.Logger.With("group", cfg.Group),
		met:    met,
		places: map[string]string{},
		faults: map[string]error{},
		stopC:  make(chan struct{}),
		memory: memory{limit: cfg.Remember},
	}, nil
}

// Subscribe adds a subscription, before Run. It fails when a topic or a
// handler's name is used twice in the group: a handler's inbox rows go by its
// name, so two of one name would take each other's events for duplicates.
func (r *Router) Subscribe(s Subscription) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.phase.Load() != phaseNew {
		return fmt.Errorf("router: subscribing to %q: the router of group %q already runs: subscribe before Run", s.Topic, r.cfg.Group)
	}
	if err := s.validate(); err != nil {
		return err
	}
	for _, other := range r.subs {
		if other.topic == s.Topic {
			return fmt.Errorf("router: topic %q is subscribed twice in group %q: list all its handlers in one Subscription, so that a message is finished when all of them are", s.Topic, r.cfg.Group)
		}
	}
	if err := r.alone(s); err != nil {
		return err
	}
	if err := r.claim(s.Topic, s.Handlers); err != nil {
		return err
	}
	r.subs = append(r.subs, newSubscription(r, s))
	return nil
}

// claim takes the handlers' names for topic: all of them or none.
func (r *Router) claim(topic string, hs []handlers.Handler) error {
	taken := make([]string, 0, len(hs))
	for _, h := range hs {
		name := h.Name()
		if first, dup := r.places[name]; dup {
			for _, n := range taken {
				delete(r.places, n)
			}
			return fmt.Errorf("router: handler name %q is used twice in group %q: first for topic %q, again for topic %q: a handler's inbox goes by its name, give each its own", name, r.cfg.Group, first, topic)
		}
		r.places[name] = topic
		taken = append(taken, name)
	}
	return nil
}
