package watermillkafka

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tidings-bus/tidings/internal/delivery"
)

// Subscriber stands in for watermill-kafka's Subscriber: the same configuration,
// the same methods, the same sarama; with a lane for each key. All methods may be
// called from any goroutine.
type Subscriber struct {
	feeder //nolint:unused // delivery.Feeds looks for it

	config config
	logger watermill.LoggerAdapter
	stock  *kafka.Subscriber // makes topics and tells their offsets; never subscribes

	mu            sync.Mutex
	closed        bool
	subscriptions map[*subscription]struct{}
	starting      sync.WaitGroup // Subscribe calls that have not decided yet
}

type feeder = delivery.Feeder //nolint:unused // see Subscriber

var (
	_ message.Subscriber           = (*Subscriber)(nil)
	_ message.SubscribeInitializer = (*Subscriber)(nil)
)

// ErrClosed is returned by Subscribe after Close.
var ErrClosed = errors.New("subscriber is closed")

// NewSubscriber takes the configuration that kafka.NewSubscriber takes, and
// nothing of it has another meaning, but for what package lanes must change: see
// the package's documentation, "Configuration". A nil logger logs nothing. It
// checks the configuration; it does not connect.
func NewSubscriber(theirs kafka.SubscriberConfig, lanes LanesConfig, logger watermill.LoggerAdapter) (*Subscriber, error) {
	c, err := newConfig(theirs, lanes)
	if err != nil {
		return nil, fmt.Errorf("watermillkafka: %w", err)
	}
	if logger == nil {
		logger = watermill.NopLogger{}
	}
	stock, err := kafka.NewSubscriber(theirs, logger)
	if err != nil {
		return nil, fmt.Errorf("watermillkafka: %w", err)
	}
	return &Subscriber{config: c, logger: logger, stock: stock, subscriptions: map[*subscription]struct{}{}}, nil
}

// Subscribe joins the group for topic, or begins to read all of it when there is
// none, and returns the channel of its messages. It returns when a broker has
// answered; joining goes on behind it, see Ready. Each call is a member of its
// own, with its own lanes.
//
// A message is given to one reader of the channel. Its lane goes on after its
// Ack, sleeps for NackResendSleep after its Nack, and waits for either without
// limit. Its context has ctx's values, and what kafka.MessagePartitionFromCtx and
// the like look for; it ends with the delivery: at Ack or Nack, when the partition
// is lost, or when a drain takes longer than LanesConfig.Drain. After that Ack and
// Nack have no effect.
//
// The channel is closed after ctx ends or Close is called, the running messages
// are finished (LanesConfig.Drain), their offsets committed and the group left.
//
// Errors: ErrClosed, and sarama's when no broker answers. It does not end early
// when ctx does, for sarama's way to connect knows no context: Net.DialTimeout and
// Metadata.Retry of its configuration bound it.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	fail := func(err error) error {
		return fmt.Errorf("subscribe to topic %q as group %q: %w", topic, s.config.ConsumerGroup, err)
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
	s.mu.Unlock()

	sub := newSubscription(ctx, s.config, s.logger, topic)
	first, err := sub.connect()
	if err != nil {
		sub.halt()
		sub.lanes.Close()
		return nil, fail(fmt.Errorf("no broker reachable at %v: %w; check Brokers, and Net.TLS and Net.SASL of OverwriteSaramaConfig",
			s.config.Brokers, err))
	}
	s.mu.Lock()
	s.subscriptions[sub] = struct{}{}
	s.mu.Unlock()
	go func() { //nolint:contextcheck // it has ctx
		sub.run(first)
		s.mu.Lock()
		delete(s.subscriptions, sub)
		s.mu.Unlock()
		close(sub.done)
	}()
	return sub.out, nil
}

// SubscribeInitialize makes the topic as InitializeTopicDetails say, as
// watermill-kafka's Subscriber does.
func (s *Subscriber) SubscribeInitialize(topic string) error {
	return s.stock.SubscribeInitialize(topic)
}

// SubscribeInitializeWithContext is SubscribeInitialize, waiting for the topic to
// be ready no longer than ctx.
func (s *Subscriber) SubscribeInitializeWithContext(ctx context.Context, topic string) error {
	return s.stock.SubscribeInitializeWithContext(ctx, topic)
}

// PartitionOffset returns the end of each partition's log: the offset of the next
// message that will be published.
func (s *Subscriber) PartitionOffset(topic string) (kafka.PartitionOffset, error) {
	return s.stock.PartitionOffset(topic)
}

// Close stops every subscription and waits until all of them have finished what
// runs, committed, left the group and closed their channels. Again it does
// nothing but wait. The error is always nil.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
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

// Ready returns nil while every subscription is a member of its group and makes
// progress; otherwise what is wrong with each. A key that is being retried does
// not count, unless the rest of its partition waits for it.
func (s *Subscriber) Ready(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if len(s.subscriptions) == 0 {
		return fmt.Errorf("group %q: nothing is subscribed yet", s.config.ConsumerGroup)
	}
	var errs []error
	for sub := range s.subscriptions {
		if err := sub.ready(); err != nil {
			errs = append(errs, fmt.Errorf("topic %q, group %q: %w", sub.topic, s.config.ConsumerGroup, err))
		}
	}
	return errors.Join(errs...)
}
