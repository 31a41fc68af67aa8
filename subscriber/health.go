package subscriber

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// health is what the client tells about its brokers and its group.
type health struct {
	mu       sync.Mutex
	joined   bool
	group    error     // why it is not
	answered time.Time // when a broker last answered
	failed   error     // the first failure since then
	since    time.Time // when that was
}

var (
	_ kgo.HookBrokerConnect    = (*health)(nil)
	_ kgo.HookBrokerE2E        = (*health)(nil)
	_ kgo.HookGroupManageError = (*health)(nil)
)

func (h *health) join() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.joined, h.group = true, nil
}

func (h *health) hasJoined() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.joined
}

func (h *health) lose() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.joined = false
}

// OnGroupManageError implements kgo.HookGroupManageError.
func (h *health) OnGroupManageError(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.joined, h.group = false, err
}

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (h *health) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err != nil {
		h.note(err)
	}
}

// OnBrokerE2E implements kgo.HookBrokerE2E.
func (h *health) OnBrokerE2E(_ kgo.BrokerMetadata, _ int16, e2e kgo.BrokerE2E) {
	h.note(e2e.Err())
}

func (h *health) note(err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
		h.answered, h.failed = time.Now(), nil
	case h.failed == nil:
		h.failed, h.since = err, time.Now()
	}
}

// away is how long brokers may be silent before it counts.
const away = 3 * time.Second

func (h *health) check() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.failed != nil && time.Since(h.since) > away:
		return fmt.Errorf("no broker has answered since %s: %w", h.answered.UTC().Format(time.RFC3339), h.failed)
	case h.joined:
		return nil
	case h.group == nil:
		return errors.New("not joined yet")
	case errors.Is(h.group, kerr.GroupAuthorizationFailed):
		return fmt.Errorf("not allowed to join: %w; grant READ on the group", h.group)
	case errors.Is(h.group, kerr.FencedInstanceID):
		return fmt.Errorf("replaced by a process that joined under the same InstanceID: %w; stop one of them, or give each its own", h.group)
	default:
		return fmt.Errorf("not joined: %w", h.group)
	}
}

// ready reports what keeps the subscription from making progress.
func (s *subscription) ready() error {
	if err := s.health.check(); err != nil {
		return err
	}
	if _, held := s.pause.inForce(); held {
		return nil // that nothing moves is as it should be
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, st := range s.lanes.Stats() {
		p := s.partitions[st.ID]
		if p != nil && st.Paused && p.watermark == st.Watermark && time.Since(p.moved) > stallThreshold {
			errs = append(errs, fmt.Errorf("partition %d stands at offset %d for %v: %d messages held, %d keys wait for their next try",
				st.ID, st.Watermark, time.Since(p.moved).Round(time.Second), st.Pending, st.Sleeping))
		}
	}
	return errors.Join(errs...)
}

// fetchFailed reports what the client could not cure by itself.
func (s *subscription) fetchFailed(_ string, partition int32, err error) {
	if errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed) {
		return
	}
	s.metrics.fetchErrors.WithLabelValues(s.config.Group, s.topic).Inc()
	var loss *kgo.ErrDataLoss
	switch {
	case errors.As(err, &loss):
		s.log.Error("the broker lost messages: reading on from where its log stands", "partition", partition, "error", err)
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		s.log.Error("not allowed to read: grant READ on the topic", "partition", partition, "error", err)
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
		s.log.Warn("the topic does not exist (yet, or any more): create it with `tidings topics create`", "partition", partition, "error", err)
	default:
		s.log.Error("fetch failed", "partition", partition, "error", err)
	}
}
