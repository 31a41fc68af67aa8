package router

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidings-bus/tidings/internal/metric"
)

// The labels that most metrics have.
const (
	labelTopic   = "topic"
	labelHandler = "handler"
)

// everyHandler stands in the label handler for all handlers of a subscription:
// of events that are held before any of them could take it.
const everyHandler = "*"

// What became of an event, for one handler.
const (
	outcomeApplied      = "applied"
	outcomeDuplicate    = "duplicate"
	outcomeSkipped      = "skipped"
	outcomeHeld         = "held"
	outcomeParked       = "parked"
	outcomeParkedBehind = "parked_behind"
)

// metrics are the router's. Labels are topics, handlers and fixed words; never
// what comes over the wire.
type metrics struct {
	events      *prometheus.CounterVec
	handle      *prometheus.HistogramVec
	age         *prometheus.HistogramVec
	retries     *prometheus.CounterVec
	held        *prometheus.GaugeVec
	inFlight    *prometheus.GaugeVec
	unknown     *prometheus.CounterVec
	undecodable *prometheus.CounterVec
	attempts    *prometheus.HistogramVec
	full        *prometheus.GaugeVec
	near        *prometheus.CounterVec
	batches     *prometheus.HistogramVec
	splits      *prometheus.CounterVec
	outage      *prometheus.GaugeVec
	concurrency *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer, group string) (*metrics, error) {
	if reg != nil {
		reg = prometheus.WrapRegistererWith(prometheus.Labels{"group": group}, reg)
	}
	m := &metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tidings_router_events_total",
			Help: "Events by what became of them: applied, duplicate (applied before), held (once per event), parked (for a cause of its own), parked_behind (its key has parked events), skipped (no handler for the type; handler is empty).",
		}, []string{labelTopic, labelHandler, "outcome"}),
		handle: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "tidings_router_handle_seconds",
			Help:    "Time of one try of a handler, failed ones too.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{labelHandler}),
		age: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "tidings_router_event_age_seconds",
			Help:    "Age of an event when a handler had applied it, from the event's own time: end to end, by the clocks of two machines.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 15, 60, 300, 1800, 7200, 43200, 259200},
		}, []string{labelHandler}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tidings_router_retries_total",
			Help: "Tries that did not finish their event, by the class of their failure; the last one before it was parked too.",
		}, []string{labelHandler, "cause"}),
		held: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tidings_router_held_keys",
			Help: "Events that hold back their keys in this process until they can be applied; handler is * when it holds for every handler.",
		}, []string{labelTopic, labelHandler}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tidings_router_in_flight",
			Help: "Messages that handlers work on now.",
		}, []string{labelTopic}),
		unknown: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tidings_router_unknown_types_total",
			Help: "Events whose type is not in the catalog, skipped or refused.",
		}, []string{labelTopic}),
		undecodable: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tidings_router_undecodable_total",
			Help: "Messages that could not be decoded, once per message.",
		}, []string{labelTopic}),
	}
	m.attempts = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "tidings_router_attempts",
		Help:    "Tries of events that took more than one until they were applied, or were parked.",
		Buckets: []float64{1, 2, 3, 4, 5, 7, 10, 20, 50, 100, 1000},
	}, []string{labelHandler})
	m.full = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "tidings_router_parking_full",
		Help: "Events that wait in their lanes for room among the handler's dead letters: above 0 these are full.",
	}, []string{labelHandler})
	m.near = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tidings_router_deadline_near_total",
		Help: "Events not handled yet when nine tenths of the time until the handler's deadline for them had passed.",
	}, []string{labelTopic, labelHandler})
	m.batches = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "tidings_router_batch_events",
		Help:    "Events of each batch that was applied in one transaction, of more than one.",
		Buckets: []float64{2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000},
	}, []string{labelHandler})
	m.splits = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tidings_router_batch_splits_total",
		Help: "Batches that failed and were split to find the event that makes them fail.",
	}, []string{labelHandler})
	m.outage = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "tidings_router_outage_since_seconds",
		Help: "Since when the handler is in an outage, in seconds since 1970; 0: it is in none.",
	}, []string{labelTopic, labelHandler})
	m.concurrency = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "tidings_router_concurrency_limit",
		Help: "How many tries of the handler may run at once in this process now; 0: it has no bound of its own.",
	}, []string{labelTopic, labelHandler})
	if reg == nil {
		return m, nil
	}
	return m, errors.Join(
		register(reg, &m.events), register(reg, &m.handle), register(reg, &m.age), register(reg, &m.retries),
		register(reg, &m.held), register(reg, &m.inFlight), register(reg, &m.unknown), register(reg, &m.undecodable),
		register(reg, &m.attempts), register(reg, &m.full), register(reg, &m.near), register(reg, &m.batches), register(reg, &m.splits),
		register(reg, &m.outage), register(reg, &m.concurrency),
	)
}

// register is metric.Register, and says who failed.
func register[C prometheus.Collector](reg prometheus.Registerer, c *C) error {
	if err := metric.Register(reg, c); err != nil {
		return fmt.Errorf("router: registering metrics: %w", err)
	}
	return nil
}

// handlerMetrics are one handler's, looked up once.
type handlerMetrics struct {
	applied, duplicate, heldTotal prometheus.Counter
	parked, parkedBehind, near    prometheus.Counter
	handle, age, attempts         prometheus.Observer
	retries                       [causes]prometheus.Counter
	held, outage, concurrency     prometheus.Gauge
	full                          *fullness
}

func (m *metrics) forHandler(topic, handler string) *handlerMetrics {
	h := &handlerMetrics{
		applied:   m.events.WithLabelValues(topic, handler, outcomeApplied),
		duplicate: m.events.WithLabelValues(topic, handler, outcomeDuplicate),
		heldTotal: m.events.WithLabelValues(topic, handler, outcomeHeld),
		handle:    m.handle.WithLabelValues(handler),
		age:       m.age.WithLabelValues(handler),
		attempts:  m.attempts.WithLabelValues(handler),
		held:      m.held.WithLabelValues(topic, handler),

		parked:       m.events.WithLabelValues(topic, handler, outcomeParked),
		parkedBehind: m.events.WithLabelValues(topic, handler, outcomeParkedBehind),
		near:         m.near.WithLabelValues(topic, handler),
		outage:       m.outage.WithLabelValues(topic, handler),
		concurrency:  m.concurrency.WithLabelValues(topic, handler),
		full:         &fullness{gauge: m.full.WithLabelValues(handler)},
	}
	for c := range causes {
		h.retries[c] = m.retries.WithLabelValues(handler, c.String())
	}
	return h
}
