package demo

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	lookEvery = 100 * time.Millisecond
	// stallTimeout is how long nothing may move before the demo stops waiting
	// and lets the audit say what is missing.
	stallTimeout = 45 * time.Second
)

// faults is what the demo breaks, and how far it has got with it.
type faults struct {
	kills    int
	killedAt int  // published, when the process was killed
	down     bool // killed and not yet started again
	// Of the process when it was killed: the effects it had had, and the events
	// of its partitions that were in the topic and not finished.
	effects    int
	unfinished int
	after      int // events that it handled or refused when it was started again
	restarts   int
	restart    span // of the broker, and until all members are back in their groups
}

// A member whose partitions are taken as the broker comes back hears of it by a
// heartbeat; handlers may have begun somewhat before the broker stopped.
const (
	beforeRestart = time.Second
	afterRestart  = 10 * time.Second
)

// amid says that a kill hit a process in the middle of its work.
func (f faults) amid() bool { return f.effects > 0 && f.unfinished > 0 }

const victim = "billing-2"

// missing names the faults that did not happen: without them nothing was shown.
func (f faults) missing(ownBroker bool) []string {
	var m []string
	switch {
	case f.kills == 0 || f.down:
		m = append(m, fmt.Sprintf("faults: %s was not killed and started again while events were handled", victim))
	case !f.amid():
		m = append(m, fmt.Sprintf("faults: %s was not in the middle of its work when it was killed: %d effects were its own, %d events of its partitions were not finished", victim, f.effects, f.unfinished))
	case f.after == 0:
		m = append(m, fmt.Sprintf("faults: %s handled nothing after it was started again", victim))
	}
	if ownBroker && f.restarts == 0 {
		m = append(m, "faults: the broker was not restarted while events were published")
	}
	return m
}

// progress is how far everybody is.
type progress struct {
	published int
	effects   map[string]int
	lag       int64
}

func (p progress) equal(o progress) bool {
	if p.published != o.published || p.lag != o.lag {
		return false
	}
	for k, v := range p.effects {
		if o.effects[k] != v {
			return false
		}
	}
	return true
}

