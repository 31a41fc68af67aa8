package subscriber

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tidings-bus/tidings/groups"
	"github.com/tidings-bus/tidings/internal/delivery"
)

// Subscriber is a watermill message.Subscriber that reads as a member of one
// consumer group. All methods may be called from any goroutine.
type Subscriber struct {
	feeder //nolint:unused // delivery.Feeds looks for it

	config  Config
	metrics *meters

	mu            sync.Mutex
	closed        bool
	subscriptions map[*subscription]struct{}
	pause         groups.State    // by Pause
	starting      sync.WaitGroup  // Subscribe calls that have not decided yet
	stop          context.Context //nolint:containedctx // ends those calls on Close
	stopStarting  context.CancelFunc
}

type feeder = delivery.Feeder //nolint:unused // see Subscriber

var (
	_ message.Subscriber           = (*Subscriber)(nil)
	_ message.SubscribeInitializer = (*Subscriber)(nil)
)

// New checks config; it does not connect.
func New(config Config) (*Subscriber, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("subscriber: %w", err)
	}
	m, err := newMeters(config.Metrics)
	if err != nil {
		return nil, fmt.Errorf("subscriber: register metrics: %w", err)
	}
	s := &Subscriber{config: config, metrics: m, subscriptions: map[*subscription]struct{}{}}
	s.stop, s.stopStarting = context.WithCancel(context.Background())
	return s, nil
}

// Subscribe joins the group for topic and returns the channel of its messages. It
// returns when a broker has answered and the topic is known to exist; joining
// goes on behind it, see Ready. Each call is a member of its own, with its own
// Limits.
//
// A message is given to one reader of the channel. Its lane goes on after its
// Ack, sleeps after its Nack, and waits for either without limit; its context
// has ctx's values and ends with the delivery: at Ack or Nack, when the
// partition is lost, or when a drain takes longer than Timings.Drain. After that
// Ack and Nack have no effect.
//
// The channel must be read until it is closed. That happens after ctx ends or
// Close is called, the running messages are finished (Timings.Drain), their
// offsets committed and the group left.
//
// Errors: ErrClosed, ErrTopicMissing, and what keeps the brokers from answering
// (unreachable within Timings.Connect, wrong credentials, no permission), which
// say what to look at.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	fail := func(err error) error {
		return fmt.Errorf("subscribe to topic %q as group %q: %w", topic, s.config.Group, err)
	}
	if topic == "" {
		return nil, fail(errors.New("the topic has no name"))
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, fail(ErrClosed)
	}
	s.starting.Add(1)
	defer s.starting.Done()
	sub := newSubscription(ctx, s.config, s.metrics, topic, s.freeNumber(topic))
	sub.pause.own = s.pause
	s.subscriptions[sub] = struct{}{}
	s.mu.Unlock()

	starting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.stop, cancel)() //nolint:contextcheck // Close ends it, too
	if err := sub.start(starting); err != nil {
		s.forget(sub)
		if s.stop.Err() != nil {
			err = ErrClosed
		}
		return nil, fail(err)
	}
	go func() {
		sub.run(ctx)
		s.forget(sub)
		close(sub.done)
	}()
	return sub.out, nil
}

// freeNumber tells the subscriptions of one topic apart, from 1.
func (s *Subscriber) freeNumber(topic string) int {
	taken := map[int]bool{}
	for sub := range s.subscriptions {
		if sub.topic == topic {
			taken[sub.number] = true
		}
	}
	n := 1
	for taken[n] {
		n++
	}
	return n
}

func (s *Subscriber) forget(sub *subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.subscriptions, sub)
}

// SubscribeInitialize makes the topic, by Config.CreateTopic. It blocks for at
// most Timings.Connect longer than that takes.
func (s *Subscriber) SubscribeInitialize(topic string) error {
	if err := s.createTopic(topic); err != nil {
		return fmt.Errorf("create topic %q: %w", topic, err)
	}
	return nil
}

// Close stops every subscription and waits until all of them have finished what
// runs, committed, left the group and closed their channels. Again it does
// nothing but wait.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	s.stopStarting()
	s.mu.Unlock()
	s.starting.Wait()

	s.mu.Lock()
	all := make([]*subscription, 0, len(s.subscriptions))
	for sub := range s.subscriptions {
		all = append(all, sub)
	}
	s.mu.Unlock()
	for _, sub := range all {
		sub.halt()
	}
	for _, sub := range all {
		<-sub.done
	}
	return nil
}

// Ready returns nil while every subscription is a member of the group, hears from
// the brokers and makes progress; otherwise what is wrong with each. A key that
// is being retried does not count, unless the rest of its partition waits for it,
// nor does a pause: see Warnings.
func (s *Subscriber) Ready(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if len(s.subscriptions) == 0 {
		return fmt.Errorf("group %q: nothing is subscribed yet", s.config.Group)
	}
	var errs []error
	for sub := range s.subscriptions {
		if err := sub.ready(); err != nil {
			errs = append(errs, fmt.Errorf("topic %q, group %q: %w", sub.topic, s.config.Group, err))
		}
	}
	return errors.Join(errs...)
}
