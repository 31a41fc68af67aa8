package watermillkafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidings-bus/tidings/internal/lanes"
)

// followFlow pauses partitions that are full and resumes them when handlers have
// made room.
func (s *subscription) followFlow(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.lanes.Changed():
			s.regulate()
		}
	}
}

// regulate has sarama fetch what the lanes have room for. A paused partition is
// left out of the fetches; one whose messages nobody takes would hold up all the
// others of its broker.
func (s *subscription) regulate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	full, free := s.lanes.Flow()
	if s.source == nil {
		return
	}
	if ids := s.switched(full, true); len(ids) > 0 {
		s.source.pause(map[string][]int32{s.topic: ids})
	}
	if ids := s.switched(free, false); len(ids) > 0 {
		s.source.resume(map[string][]int32{s.topic: ids})
	}
}

func (s *subscription) switched(parts []*lanes.Partition[record], paused bool) (ids []int32) {
	for _, l := range parts {
		if p := s.partitions[l.ID()]; p != nil && p.lanes == l && p.paused != paused {
			p.paused = paused
			ids = append(ids, l.ID())
		}
	}
	return ids
}

// observe notes which partitions move.
func (s *subscription) observe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.lanes.Stats() {
		if p := s.partitions[st.ID]; p != nil && (p.watermark != st.Watermark || st.Pending == 0) {
			p.watermark, p.moved = st.Watermark, time.Now()
		}
	}
}

// ready reports what keeps the subscription from making progress.
func (s *subscription) ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.source == nil {
		return fmt.Errorf("not connected: %w", s.failed)
	}
	if err := s.source.joined(); err != nil {
		return err
	}
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
