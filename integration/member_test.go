package integration

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidings-bus/tidings/admin"
	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox/pgxinbox"
	"github.com/tidings-bus/tidings/router"
	"github.com/tidings-bus/tidings/subscriber"
	"github.com/tidings-bus/tidings/subscriber/watermillkafka"
)

// member is a process of a consumer group: subscriber, router, and handlers
// that write the ledger in their own transactions.
type member struct {
	Name     string
	Group    string
	Handlers []handlerSpec
	// Session is how long the group waits for a member that is silent. Zero: 6 s,
	// so that members hear of a rebalance within a fifth of it.
	Session time.Duration
	// SlowRetry is the time between tries of a held event.
	SlowRetry time.Duration
	// RunAhead bounds how far a partition is read ahead of its oldest
	// unfinished message. Zero: the subscriber's default.
	RunAhead int
	// Connections bounds the pool. Zero: 8.
	Connections int
	// Stock reads by watermill-kafka's own subscriber, which has no lanes.
	Stock bool
	// DropIn reads by watermillkafka's subscriber, over stock's configuration.
	DropIn bool
	// Lenient reads amounts that are texts.
	Lenient bool
	// Instance makes it a static member.
	Instance string
	// Port opens the admin port, on a free port.
	Port bool
	// Lease is how long a parked key is left to a member that died while it
	// retried it. Zero: the router's default.
	Lease time.Duration
	// Probes is the longest time between two probes in an outage. Zero: the
	// router's default.
	Probes time.Duration

	// Set by the scene.
	Brokers  []string
	Topic    string
	Postgres string

	// For a member inside of the test's own process.
	secure *connection.Config
	logger *slog.Logger

	metrics prometheus.Registerer
	router  *atomic.Pointer[router.Router] // of run, once it is made
}

// handlerSpec is one handler.
type handlerSpec struct {
	Name string
	Type string
	// Work is how long an effect takes.
	Work time.Duration
	// Failing is the share of events whose first tries fail, once or twice,
	// after the effect was written: what is rolled back must leave nothing.
	Failing float64
	// Poison are events that always fail, after their effect was written.
	Poison []uuid.UUID
	// Tries is the handler's patience. Zero: its default.
	Tries int
	// Batch, above 0, makes it a handler of batches of so many events.
	Batch int
	// Timeout of a try. Zero: its default.
	Timeout time.Duration
	// Trouble that some of the events meet.
	Trouble trouble
}

// every is the handlers of a service that cares for all types, two of them for
// the same.
func every(share float64, work time.Duration) []handlerSpec {
	return []handlerSpec{
		{Name: "open", Type: placed, Failing: share, Work: work},
		{Name: "book", Type: changed, Failing: share, Work: work},
		{Name: "report", Type: changed, Failing: share, Work: work},
		{Name: "settle", Type: closed, Failing: share, Work: work},
	}
}

// errOnPurpose is what failing handlers return.
var errOnPurpose = errors.New("failed on purpose")

// run handles events until ctx ends.
func (m *member) run(ctx context.Context) error {
	lenient = m.Lenient
	m.router = &atomic.Pointer[router.Router]{}
	catalog, err := newCatalog()
	if err != nil {
		return err
	}
	config, err := pgxpool.ParseConfig(m.Postgres)
	if err != nil {
		return fmt.Errorf("read the database's URL: %w", err)
	}
	config.MaxConns = 8
	if m.Connections > 0 {
		config.MaxConns = int32(m.Connections)
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	defer pool.Close()
	box, err := pgxinbox.New(pgxinbox.Config{Pool: pool, Logger: m.logger})
	if err != nil {
		return err
	}
	closePort, err := m.openPort()
	if err != nil {
		return err
	}
	defer closePort()
	sub, err := m.subscriber()
	if err != nil {
		return err
	}
	defer func() { _ = sub.Close() }()
	if m.DropIn {
		defer m.countDuplicates()()
	}
	r, err := router.New(router.Config{
		Group: m.Group, Catalog: catalog, Logger: m.logger, SlowRetry: m.SlowRetry, Metrics: m.metrics,
		Outage: router.Outage{Longest: m.Probes}, DeadLetters: router.DeadLetters{Lease: m.Lease}, Member: m.retries(),
	})
	if err != nil {
		return err
	}
	m.router.Store(r)
	// Notes of failures are written while a handler holds a connection: from the
	// same pool, handlers could wait for each other.
	notes, err := pgxpool.New(ctx, m.Postgres)
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	defer notes.Close()
	e := effects{member: m, notes: notes}
	var hs []handlers.Handler
	for _, h := range m.Handlers {
		hs = append(hs, e.handler(h, box))
	}
	subscription := router.Subscription{Topic: m.Topic, Subscriber: sub, Handlers: hs}
	if m.Stock {
		subscription.Place = watermillkafka.Place
	}
	if err := r.Subscribe(subscription); err != nil {
		return err
	}
	if err := r.Run(ctx); err != nil {
		return err
	}
	return sub.Close()
}

// retries is the name under which it retries parked events, when it has one.
func (m *member) retries() string {
	if m.Name == "" {
		return ""
	}
	return fmt.Sprintf("%s-%d", m.Name, os.Getpid())
}

// openPort opens the admin port, if it is asked for; the caller closes it.
func (m *member) openPort() (func(), error) {
	if !m.Port {
		return func() {}, nil
	}
	port, err := admin.New(admin.Config{Addr: "127.0.0.1:0", Logger: m.logger, Checks: []admin.Check{{
		Name: "router",
		Warnings: func(ctx context.Context) []string {
			if r := m.router.Load(); r != nil {
				return r.Warnings(ctx)
			}
			return nil
		},
	}}})
	if err != nil {
		return nil, err
	}
	m.metrics = port.Registry()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := port.Run(ctx); err != nil {
			slog.Error("the admin port failed", "cause", err)
		}
	}()
	return func() { cancel(); <-done }, nil
}

