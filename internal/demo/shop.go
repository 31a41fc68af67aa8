package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidings-bus/tidings/admin"
	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/dispatch"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/publisher"
)

// Shop is the order service: it places, pays, ships and cancels orders, each
// step in a transaction of its own, and publishes what happened after the commit.
type Shop struct {
	Connection connection.Config
	Store      StoreConfig
	// Topic to publish to. Empty: "order".
	Topic string
	// Orders and Events say how much happens in all. Zero Events: orders are
	// made for ever.
	Orders int
	Events int
	// Seed of what happens. Used with Events.
	Seed uint64
	// Rate is how many events happen in a second. Zero: as fast as it goes.
	Rate float64
	// Workers is how many orders are worked on at once. Zero: 8.
	Workers int
	// WithoutControlTopic leaves no record of the topic behind: see publisher.Config.
	WithoutControlTopic bool
	// Admin is the address of the admin port. Empty: none.
	Admin string
	// Logger. Nil: slog.Default().
	Logger *slog.Logger
}

func (s Shop) validate() error {
	switch {
	case s.Events < 0 || s.Orders < 0:
		return fmt.Errorf("%d events over %d orders: neither may be negative", s.Events, s.Orders)
	case s.Events > 0 && s.Orders == 0:
		return fmt.Errorf("%d events over no orders: give at least one order", s.Events)
	case s.Events > 0 && s.Events < s.Orders:
		return fmt.Errorf("%d events over %d orders: every order has at least one event; raise the events or lower the orders", s.Events, s.Orders)
	case s.Rate < 0:
		return fmt.Errorf("rate %v must not be negative; 0 is as fast as it goes", s.Rate)
	}
	return s.Store.validate()
}

const (
	// publishTimeout is how long an event that has happened waits for the brokers.
	publishTimeout = time.Minute
	// stepGrace is how long a step may take that has begun before the stop.
	stepGrace = 10 * time.Second
)

// Run makes orders until all are made or ctx ends. In the first case it returns
// nil when every event is acknowledged.
func (s Shop) Run(ctx context.Context, ready func()) error {
	if err := s.validate(); err != nil {
		return err
	}
	s.Topic = orElse(s.Topic, aggregateType)
	if s.Workers == 0 {
		s.Workers = 8
	}
	if s.Logger == nil {
		s.Logger = slog.Default()
	}
	db, err := openStore(ctx, s.Store)
	if err != nil {
		return err
	}
	defer db.close()
	cat, err := catalog()
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	pub, err := publisher.New(publisher.Config{
		Connection: s.Connection,
		TopicFor:   func(event.Event) string { return s.Topic },
		Logger:     s.Logger,
		Metrics:    registry,

		WithoutControlTopic: s.WithoutControlTopic,
	})
	if err != nil {
		return err
	}
	defer func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_ = pub.Close(stop) // every Publish has returned
	}()
	dispatcher, err := dispatch.New(dispatch.Config{Catalog: cat, Sink: pub, PublishTimeout: publishTimeout})
	if err != nil {
		return err
	}
	d := &desk{Shop: s, db: db, catalog: cat, publisher: pub, dispatcher: dispatcher}
	return d.run(ctx, registry, ready)
}

// desk is a running shop.
type desk struct {
	Shop

	db         store
	catalog    *event.Catalog
	publisher  *publisher.Publisher
	dispatcher *dispatch.Dispatcher
	begun      time.Time
	paced      atomic.Int64
}

func (d *desk) run(ctx context.Context, registry *prometheus.Registry, ready func()) error {
	stop, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	if d.Admin != "" {
		srv, err := admin.New(admin.Config{Addr: d.Admin, Registry: registry, Logger: d.Logger, Checks: []admin.Check{
			{Name: "publisher", Ready: d.publisher.Ping},
		}})
		if err != nil {
			return err
		}
		served := make(chan error, 1)
		go func() { served <- srv.Run(stop) }()
		defer func() {
			cancel()
			<-served //nolint:errcheck // it ends as told to
		}()
		if srv.Addr(ctx) == nil {
			return <-served
		}
	}
	d.begun = time.Now()
	if ready != nil {
		ready()
	}
	var all []plan
	if d.Events > 0 {
		all = plans(d.Seed, d.Orders, d.Events)
	}
	for w := range d.Workers {
		g.Go(func() error {
			err := d.work(ctx, w, all)
			if ctx.Err() != nil && errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		})
	}
	return g.Wait()
}

