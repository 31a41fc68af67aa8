package publisher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/compress"

	"github.com/tidings-bus/tidings/event"
)

// Publisher publishes events to Kafka. It is safe for concurrent use. It runs
// goroutines only while there is something to send.
type Publisher struct {
	config  Config
	codec   compress.Compression
	wire    *wire
	ledger  *ledger // nil: without the control topic
	metrics *metrics
	budget  budget
	buffers sync.Pool // of *requestBuffer

	topicsMu sync.RWMutex
	topics   map[string]*topic

	brokersMu sync.Mutex
	brokers   map[string]*broker // by address

	always context.Context //nolint:containedctx // ends when Close gives up on what is in flight
	cancel context.CancelFunc
	abort  <-chan struct{} // always.Done()

	mu     sync.Mutex
	active int // calls and sending goroutines
	closed bool
	idle   chan struct{} // closed when closed and none is active
}

// New makes a Publisher. It does not connect: that is done when there is an
// event to publish, or by Ping. The error says what is wrong with config.
func New(config Config) (*Publisher, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	config = config.withDefaults()
	codec, err := config.Compression.codec()
	if err != nil {
		return nil, err
	}
	w, err := newWire(config.Connection, config.DialTimeout, config.RequestTimeout)
	if err != nil {
		return nil, fmt.Errorf("publisher: %w", err)
	}
	p := &Publisher{
		config:  config,
		codec:   codec,
		wire:    w,
		budget:  budget{maxEvents: config.MaxBufferedEvents, maxBytes: config.MaxBufferedBytes},
		buffers: sync.Pool{New: func() any { return new(requestBuffer) }},
		topics:  make(map[string]*topic),
		brokers: make(map[string]*broker),
		idle:    make(chan struct{}),
	}
	if !config.WithoutControlTopic {
		p.ledger = newLedger(w)
	}
	p.always, p.cancel = context.WithCancel(context.Background())
	p.abort = p.always.Done()
	if p.metrics, err = newMetrics(config.Metrics, &p.budget); err != nil {
		p.cancel()
		return nil, fmt.Errorf("publisher: register metrics: %w: give each publisher its own registerer, such as prometheus.WrapRegistererWith", err)
	}
	return p, nil
}

// Publish sends events and returns when all in-sync replicas have acknowledged
// each of them, or with a *PublishError that names those they have not. Events
// of one key are in the log in the order given, and behind those of calls that
// returned before; concurrent calls have no order between them.
//
// It blocks while the buffer is full and while a retriable failure lasts, until
// ctx ends. Without a deadline in ctx it waits for as long as the brokers are
// away.
func (p *Publisher) Publish(ctx context.Context, events ...event.Event) error {
	if len(events) == 0 {
		return nil
	}
	failed, err := p.publish(ctx, len(events), func(i int) (string, event.KafkaRecord, error) {
		e := events[i]
		topic := p.config.TopicFor(e)
		if err := validTopic(topic); err != nil {
			return topic, event.KafkaRecord{}, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		r := event.ToKafka(e)
		if len(r.Key) == 0 {
			return topic, r, fmt.Errorf("%w: its aggregate ID is empty: the ID is the key that keeps its events in order", ErrInvalid)
		}
		return topic, r, nil
	})
	if err != nil {
		return err
	}
	return publishError(failed, len(events), func(i int) event.Event { return events[i] })
}

// Ping reports whether the brokers can be reached with the configured
// credentials. It asks each address once and does not wait for one to come up:
// an error wraps ErrUnreachable or ErrCredentials.
func (p *Publisher) Ping(ctx context.Context) error {
	if err := p.enter(); err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	defer p.leave()
	if _, err := p.wire.metadata(ctx, []string{}); err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	return nil
}

// Close refuses new events, waits until every event that was accepted has its
// outcome, and closes the connections. When ctx ends first, it gives the rest up
// (their callers get ErrClosed) and returns ctx's error. Closing again waits the
// same way.
func (p *Publisher) Close(ctx context.Context) error {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		if p.active == 0 {
			close(p.idle)
		}
	}
	p.mu.Unlock()

	var err error
	select {
	case <-p.idle:
	case <-ctx.Done():
		err = fmt.Errorf("close publisher: what was in flight is in doubt: %w", context.Cause(ctx))
	}
	p.cancel()
	p.wire.close()
	<-p.idle // soon: nothing waits once the connections are closed
	p.metrics.unregister()
	return err
}

// enter counts a call as active.
func (p *Publisher) enter() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	p.active++
	return nil
}

// hold counts a sending goroutine as active: also when closed, since it sends
// for a call that came before.
func (p *Publisher) hold() {
	p.mu.Lock()
	p.active++
	p.mu.Unlock()
}

func (p *Publisher) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.active--
	if p.active == 0 && p.closed {
		select {
		case <-p.idle:
		default:
			close(p.idle)
		}
	}
}

func (p *Publisher) aborted() bool {
	select {
	case <-p.abort:
		return true
	default:
		return false
	}
}

func (p *Publisher) free(a amount) { p.budget.give(a.events, a.bytes) }

func (p *Publisher) topic(name string) *topic {
	p.topicsMu.RLock()
	t := p.topics[name]
	p.topicsMu.RUnlock()
	if t != nil {
		return t
	}
	p.topicsMu.Lock()
	defer p.topicsMu.Unlock()
	if t = p.topics[name]; t == nil {
		t = newTopic(p, name)
		p.topics[name] = t
	}
	return t
}

func publishError(failed []failure, total int, at func(int) event.Event) error {
	if len(failed) == 0 {
		return nil
	}
	slices.SortFunc(failed, func(a, b failure) int { return a.index - b.index })
	e := &PublishError{Total: total, Failed: make([]FailedEvent, len(failed))}
	for i, f := range failed {
		e.Failed[i] = FailedEvent{Index: f.index, Event: at(f.index), Topic: f.topic, Err: f.err, InDoubt: f.inDoubt}
	}
	return e
}

// isTooLarge tells the two codes with which brokers refuse a batch for its size.
func isTooLarge(err error) bool {
	return errors.Is(err, kafka.MessageSizeTooLarge) || errors.Is(err, kafka.RecordListTooLarge)
}
