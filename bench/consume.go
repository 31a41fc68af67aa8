package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	wmkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/internal/testenv"
	"github.com/tidings-bus/tidings/publisher"
	"github.com/tidings-bus/tidings/router"
	"github.com/tidings-bus/tidings/subscriber"
)

const handlerPause = 10 * time.Millisecond

var consume10ms = measure{
	name: "consume-10ms", unit: perSecond, goal: 300,
	what: "one partition, 1,000 keys, a handler of 10 ms; peer: watermill-kafka's Subscriber under watermill's Router",
	prepare: func(ctx context.Context, e *env) (sides, error) {
		return prepareConsume(ctx, e, "consume-10ms", 600_000, func() { time.Sleep(handlerPause) })
	},
}

var consume0ms = measure{
	name: "consume-0ms", unit: perSecond, goal: 1.3,
	what: "one partition, 1,000 keys, a handler that only decodes; peer: watermill-kafka's Subscriber under watermill's Router",
	prepare: func(ctx context.Context, e *env) (sides, error) {
		return prepareConsume(ctx, e, "consume-0ms", 1_500_000, func() {})
	},
}

var consumeSQL = measure{
	name: "consume-sql", unit: "queries/s", goal: 0.8,
	what:    "a handler with a 10 ms query on a pool of 16, through Kafka; peer: 16 goroutines on the pool alone",
	prepare: prepareSQL,
}

// load fills a new topic of one partition.
func load(ctx context.Context, e *env, name string, events int) (topic string, brokers []string, err error) {
	topic, brokers, err = e.topic(ctx, name, 1)
	if err != nil {
		return "", nil, err
	}
	p, err := publisher.New(publisher.Config{
		Connection: connection.Config{Brokers: brokers},
		TopicFor:   func(event.Event) string { return topic },
	})
	if err != nil {
		return "", nil, err
	}
	defer func() { err = errors.Join(err, p.Close(ctx)) }()
	slice := make([]event.Event, 0, 5000)
	for n := range events {
		ev, err := newEvent(n)
		if err != nil {
			return "", nil, err
		}
		if slice = append(slice, ev); len(slice) == cap(slice) || n == events-1 {
			if err := p.Publish(ctx, slice...); err != nil {
				return "", nil, err
			}
			slice = slice[:0]
		}
	}
	return topic, brokers, nil
}

func prepareConsume(ctx context.Context, e *env, name string, events int, work func()) (sides, error) {
	topic, brokers, err := load(ctx, e, name, events)
	if err != nil {
		return sides{}, err
	}
	return sides{
		ours: func(ctx context.Context, d time.Duration) (float64, error) {
			c := newCount(events)
			if err := consumeOurs(ctx, brokers, topic, lanes, c, d, func(context.Context, event.Of[placed]) error {
				work()
				c.one()
				return nil
			}); err != nil {
				return 0, err
			}
			return c.rate()
		},
		peer: func(ctx context.Context, d time.Duration) (float64, error) {
			c := newCount(events)
			if err := consumePeer(ctx, brokers, topic, c, d, func(m *message.Message) error {
				var p placed
				if err := json.Unmarshal(m.Payload, &p); err != nil {
					return err
				}
				work()
				c.one()
				return nil
			}); err != nil {
				return 0, err
			}
			return c.rate()
		},
	}, nil
}

// lanes lets all 1,000 keys of the one partition run side by side.
var lanes = subscriber.Limits{Running: 1000, PartitionRunning: 1000}

// sqlLanes runs a few more handlers than the pool has connections, so that none of them waits.
var sqlLanes = subscriber.Limits{Running: 32, PartitionRunning: 32}

