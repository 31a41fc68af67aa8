package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/internal/testenv"
	"github.com/tidings-bus/tidings/publisher"
)

// rebalance is five steps of a group under a steady load, with members that are
// processes of their own: a begins, b and c join, a leaves, d joins, c is killed.
// A twentieth of the keys fail for good, and keys change every ten seconds, so
// that some are between their tries at each step.
var rebalance = measure{
	name: "rebalance",
	what: "600 events/s on 6 partitions, InTx handlers of 10 ms, 5 % of the keys failing for good; members join, leave and die (a round takes about a minute, whatever -seconds says)",
	parts: []part{
		{name: "rebalance-repeats", unit: "events", less: true, by: alone, what: "events handed out again by joins and leaves, 5 % of the keys failing for good"},
		{name: "rebalance-first", unit: "s", goal: 1.5, less: true, by: alone, what: "from the start of a joining process to its first message; the slowest of three"},
		{name: "rebalance-pause", unit: "s", goal: 1, less: true, by: alone, what: "the longest pause of a partition by joins and leaves"},
		{name: "rebalance-killed", unit: "events", goal: 1, less: true, what: "events handed out again after SIGKILL; peer: what the killed member handled in half a second"},
		{name: "rebalance-doubled", unit: "effects", less: true, by: alone, what: "effects that are there twice after all that"},
	},
	prepare: func(ctx context.Context, e *env) (sides, error) {
		db, err := e.fresh(ctx)
		if err != nil {
			return sides{}, err
		}
		return sides{
			cold: true, cleanup: db.close,
			oursParts: func(ctx context.Context, _ time.Duration) ([]float64, error) { return rebalanceRound(ctx, e, db) },
		}, nil
	},
}

const (
	rebalancePartitions = 6
	rebalanceRate       = 600
	keysLive            = 10 * time.Second
	rebalancePatience   = 5 * time.Minute
)

// group is the members of one round.
type group struct {
	env     *env
	db      *database
	spec    member
	members map[string]*process
	load    *stream

	pause time.Duration // the longest of graceful steps
	first time.Duration // the slowest first message
}

func rebalanceRound(ctx context.Context, e *env, db *database) (_ []float64, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, rebalancePatience, fmt.Errorf("a round took longer than %v: is the machine too slow, or too busy, for %d events/s?", rebalancePatience, rebalanceRate))
	defer cancel()
	topic, brokers, err := e.topic(ctx, "rebalance", rebalancePartitions)
	if err != nil {
		return nil, err
	}
	if _, err := db.pool.Exec(ctx, `TRUNCATE effect`); err != nil {
		return nil, err
	}
	g := &group{
		env: e, db: db, members: map[string]*process{},
		spec: member{Group: testenv.Name("rebalance"), Brokers: brokers, Topic: topic, Postgres: db.url},
	}
	g.load = &stream{brokers: brokers, topic: topic}
	defer func() { err = join(err, g.end(ctx)) }()

	loading, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- g.load.run(loading) }()

	figures, err := g.steps(ctx)
	stop()
	if err := join(err, <-ended); err != nil {
		return nil, err
	}
	if err := g.awaitEffects(ctx, g.load.wanted.Load()); err != nil {
		return nil, err
	}
	var doubled float64
	if err := db.pool.QueryRow(ctx, `SELECT count(*) - count(DISTINCT event_id) FROM effect`).Scan(&doubled); err != nil {
		return nil, err
	}
	// Ours, and behind them the peers': only what a kill repeats has one.
	return append(figures.ours(doubled), 0, 0, 0, figures.bound, 0), nil
}

// stepped is what the steps have shown.
type stepped struct {
	repeats, killed, bound float64
	pause, first           time.Duration
}

func (s stepped) ours(doubled float64) []float64 {
	return []float64{s.repeats, s.first.Seconds(), s.pause.Seconds(), s.killed, doubled}
}

func (g *group) steps(ctx context.Context) (stepped, error) {
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) error { return g.begins(ctx, "a") },
		func(ctx context.Context) error { return g.joins(ctx, "b") },
		func(ctx context.Context) error { return g.joins(ctx, "c") },
		func(ctx context.Context) error { return g.leaves(ctx, "a") },
		func(ctx context.Context) error { return g.joins(ctx, "d") },
	} {
		if err := step(ctx); err != nil {
			return stepped{}, err
		}
	}
	s := stepped{pause: g.pause, first: g.first, repeats: float64(g.repeats())}

	const span = 2 * time.Second
	victim := g.members["c"]
	from := time.Now()
	if err := victim.kill(); err != nil {
		return s, err
	}
	for _, n := range victim.noted("fresh") {
		if n.at.After(from.Add(-span)) {
			s.bound++
		}
	}
	s.bound *= 0.5 / span.Seconds()
	if err := g.settle(ctx, "c is killed", from); err != nil {
		return s, err
	}
	s.killed = float64(g.repeats()) - s.repeats
	g.env.logf("rebalance: c is killed: %.0f events handed out again, half a second of its rate is %.0f", s.killed, s.bound)
	return s, nil
}

// begins starts the first member. Its keys begin to fail before anybody joins.
func (g *group) begins(ctx context.Context, name string) error {
	p, err := g.start(ctx, name)
	if err != nil {
		return err
	}
	return g.settle(ctx, name+" begins", p.spawned)
}

