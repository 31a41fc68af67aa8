package integration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/publisher"
)

// producer is a process that publishes the ledger's plan: every event of a key
// by the same caller, in order, several callers side by side.
type producer struct {
	// Callers that publish side by side. Zero: 4.
	Callers int
	// Slice is the most events of one call; how many they are is random.
	// Zero: 50.
	Slice int
	// Pace is the time between two calls of a caller. Zero: none. Released by
	// SIGUSR1, the producer sends what is left as fast as it can.
	Pace time.Duration
	// Twice is the share of events that are published again right away; as many
	// again are published once more at the very end.
	Twice float64
	// From is how many of the plan's events to leave out at its beginning.
	From int
	// Seed of what is random.
	Seed uint64

	// Set by the scene.
	Brokers  []string
	Prefix   string
	Postgres string

	// For a producer inside of the test's own process.
	secure *connection.Config
}

// run publishes everything, or until ctx ends. Every call must be acknowledged.
func (p *producer) run(ctx context.Context) error {
	pool, err := pgxpool.New(ctx, p.Postgres)
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	defer pool.Close()
	events, err := readPlan(ctx, pool)
	if err != nil {
		return err
	}
	config := publisher.Config{
		Connection:  connection.Config{Brokers: p.Brokers, ClientID: "producer"},
		TopicPrefix: p.Prefix,
	}
	if p.secure != nil {
		config.Connection = *p.secure
	}
	pub, err := publisher.New(config)
	if err != nil {
		return err
	}
	return errors.Join(p.publish(ctx, pub, events[p.From:]), pub.Close(context.WithoutCancel(ctx)))
}

// publish brings the events to Kafka.
func (p *producer) publish(ctx context.Context, pub *publisher.Publisher, events []planned) error {
	catalog, err := newCatalog()
	if err != nil {
		return err
	}
	callers := p.Callers
	if callers == 0 {
		callers = 4
	}
	lanes := make([][]event.Event, callers)
	for _, e := range events {
		made, err := e.event(ctx, catalog)
		if err != nil {
			return err
		}
		at := e.lane(callers)
		lanes[at] = append(lanes[at], made)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	released := release(ctx)
	group, ctx := errgroup.WithContext(ctx)
	for i, lane := range lanes {
		group.Go(func() error {
			c := caller{pub: pub, random: rand.New(rand.NewPCG(p.Seed, uint64(i))), producer: p, released: released}
			return c.publish(ctx, lane)
		})
	}
	return group.Wait()
}

// caller is one of those that publish side by side.
type caller struct {
	*producer

	pub      *publisher.Publisher
	random   *rand.Rand
	released <-chan struct{}
}

// pause keeps the pace.
func (c *caller) pause(ctx context.Context) error {
	if c.Pace == 0 {
		return nil
	}
	t := time.NewTimer(c.Pace)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.released:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// release returns a channel that SIGUSR1 closes.
func release(ctx context.Context) <-chan struct{} {
	released := make(chan struct{})
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	go func() {
		defer signal.Stop(signals)
		select {
		case <-signals:
			close(released)
		case <-ctx.Done():
		}
	}()
	return released
}

func (c *caller) publish(ctx context.Context, events []event.Event) error {
	most := c.Slice
	if most == 0 {
		most = 50
	}
	var later []event.Event
	sent, repeated := 0, 0
	for rest := events; len(rest) > 0; {
		n := min(1+c.random.IntN(most), len(rest))
		if err := c.pub.Publish(ctx, rest[:n]...); err != nil {
			return err
		}
		sent += n
		for _, e := range rest[:n] {
			if c.random.Float64() < c.Twice {
				if err := c.pub.Publish(ctx, e); err != nil {
					return fmt.Errorf("publish again: %w", err)
				}
				repeated++
			}
			if c.random.Float64() < c.Twice {
				later = append(later, e)
			}
		}
		rest = rest[n:]
		if err := c.pause(ctx); err != nil {
			return err
		}
	}
	if len(later) > 0 {
		if err := c.pub.Publish(ctx, later...); err != nil {
			return fmt.Errorf("publish once more at the end: %w", err)
		}
	}
	slog.InfoContext(ctx, "a caller is done", "published", sent, "again", repeated, "at the end", len(later))
	return nil
}