// work takes every Workers-th order, and does the steps of several side by side,
// so that keys interleave in the topic. The steps of one order follow each other.
func (d *desk) work(ctx context.Context, worker int, all []plan) error {
	const open = 16
	rng := rand.New(rand.NewPCG(d.Seed, uint64(worker)<<32)) //nolint:gosec // reproducible on purpose
	var (
		next   = worker
		active []plan
		ended  bool
	)
	for {
		for !ended && len(active) < open {
			p, ok := d.plan(all, next, rng)
			if next += d.Workers; !ok {
				ended = true
				break
			}
			active = append(active, p)
		}
		if len(active) == 0 {
			return nil
		}
		if err := d.pace(ctx); err != nil {
			return err
		}
		i := rng.IntN(len(active))
		p := &active[i]
		if err := d.do(ctx, *p, p.steps[0]); err != nil {
			return err
		}
		if p.steps = p.steps[1:]; len(p.steps) == 0 {
			active[i] = active[len(active)-1]
			active = active[:len(active)-1]
		}
	}
}

// plan returns the n-th order's, or false when there are no more.
func (d *desk) plan(all []plan, n int, rng *rand.Rand) (plan, bool) {
	if d.Events > 0 {
		if n >= len(all) {
			return plan{}, false
		}
		return all[n], true
	}
	id := "o-" + strconv.FormatInt(d.begun.UnixMilli(), 36) + "-" + strconv.Itoa(n+1)
	return makePlan(rng.Uint64(), id, uint64(n), 3+rng.IntN(10)), true //nolint:gosec // n is no negative number
}

// pace waits for the next event's turn.
func (d *desk) pace(ctx context.Context) error {
	if d.Rate == 0 {
		return ctx.Err()
	}
	n := d.paced.Add(1) - 1
	due := d.begun.Add(time.Duration(float64(n) / d.Rate * float64(time.Second)))
	t := time.NewTimer(time.Until(due))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// do is one business transaction: load, decide, save, commit. What the order
// recorded is published when that has succeeded. A stop does not cut it off: of a
// commit on its way nobody would know whether it happened.
func (d *desk) do(ctx context.Context, p plan, s step) error {
	stopped := ctx
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(stopped, func() { time.AfterFunc(stepGrace, cancel) })()
	var recorded []event.Raised
	err := d.dispatcher.Do(ctx, func(ctx context.Context) error {
		return d.db.inTx(ctx, func(ctx context.Context, q querier) error {
			o, err := loadOrder(ctx, q, p.id)
			if err != nil {
				return err
			}
			if err := s.apply(o, p.customer); err != nil {
				return err
			}
			recorded = o.Recorded()
			if err := saveOrder(ctx, q, o, s.twice); err != nil {
				return err
			}
			return dispatch.Collect(ctx, o)
		})
	})
	if err != nil {
		return fmt.Errorf("order %s: %w", p.id, err)
	}
	if s.twice {
		return d.again(context.WithoutCancel(ctx), recorded)
	}
	return nil
}

// again publishes events a second time, under their own IDs, as a caller does
// that did not hear of its success.
func (d *desk) again(ctx context.Context, recorded []event.Raised) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	for _, r := range recorded {
		e, err := d.catalog.Event(ctx, r)
		if err != nil {
			return err
		}
		if err := d.publisher.Publish(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

func loadOrder(ctx context.Context, q querier, id string) (*order, error) {
	var (
		state                   string
		paid, parcels, sequence int64
	)
	// A worker owns its orders, so that nobody else changes the row meanwhile.
	err := one(ctx, q, `SELECT state, paid, parcels, sequence FROM demo_order WHERE id = $1`, []any{id}, &state, &paid, &parcels, &sequence)
	if err != nil {
		return nil, fmt.Errorf("loading: %w", err)
	}
	return newOrder(id, state, paid, parcels, sequence), nil
}

func saveOrder(ctx context.Context, q querier, o *order, twice bool) error {
	err := q.exec(ctx, `INSERT INTO demo_order (id, state, paid, parcels, sequence) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (id) DO UPDATE SET state = excluded.state, paid = excluded.paid, parcels = excluded.parcels, sequence = excluded.sequence`,
		o.id, o.state, o.paid, o.parcels, o.LastSequence())
	if err != nil {
		return fmt.Errorf("saving: %w", err)
	}
	for _, r := range o.Recorded() {
		typ, amount := describe(r.Payload)
		err := q.exec(ctx, `INSERT INTO demo_journal (event_id, order_id, sequence, type, amount, twice) VALUES ($1, $2, $3, $4, $5, $6)`,
			r.ID.String(), o.id, r.Sequence, typ, amount, twice)
		if err != nil {
			return fmt.Errorf("writing the journal: %w", err)
		}
	}
	return nil
}

// describe returns what the journal says of a payload: its type, and what it
// adds to the order's balance.
func describe(payload any) (typ string, amount int64) {
	switch p := payload.(type) {
	case OrderPlaced:
		return typePlaced, 0
	case OrderPaid:
		return typePaid, p.Amount
	case OrderShipped:
		return typeShipped, 0
	case OrderCanceled:
		return typeCanceled, -p.Refund
	}
	return fmt.Sprintf("%T", payload), 0
}