func (g *group) start(ctx context.Context, name string) (*process, error) {
	spec := g.spec
	spec.Name = name
	p, err := spec.start(ctx)
	if err == nil {
		g.members[name] = p
	}
	return p, err
}

func (g *group) joins(ctx context.Context, name string) error {
	p, err := g.start(ctx, name)
	if err != nil {
		return err
	}
	what := name + " joins"
	if err := g.await(ctx, what, func() bool { return len(p.noted("fresh")) > 0 }); err != nil {
		return err
	}
	first := p.noted(begun)[0].at.Sub(p.spawned)
	g.first = max(g.first, first)
	g.env.logf("rebalance: %s: its first message after %v", what, first.Round(time.Millisecond))
	if err := g.settle(ctx, what, p.spawned); err != nil {
		return err
	}
	g.paused(what, p.spawned)
	return nil
}

func (g *group) leaves(ctx context.Context, name string) error {
	from, what := time.Now(), name+" leaves"
	if err := g.members[name].stop(); err != nil {
		return err
	}
	if err := g.settle(ctx, what, from); err != nil {
		return err
	}
	g.paused(what, from)
	return nil
}

// settle waits until every partition is read on, two seconds after the step, and
// the group has caught up with the load: a backlog would be measured with the
// next step. A machine that is too slow for the load ends in an error.
func (g *group) settle(ctx context.Context, what string, from time.Time) error {
	const calm = 2 * time.Second
	const behind = rebalanceRate / 2
	return g.await(ctx, what+", and has caught up with the load", func() bool {
		read := map[int]bool{}
		missing := g.load.wanted.Load()
		for _, p := range g.members {
			fresh := p.noted("fresh")
			missing -= int64(len(fresh))
			for _, n := range fresh {
				if n.at.After(from.Add(calm)) {
					read[n.partition] = true
				}
			}
		}
		return len(read) == rebalancePartitions && missing < behind
	})
}

// paused notes the longest time since from in which nothing of a partition was begun.
func (g *group) paused(what string, from time.Time) {
	all := make([]noted, 0, 1<<16)
	for _, p := range g.members {
		all = append(all, p.noted(begun)...)
	}
	slices.SortFunc(all, func(a, b noted) int { return a.at.Compare(b.at) })
	last := map[int]time.Time{}
	var longest time.Duration
	for _, n := range all {
		if before, known := last[n.partition]; known && n.at.After(from) {
			longest = max(longest, n.at.Sub(before))
		}
		last[n.partition] = n.at
	}
	g.pause = max(g.pause, longest)
	g.env.logf("rebalance: %s: longest pause of a partition %v", what, longest.Round(time.Millisecond))
}

func (g *group) repeats() int {
	n := 0
	for _, p := range g.members {
		n += len(p.noted("duplicate"))
	}
	return n
}

func (g *group) awaitEffects(ctx context.Context, wanted int64) error {
	var failed error
	err := g.await(ctx, "all effects", func() bool {
		var n int64
		failed = g.db.pool.QueryRow(ctx, `SELECT count(DISTINCT event_id) FROM effect`).Scan(&n)
		return failed != nil || n >= wanted
	})
	return join(err, failed)
}

// await polls until the condition holds. A member that died by itself is an error.
func (g *group) await(ctx context.Context, what string, reached func() bool) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !reached() {
		for _, p := range g.members {
			if err := p.fault(); err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		case <-tick.C:
		}
	}
	return nil
}

// end stops the members that are left. They die with ctx.
func (g *group) end(ctx context.Context) error {
	var failed error
	for _, p := range g.members {
		switch {
		case p.asked:
		case ctx.Err() != nil:
			_ = p.kill() // it may be dead
		default:
			failed = join(failed, p.stop())
		}
	}
	return failed
}

// stream publishes at a steady rate.
type stream struct {
	brokers []string
	topic   string
	wanted  atomic.Int64 // events of keys that do not fail
}

func (s *stream) run(ctx context.Context) (err error) {
	p, err := publisher.New(publisher.Config{
		Connection: connection.Config{Brokers: s.brokers},
		TopicFor:   func(event.Event) string { return s.topic },
	})
	if err != nil {
		return err
	}
	unended := context.WithoutCancel(ctx)
	defer func() { err = join(err, p.Close(unended)) }()
	const every = 20 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	begun := time.Now()
	for sent := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		due := int(math.Round(time.Since(begun).Seconds() * rebalanceRate))
		generation := int(time.Since(begun) / keysLive)
		var batch []event.Event
		for ; sent < due; sent++ {
			k := "order-" + strconv.Itoa(generation*publishKeys+sent%publishKeys)
			ev, err := event.New(event.Draft{
				Type: eventType, Source: "/bench", Aggregate: event.Aggregate{Type: "order", ID: k}, Data: payload,
			})
			if err != nil {
				return err
			}
			if !faulty(k) {
				s.wanted.Add(1)
			}
			batch = append(batch, ev)
		}
		if len(batch) == 0 {
			continue
		}
		if err := p.Publish(unended, batch...); err != nil {
			return err
		}
	}
}