func prepareSQL(ctx context.Context, e *env) (sides, error) {
	const (
		events = 60_000
		conns  = 16
		query  = "SELECT pg_sleep(0.01)"
	)
	url, err := e.database() //nolint:contextcheck // a container starts within its own limit
	if err != nil {
		return sides{}, err
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return sides{}, err
	}
	config.MaxConns, config.MinConns = conns, conns
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return sides{}, err
	}
	topic, brokers, err := load(ctx, e, "consume-sql", events)
	if err != nil {
		pool.Close()
		return sides{}, err
	}
	return sides{
		cleanup: pool.Close,
		ours: func(ctx context.Context, d time.Duration) (float64, error) {
			c := newCount(events)
			if err := consumeOurs(ctx, brokers, topic, sqlLanes, c, d, func(ctx context.Context, _ event.Of[placed]) error {
				if _, err := pool.Exec(ctx, query); err != nil {
					return err
				}
				c.one()
				return nil
			}); err != nil {
				return 0, err
			}
			return c.rate()
		},
		peer: func(ctx context.Context, d time.Duration) (float64, error) {
			return rate(d, conns, func(int) (int, error) {
				_, err := pool.Exec(ctx, query)
				return 1, err
			})
		},
	}, nil
}

// consumeOurs runs the router as a service does, for d from the first event on.
func consumeOurs(ctx context.Context, brokers []string, topic string, limits subscriber.Limits, c *count, d time.Duration,
	handle func(context.Context, event.Of[placed]) error,
) error {
	return consumeWith(ctx, brokers, topic, limits, c, d, handlers.On("count", handle))
}

func consumeWith(ctx context.Context, brokers []string, topic string, limits subscriber.Limits, c *count, d time.Duration, h handlers.Handler) error {
	quiet := slog.New(slog.DiscardHandler)
	catalog, err := newCatalog()
	if err != nil {
		return err
	}
	group := testenv.Name("ours")
	sub, err := subscriber.New(subscriber.Config{
		Connection: connection.Config{Brokers: brokers}, Group: group, Limits: limits, Logger: quiet,
	})
	if err != nil {
		return err
	}
	defer func() { _ = sub.Close() }()
	r, err := router.New(router.Config{Group: group, Catalog: catalog, Logger: quiet})
	if err != nil {
		return err
	}
	if err := r.Subscribe(router.Subscription{Topic: topic, Subscriber: sub, Handlers: []handlers.Handler{h}}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go c.stopAfter(ctx, d, cancel)
	return r.Run(ctx)
}

// consumePeer runs stock watermill-kafka under watermill's own router.
func consumePeer(ctx context.Context, brokers []string, topic string, c *count, d time.Duration, handle message.NoPublishHandlerFunc) error {
	sc := wmkafka.DefaultSaramaSubscriberConfig()
	sc.Consumer.Offsets.Initial = sarama.OffsetOldest
	sub, err := wmkafka.NewSubscriber(wmkafka.SubscriberConfig{
		Brokers: brokers, ConsumerGroup: testenv.Name("peer"), OverwriteSaramaConfig: sc,
	}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	r, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	r.AddConsumerHandler("count", topic, sub, handle)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go c.stopAfter(ctx, d, cancel)
	return r.Run(ctx)
}

// count takes the rate between the first event and the end of the window, or
// the moment the last of the topic's events was handled.
type count struct {
	events int64
	n      atomic.Int64
	first  chan struct{}
	all    chan struct{}
	begun  time.Time
	result float64
}

func newCount(events int) *count {
	return &count{events: int64(events), first: make(chan struct{}), all: make(chan struct{})}
}

func (c *count) one() {
	switch n := c.n.Add(1); n {
	case 1:
		close(c.first)
	case c.events:
		close(c.all)
	}
}

func (c *count) stopAfter(ctx context.Context, d time.Duration, stop func()) {
	defer stop()
	select {
	case <-c.first:
	case <-ctx.Done():
		return
	}
	before := c.n.Load()
	c.begun = time.Now()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.all:
	case <-ctx.Done():
	}
	c.result = float64(c.n.Load()-before) / time.Since(c.begun).Seconds()
}

var errNothing = errors.New("no event was handled")

func (c *count) rate() (float64, error) {
	if c.n.Load() == 0 {
		return 0, errNothing
	}
	return c.result, nil
}
