package deadletter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidings-bus/tidings/internal/metric"
)

// refresh is how often the gauges are read from the store.
const refresh = 15 * time.Second

// orphaned stands in the label handler for all handlers that the Runner does
// not have.
const orphaned = "(orphaned)"

const labelHandler = "handler"

// metrics are the Runner's. Labels are the names of its handlers and fixed words.
type metrics struct {
	retries *prometheus.CounterVec
	keys    *prometheus.GaugeVec
	events  *prometheus.GaugeVec
	age     *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer, group string) (*metrics, error) {
	m := &metrics{
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tidings_deadletter_retries_total",
			Help: "Retries of parked events by outcome: applied, failed (its key stops), not_tried (the database was away, or an outage), passed (somebody else was here).",
		}, []string{labelHandler, "outcome"}),
		keys: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tidings_deadletter_parked_keys",
			Help: "Parked keys, of the whole group; handler is (orphaned) for handlers that this member does not have.",
		}, []string{labelHandler}),
		events: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tidings_deadletter_parked_events",
			Help: "Parked events, of the whole group.",
		}, []string{labelHandler}),
		age: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tidings_deadletter_oldest_head_age_seconds",
			Help: "How long the parked event that has waited longest at the head of its key has been parked.",
		}, []string{labelHandler}),
	}
	if reg == nil {
		return m, nil
	}
	reg = prometheus.WrapRegistererWith(prometheus.Labels{"group": group}, reg)
	return m, errors.Join(register(reg, &m.retries), register(reg, &m.keys), register(reg, &m.events), register(reg, &m.age))
}

// register is metric.Register, and says who failed.
func register[C prometheus.Collector](reg prometheus.Registerer, c *C) error {
	if err := metric.Register(reg, c); err != nil {
		return fmt.Errorf("deadletter: registering metrics: %w", err)
	}
	return nil
}

func (m *metrics) retried(handler string, v Verdict) {
	m.retries.WithLabelValues(handler, v.String()).Inc()
}

// size is what the gauges show of a handler.
type size struct{ keys, events, age float64 }

// add changes the gauges by the difference: Runners of several stores in one
// process share the label for orphans.
func (m *metrics) add(handler string, from, to size) {
	m.keys.WithLabelValues(handler).Add(to.keys - from.keys)
	m.events.WithLabelValues(handler).Add(to.events - from.events)
	m.age.WithLabelValues(handler).Add(to.age - from.age)
}

// watch refreshes the gauges until ctx ends.
func (r *Runner) watch(ctx context.Context) {
	shown := map[string]size{}
	for _, name := range r.names {
		r.metrics.add(name, size{}, size{}) // a handler without parked events shows 0
	}
	defer func() {
		for name, s := range shown {
			r.metrics.add(name, s, size{})
		}
	}()
	for {
		now, err := r.sizes(ctx)
		if ctx.Err() != nil {
			return
		}
		if r.failed(err); err == nil {
			for name, s := range now {
				r.metrics.add(name, shown[name], s)
			}
			for name, s := range shown {
				if _, still := now[name]; !still {
					r.metrics.add(name, s, size{})
				}
			}
			shown = now
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(around(refresh)):
		}
	}
}

func (r *Runner) sizes(ctx context.Context) (map[string]size, error) {
	counts, err := r.config.Store.Count(ctx, Filter{Group: r.config.Group}, ByHandler)
	if err != nil {
		return nil, fmt.Errorf("count parked events: %w", err)
	}
	sizes := map[string]size{}
	for _, c := range counts {
		name := c.Group[ByHandler]
		if r.config.Handlers[name] == nil {
			name = orphaned
		}
		s := sizes[name]
		s.keys += float64(c.Keys)
		s.events += float64(c.Events)
		if !c.Oldest.IsZero() {
			s.age = max(s.age, time.Since(c.Oldest).Seconds())
		}
		sizes[name] = s
	}
	return sizes, nil
}
