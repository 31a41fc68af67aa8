package subscriber

import (
	"context"
)

// followFlow resumes partitions when handlers have made room, also while the poll
// waits for the brokers.
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

// regulate makes the client fetch what the lanes have room for. When none of the
// partitions has, it pauses nothing but the poll: what the client has fetched
// already stays, where a pause would throw it away.
func (s *subscription) regulate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	full, free := s.lanes.Flow()
	for _, l := range full {
		if p := s.partitions[l.ID()]; p != nil && p.lanes == l {
			p.full = true
		}
	}
	for _, l := range free {
		if p := s.partitions[l.ID()]; p != nil && p.lanes == l {
			p.full = false
		}
	}
	s.pollable = len(s.partitions) == 0
	for _, p := range s.partitions {
		s.pollable = s.pollable || !p.full
	}
	if !s.pollable {
		return
	}
	var pause, resume []int32
	for id, p := range s.partitions {
		if p.full && !p.paused {
			pause = append(pause, id)
		} else if !p.full && p.paused {
			resume = append(resume, id)
		}
		p.paused = p.full
	}
	if len(pause) > 0 {
		s.client.PauseFetchPartitions(map[string][]int32{s.topic: pause})
		s.metrics.pauses.WithLabelValues(s.config.Group, s.topic).Add(float64(len(pause)))
	}
	if len(resume) > 0 {
		s.client.ResumeFetchPartitions(map[string][]int32{s.topic: resume})
	}
	select {
	case s.room <- struct{}{}:
	default:
	}
}

// awaitRoom waits until some partition has room, or there is none at all. False:
// ctx ended.
func (s *subscription) awaitRoom(ctx context.Context) bool {
	for {
		s.mu.Lock()
		ok := s.pollable
		s.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-s.room:
		}
	}
}