// watch shows progress and breaks things until all is published and every group
// has read the topic to its end. It returns nil, too, when nothing moves any
// more: the audit names what is missing.
func (r *run) watch(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var last progress
	moved := time.Now()
	for {
		if err := r.alive(); err != nil {
			return err
		}
		published := r.live["order-1"].ended()
		p, err := r.look(ctx, published)
		if err != nil {
			return err
		}
		r.screen.draw(r.bars(p))
		if !p.equal(last) {
			last, moved = p, time.Now()
		}
		if published && p.lag == 0 {
			r.screen.end()
			return nil
		}
		if time.Since(moved) > stallTimeout {
			r.screen.sayf("nothing moved for %s; the audit will say what is missing", stallTimeout)
			r.screen.end()
			return nil
		}
		if err := r.breakThings(ctx, p); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// alive fails when a process has ended that should run.
func (r *run) alive() error {
	for name, p := range r.live {
		if !p.ended() || name == "order-1" && p.err == nil {
			continue
		}
		return p.failure()
	}
	if r.broker != nil && r.broker.ended() {
		return r.broker.failure()
	}
	return nil
}

// look counts in the services' own databases.
func (r *run) look(ctx context.Context, published bool) (progress, error) {
	p := progress{effects: map[string]int{}, lag: -1}
	if err := one(ctx, r.stores[shop], `SELECT count(*) FROM demo_journal`, nil, &p.published); err != nil {
		return p, fmt.Errorf("counting the journal: %w", err)
	}
	for _, s := range []string{billing, shipping} {
		n := 0
		if err := one(ctx, r.stores[s], `SELECT count(*) FROM demo_effect WHERE service = $1`, []any{s}, &n); err != nil {
			return p, fmt.Errorf("counting the effects of %s: %w", s, err)
		}
		p.effects[s] = n
	}
	p.effects[mail], _, _ = r.provider.counts()
	if !published {
		return p, nil
	}
	lag, err := r.cluster.lag(ctx, r.groups())
	if err != nil {
		return p, err
	}
	p.lag = lag
	return p, nil
}

// bars are the lines of the screen.
func (r *run) bars(p progress) []bar {
	bars := make([]bar, 0, 1+len(services))
	bars = append(bars, bar{name: shop, done: p.published, total: r.Events, note: "published"})
	for _, s := range services {
		st := r.statsOf(s.name)
		note := fmt.Sprintf("refused %d", st.Refused)
		if s.name == mail {
			_, failed, _ := r.provider.counts()
			note += fmt.Sprintf(", failed %d", failed)
		}
		bars = append(bars, bar{name: s.name, done: p.effects[s.name], total: r.expected(s.types), note: note})
	}
	return bars
}

// statsOf adds up what a service's processes said, those that ended included.
func (r *run) statsOf(service string) Stats {
	sum := r.past[service]
	for _, m := range members {
		if p := r.live[m.name]; p != nil && m.service == service {
			s := p.said()
			sum.Refused += s.Refused
			sum.Retries += s.Retries
			sum.Applied += s.Applied
		}
	}
	return sum
}

// expected is how many events of the types the plans hold.
func (r *run) expected(types []string) int {
	if r.planned == nil {
		r.planned = map[string]int{}
		for _, p := range plans(r.Seed, r.Orders, r.Events) {
			for _, s := range p.steps {
				r.planned[s.do]++
			}
		}
	}
	n := 0
	for _, t := range types {
		n += r.planned[t]
	}
	return n
}

// breakThings kills a billing process and restarts the broker, each in the
// middle of the work.
func (r *run) breakThings(ctx context.Context, p progress) error {
	f := &r.faults
	switch {
	case !f.down && !f.amid() && p.published >= r.Events/5:
		return r.killAmid(ctx, p.published)
	case f.down && (p.published >= f.killedAt+r.Events/20 || p.published == r.Events):
		if err := r.startMember(victim, billing); err != nil {
			return err
		}
		f.down = false
		r.screen.sayf("started %s again", victim)
	case r.broker != nil && f.restarts == 0 && f.amid() && !f.down && p.published >= r.Events/2:
		addr := *r.broker.addr.Load()
		f.restart.from = time.Now().Add(-beforeRestart)
		if err := r.broker.stop(); err != nil {
			return err
		}
		r.screen.sayf("stopped the broker")
		if err := r.startBroker(ctx, addr); err != nil {
			return err
		}
		// Its connections are from before.
		r.cluster.close()
		var err error
		if r.cluster, err = openCluster(r.opts, r.topic); err != nil {
			return err
		}
		f.restarts = 1
		f.restart.until = time.Now().Add(afterRestart)
		r.screen.sayf("started the broker again, on its data")
	}
	return nil
}

// killAmid kills the victim if it is in the middle of its work: it has had
// effects, and its partitions have events that it has not finished. As it has a
// name in its group, nobody else gets its partitions at once: what is not
// finished after the kill was not finished by it. When it was quicker than the
// kill, it is killed again another time.
func (r *run) killAmid(ctx context.Context, published int) error {
	f := &r.faults
	mine := `SELECT count(*) FROM demo_effect WHERE service = $1 AND member = $2`
	if err := one(ctx, r.stores[billing], mine, []any{billing, victim}, &f.effects); err != nil {
		return fmt.Errorf("counting the effects of %s: %w", victim, err)
	}
	if f.effects == 0 {
		return nil
	}
	ends, err := r.cluster.held(ctx, r.group(billing), victim)
	if err != nil {
		return err
	}
	if left, err := r.cluster.unfinished(ctx, r.group(billing), ends); err != nil || left == 0 {
		return err
	}
	r.retire(victim, billing)
	f.kills++
	f.killedAt, f.down = published, true
	if err := one(ctx, r.stores[billing], mine, []any{billing, victim}, &f.effects); err != nil {
		return fmt.Errorf("counting the effects of %s: %w", victim, err)
	}
	left, err := r.cluster.unfinished(ctx, r.group(billing), ends)
	if err != nil {
		return err
	}
	f.unfinished = int(left)
	were := "were"
	if left == 1 {
		were = "was"
	}
	r.screen.sayf("killed %s with SIGKILL: %s effects were its own, %s of its %s %s not finished",
		victim, thousands(f.effects), count(f.unfinished, "event"), count(len(ends), "partition"), were)
	return nil
}

// retire kills a process and keeps what it said.
func (r *run) retire(name, service string) {
	p := r.live[name]
	p.kill()
	delete(r.live, name)
	sum, s := r.past[service], p.said()
	sum.Refused += s.Refused
	sum.Retries += s.Retries
	sum.Applied += s.Applied
	r.past[service] = sum
}

// stopServices lets the services end in peace, all at once.
func (r *run) stopServices() error {
	errs := make(chan error)
	for _, p := range r.live {
		go func() { errs <- p.stop() }()
	}
	var all []error
	for range r.live {
		all = append(all, <-errs)
	}
	for _, p := range r.live {
		if p.err != nil {
			all = append(all, p.failure())
		}
	}
	return errors.Join(all...)
}
