package subscriber

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/tidings-bus/tidings/internal/metric"
)

// meters are the metrics of all subscribers with one registerer.
type meters struct {
	received    *prometheus.CounterVec
	spared      *prometheus.CounterVec
	outcomes    *prometheus.CounterVec
	commits     *prometheus.CounterVec
	rebalances  *prometheus.CounterVec
	pauses      *prometheus.CounterVec
	fetchErrors *prometheus.CounterVec
	paused      *prometheus.GaugeVec
	acked       prometheus.Counter // of outcomes, for one subscription
	nacked      prometheus.Counter

	gauges map[string]*prometheus.GaugeVec // per partition
}

// The gauges of a partition. Their number is bounded by the partitions that the
// process has at a time: those given up are deleted.
var partitionGauges = []struct{ name, help string }{
	{"pending", "Messages read and not finished."},
	{"bytes", "Bytes held from the oldest unfinished message to the newest."},
	{"running", "Messages with handlers."},
	{"lanes", "Active keys."},
	{"sleeping", "Keys that wait for their next attempt."},
	{"run_ahead", "Messages from the oldest unfinished one to the newest."},
	{"lag", "Messages of the log that are not finished, as far as known."},
	{"uncommitted", "Offsets finished and not committed."},
	{"paused", "1 while the partition is not fetched, for lack of room."},
}

func newMeters(r prometheus.Registerer) (*meters, error) {
	byTopic := []string{"group", "topic"}
	m := &meters{gauges: map[string]*prometheus.GaugeVec{}}
	var errs []error
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v, err := register(r, prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tidings_subscriber_" + name, Help: help}, append(byTopic, labels...)))
		errs = append(errs, err)
		return v
	}
	m.received = counter("received_total", "Messages read.")
	m.spared = counter("spared_total", "Messages not handed out, for an earlier owner of the partition had finished them.")
	m.outcomes = counter("outcomes_total", "Attempts by their outcome, ack or nack.", "outcome")
	m.commits = counter("commits_total", "Offset commits by their result, ok or failed.", "result")
	m.rebalances = counter("rebalances_total", "Rebalances of the group that this member took part in.")
	m.pauses = counter("pauses_total", "Partitions paused for lack of room.")
	m.fetchErrors = counter("fetch_errors_total", "Fetch errors that retrying did not cure.")
	paused, err := register(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "tidings_subscriber_paused", Help: "1 while the group, or this subscriber, is paused and nothing is handed out.",
	}, byTopic))
	errs = append(errs, err)
	m.paused = paused
	for _, g := range partitionGauges {
		v, err := register(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tidings_subscriber_partition_" + g.name, Help: g.help},
			[]string{"group", "topic", "partition"}))
		errs = append(errs, err)
		m.gauges[g.name] = v
	}
	return m, errors.Join(errs...)
}

// register registers c, or returns what another subscriber has registered.
func register[C prometheus.Collector](r prometheus.Registerer, c C) (C, error) {
	if r == nil {
		return c, nil
	}
	err := metric.Register(r, &c)
	return c, err
}

// of fixes the labels of one subscription.
func (m *meters) of(group, topic string) *meters {
	mine := *m
	mine.acked = m.outcomes.WithLabelValues(group, topic, "ack")
	mine.nacked = m.outcomes.WithLabelValues(group, topic, "nack")
	return &mine
}

// observe sets the gauges, and notes which partitions move.
func (s *subscription) observe() {
	_, held := s.pause.inForce()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.lanes.Stats() {
		p := s.partitions[st.ID]
		if p == nil {
			continue
		}
		if p.watermark != st.Watermark || st.Pending == 0 || held {
			p.watermark, p.moved = st.Watermark, time.Now()
		}
		next := max(st.Watermark, p.committed)
		set := func(name string, value int64) {
			s.metrics.gauges[name].WithLabelValues(s.config.Group, s.topic, strconv.Itoa(int(st.ID))).Set(float64(value))
		}
		set("pending", int64(st.Pending))
		set("bytes", st.Bytes)
		set("running", int64(st.Running))
		set("lanes", int64(st.Lanes))
		set("sleeping", int64(st.Sleeping))
		set("run_ahead", int64(st.Held))
		if next >= 0 {
			set("lag", max(0, p.end-next))
		} else {
			set("lag", int64(st.Pending))
		}
		if st.Watermark >= 0 {
			set("uncommitted", max(0, st.Watermark-max(0, p.committed)))
		}
		paused := int64(0)
		if st.Paused {
			paused = 1
		}
		set("paused", paused)
	}
}

// refreshEnds asks where the log ends, now and then while a partition is paused:
// fetches would tell, but there are none, and this is when the lag matters.
func (s *subscription) refreshEnds(ctx context.Context) {
	s.mu.Lock()
	paused := false
	for _, p := range s.partitions {
		paused = paused || p.full
	}
	due := paused && time.Since(s.asked) >= endsInterval
	if due {
		s.asked = time.Now()
	}
	s.mu.Unlock()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	ends, err := kadm.NewClient(s.client).ListEndOffsets(ctx, s.topic)
	if err != nil {
		return // the old figure stands
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, p := range s.partitions {
		if end, ok := ends.Lookup(s.topic, id); ok && end.Err == nil {
			p.end = max(p.end, end.Offset)
		}
	}
}

const endsInterval = 10 * time.Second

// forgetPartition deletes the gauges of a partition that is no longer ours.
func (m *meters) forgetPartition(s *subscription, id int32) {
	for _, g := range m.gauges {
		g.DeleteLabelValues(s.config.Group, s.topic, strconv.Itoa(int(id)))
	}
}