// subscriber is ours, or stock watermill-kafka's.
func (m *member) subscriber() (message.Subscriber, error) {
	if m.DropIn {
		return m.dropIn()
	}
	if m.Stock {
		return kafka.NewSubscriber(kafka.SubscriberConfig{
			Brokers:               m.Brokers,
			Unmarshaler:           watermillkafka.Marshaler{},
			OverwriteSaramaConfig: watermillkafka.SubscriberConfig(),
			ConsumerGroup:         m.Group,
		}, watermill.NewSlogLogger(slog.Default()))
	}
	return subscriber.New(m.subscription())
}

func (m *member) subscription() subscriber.Config {
	if m.Session == 0 {
		m.Session = 6 * time.Second
	}
	c := subscriber.Config{
		Connection: connection.Config{Brokers: m.Brokers, ClientID: m.Name},
		Group:      m.Group,
		Timings:    subscriber.Timings{Session: m.Session},
		Limits:     subscriber.Limits{RunAhead: m.RunAhead},
		InstanceID: m.Instance,
		Logger:     m.logger,
		Metrics:    m.metrics,
	}
	if m.secure != nil {
		c.Connection = *m.secure
	}
	if m.RunAhead > 0 {
		c.Limits.PartitionPending = m.RunAhead
	}
	return c
}

// effects are what a member's handlers do.
type effects struct {
	member *member
	notes  *pgxpool.Pool
}

func (e effects) handler(h handlerSpec, box *pgxinbox.Inbox) handlers.Handler {
	switch h.Type {
	case placed:
		return inTx[orderPlaced](e, h, box)
	case closed:
		return inTx[orderClosed](e, h, box)
	default:
		if h.Batch > 0 {
			return inBatches[orderChanged](e, h, box)
		}
		return inTx[orderChanged](e, h, box)
	}
}

func inTx[T any](e effects, h handlerSpec, box *pgxinbox.Inbox) handlers.Handler {
	fails := map[uuid.UUID]bool{}
	for _, id := range h.Poison {
		fails[id] = true
	}
	return handlers.InTx(h.Name, box, func(ctx context.Context, tx pgx.Tx, ev event.Of[T]) error {
		if err := e.write(ctx, tx, h.Name, ev.Event); err != nil {
			return err
		}
		if h.Work > 0 {
			if err := work(ctx, h.Work); err != nil {
				return err
			}
		}
		if err := e.meet(ctx, tx, &h, ev.Event); err != nil {
			return err
		}
		if fails[ev.ID()] || handlers.Attempt(ctx) <= failures(h, ev.ID()) {
			return errors.Join(errOnPurpose, e.fail(ctx, h.Name, ev.ID()))
		}
		return nil
	}).With(handlers.Settings{Tries: h.Tries, Timeout: h.Timeout, MinBackoff: 10 * time.Millisecond, MaxBackoff: 100 * time.Millisecond})
}

// write is the effect: it reads what its predecessors left and adds to it.
func (e effects) write(ctx context.Context, tx pgx.Tx, handler string, ev event.Event) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO effect (grp, handler, event_id, aggregate, sequence, before, member)
		SELECT $1, $2, $3, $4, $5, coalesce(max(sequence), 0), $6
		FROM effect WHERE grp = $1 AND handler = $2 AND aggregate = $4`,
		e.member.Group, handler, ev.ID(), ev.Aggregate().ID, ev.Sequence(), e.member.Name)
	return err
}

// fail notes a failure outside of the transaction that is about to roll back.
func (e effects) fail(ctx context.Context, handler string, id uuid.UUID) error {
	_, err := e.notes.Exec(ctx, `INSERT INTO failure (grp, handler, event_id, member) VALUES ($1, $2, $3, $4)`,
		e.member.Group, handler, id, e.member.Name)
	return err
}

// failures is how many first tries of an event fail: none, one or two, the same
// in every run of a plan.
func failures(h handlerSpec, id uuid.UUID) int {
	f := fnv.New64a()
	_, _ = f.Write([]byte(h.Name))
	_, _ = f.Write(id[:])
	// FNV mixes its last bytes into the low bits well.
	n := f.Sum64()
	if float64(n%10_000) >= h.Failing*10_000 {
		return 0
	}
	return 1 + int(n/10_000%2)
}

// work is the time that an effect takes.
func work(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
