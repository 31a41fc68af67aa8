package subscriber

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/internal/lanes"
)

// assigned opens the partitions that the group gives us. It is called after every
// rebalance, also when there are none.
func (s *subscription) assigned(_ context.Context, _ *kgo.Client, all map[string][]int32) {
	s.health.join()
	s.metrics.rebalances.WithLabelValues(s.config.Group, s.topic).Inc()
	ids := all[s.topic]
	s.mu.Lock()
	for _, id := range ids {
		if s.partitions[id] == nil {
			s.partitions[id] = &partition{lanes: s.lanes.Open(id), committed: -1, watermark: -1, moved: time.Now()}
		}
	}
	s.mu.Unlock()
	if len(ids) > 0 {
		s.log.Info("partitions assigned", "partitions", sorted(ids))
	}
	s.regulate()
}

// revoked gives partitions up in good order: what has started is finished, within
// the drain's bounds, and committed.
func (s *subscription) revoked(_ context.Context, _ *kgo.Client, all map[string][]int32) {
	ids := all[s.topic]
	if len(ids) == 0 {
		return
	}
	begin := time.Now()
	s.commits.Lock()
	defer s.commits.Unlock()
	parts := s.take(ids)
	clean := s.drain(parts) //nolint:contextcheck // what is started must be wound up whatever has ended
	s.commit(parts)         //nolint:contextcheck // what is started must be wound up whatever has ended
	for _, p := range parts {
		p.lanes.Close()
	}
	level := s.log.Info
	if !clean {
		level = s.log.Warn
	}
	level("partitions given up", "partitions", sorted(ids), "after", time.Since(begin), "finished", clean)
	s.regulate()
}

// lost drops partitions that belong to somebody else already: handlers are told
// to stop, and nothing is committed.
func (s *subscription) lost(_ context.Context, _ *kgo.Client, all map[string][]int32) {
	s.health.lose()
	ids := all[s.topic]
	if len(ids) == 0 {
		return
	}
	s.log.Warn("partitions lost: another member may have them already; what runs is cancelled and will be repeated",
		"partitions", sorted(ids))
	s.commits.Lock()
	defer s.commits.Unlock()
	s.abandon(s.take(ids)) //nolint:contextcheck // what is started must be wound up whatever has ended
	s.regulate()
}

// take removes partitions from those that are fed and committed.
func (s *subscription) take(ids []int32) map[int32]*partition {
	s.mu.Lock()
	defer s.mu.Unlock()
	parts := map[int32]*partition{}
	var paused []int32
	for _, id := range ids {
		p := s.partitions[id]
		if p == nil {
			continue
		}
		parts[id] = p
		delete(s.partitions, id)
		s.metrics.forgetPartition(s, id)
		if p.paused {
			paused = append(paused, id)
		}
	}
	if len(paused) > 0 { // the client would remember it if they came back
		s.client.ResumeFetchPartitions(map[string][]int32{s.topic: paused})
	}
	return parts
}

func (s *subscription) takeAll() map[int32]*partition {
	s.mu.Lock()
	ids := make([]int32, 0, len(s.partitions))
	for id := range s.partitions {
		ids = append(ids, id)
	}
	s.mu.Unlock()
	return s.take(ids)
}

// drain lets all parts finish side by side; what is not done in time is
// cancelled. False: something was.
func (s *subscription) drain(parts map[int32]*partition) bool {
	ctx, cancel := context.WithTimeout(context.Background(), s.config.Timings.Drain)
	defer cancel()
	var mu sync.Mutex
	var late []*lanes.Partition[record]
	var wait sync.WaitGroup
	for _, p := range parts {
		wait.Go(func() {
			if !p.lanes.Drain(ctx, s.config.Timings.DrainRetry) {
				mu.Lock()
				late = append(late, p.lanes)
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	s.cancel(late)
	return len(late) == 0
}

// abandon ends parts at once.
func (s *subscription) abandon(parts map[int32]*partition) {
	all := map[int32]*lanes.Partition[record]{}
	for id, p := range parts {
		all[id] = p.lanes
	}
	s.end(all)
}

func (s *subscription) end(parts map[int32]*lanes.Partition[record]) {
	all := make([]*lanes.Partition[record], 0, len(parts))
	for _, p := range parts {
		all = append(all, p)
	}
	s.cancel(all)
	for _, p := range all {
		p.Close()
	}
}

// cancel tells what runs to stop and gives it a moment to do so, so that a
// successor in this process does not overlap with it.
func (s *subscription) cancel(parts []*lanes.Partition[record]) {
	for _, p := range parts {
		p.Cancel()
	}
	ctx, cancel := context.WithTimeout(context.Background(), cancelGrace)
	defer cancel()
	for _, p := range parts {
		if !p.Idle(ctx) {
			s.log.Error("a handler ignores its cancelled context: its message may be handled again beside it", "partition", p.ID())
		}
	}
}

func sorted(ids []int32) []int32 {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return ids
}
