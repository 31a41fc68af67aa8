package publisher

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
)

// metrics counts what the publisher does. A nil *metrics counts nothing.
type metrics struct {
	registerer prometheus.Registerer
	all        []prometheus.Collector

	events     *prometheus.CounterVec
	retries    *prometheus.CounterVec
	latency    prometheus.Histogram
	batch      prometheus.Histogram
	batchBytes prometheus.Histogram
}

func newMetrics(registerer prometheus.Registerer, b *budget) (*metrics, error) {
	if registerer == nil {
		return nil, nil //nolint:nilnil // nil counts nothing
	}
	m := &metrics{
		registerer: registerer,
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tidings_publisher_events_total",
			Help: "Events by topic and outcome: acknowledged, failed, or in_doubt (not acknowledged, may be in the log).",
		}, []string{"topic", "outcome"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tidings_publisher_retries_total",
			Help: "Produce requests that failed and were to be sent again, by reason: network, timeout, or kafka_ and the error code.",
		}, []string{"reason"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "tidings_publisher_request_seconds",
			Help:    "Time from writing a produce request to its answer.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "tidings_publisher_batch_events",
			Help:    "Events in a produce request.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 8),
		}),
		batchBytes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "tidings_publisher_batch_bytes",
			Help:    "Bytes of a produce request's batches, compressed.",
			Buckets: prometheus.ExponentialBuckets(256, 4, 8),
		}),
	}
	buffered := func(of func(events, bytes int) int) func() float64 {
		return func() float64 { return float64(of(b.held())) }
	}
	m.all = []prometheus.Collector{
		m.events, m.retries, m.latency, m.batch, m.batchBytes,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tidings_publisher_buffered_events",
			Help: "Events waiting or in flight.",
		}, buffered(func(events, _ int) int { return events })),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tidings_publisher_buffered_bytes",
			Help: "Bytes of the events waiting or in flight.",
		}, buffered(func(_, bytes int) int { return bytes })),
	}
	for i, c := range m.all {
		if err := registerer.Register(c); err != nil {
			for _, c := range m.all[:i] {
				registerer.Unregister(c)
			}
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) unregister() {
	if m == nil {
		return
	}
	for _, c := range m.all {
		m.registerer.Unregister(c)
	}
}

func (m *metrics) acknowledged(topic string, n int) {
	if m != nil {
		m.events.WithLabelValues(topic, "acknowledged").Add(float64(n))
	}
}

func (m *metrics) failed(topic string, inDoubt bool) {
	if m == nil {
		return
	}
	if inDoubt {
		m.events.WithLabelValues(topic, "in_doubt").Inc()
		return
	}
	m.events.WithLabelValues(topic, "failed").Inc()
}

func (m *metrics) requested(d time.Duration, events, bytes int) {
	if m == nil {
		return
	}
	m.latency.Observe(d.Seconds())
	m.batch.Observe(float64(events))
	m.batchBytes.Observe(float64(bytes))
}

func (m *metrics) retried(err error) {
	if m != nil {
		m.retries.WithLabelValues(reason(err)).Inc()
	}
}

// reason keeps the label's values few.
func reason(err error) string {
	var code kafka.Error
	var network net.Error
	switch {
	case errors.As(err, &code):
		return "kafka_" + strconv.Itoa(int(code))
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "network"
	}
	return "other"
}
