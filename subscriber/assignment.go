package subscriber

import (
	"context"
	"maps"
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
	if len(ids) > 0 {
		s.betweenPolls(func() { s.open(ids) })
	}
	s.regulate()
}

func (s *subscription) open(ids []int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping { // nobody reads them: they are only passed through
		return
	}
	for _, id := range ids {
		if s.partitions[id] == nil {
			s.partitions[id] = &partition{
				lanes: s.lanes.Open(id), committed: -1, watermark: -1, ahead: ahead{epoch: -1}, epoch: -1, moved: time.Now(),
				lost: make(chan struct{}), gone: make(chan struct{}),
			}
		}
	}
	s.log.Info("partitions assigned", "partitions", sorted(ids))
}

// revoked gives partitions up in good order. The group waits for it, so it waits
// also for those that are being given up already.
func (s *subscription) revoked(_ context.Context, _ *kgo.Client, all map[string][]int32) {
	ids := all[s.topic]
	if len(ids) == 0 {
		return
	}
	leaving := s.among(ids)
	s.giveUp(s.take(ids)) //nolint:contextcheck // what is started must be wound up whatever has ended
	for _, p := range leaving {
		<-p.gone
	}
	s.regulate()
}

// stop gives all partitions up while the member is still in the group and sends
// heartbeats: once it leaves it sends none, and a drain longer than the session
// would lose the partitions half-way.
func (s *subscription) stop() {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	parts := s.takeAll()
	leaving := s.among(nil)
	s.giveUp(parts)
	for _, p := range leaving {
		<-p.gone
	}
}

// giveUp finishes what has started on parts, within the drain's bounds, and
// commits it. They are listed as leaving since they were taken.
func (s *subscription) giveUp(parts map[int32]*partition) {
	if len(parts) == 0 {
		return
	}
	begin := time.Now()
	clean := s.drain(parts)
	committed := s.commitLast(parts)
	// A commit on its way may carry them; the next one must not.
	s.commits.Lock()
	s.mu.Lock()
	for id, p := range parts {
		delete(s.leaving, id)
		p.lanes.Close()
		close(p.gone)
	}
	s.mu.Unlock()
	s.commits.Unlock()
	level := s.log.Info
	if !clean || !committed {
		level = s.log.Warn
	}
	level("partitions given up", "partitions", sorted(slices.Collect(maps.Keys(parts))),
		"after", time.Since(begin), "finished", clean, "committed", committed)
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
	leaving := s.among(ids)
	parts := s.take(ids)
	for _, p := range s.among(ids) { // those and these
		close(p.lost) // cuts a drain
	}
	s.abandon(parts) //nolint:contextcheck // what is started must be wound up whatever has ended
	for _, p := range leaving {
		<-p.gone
	}
	// What was committed before may still be on its way, and would be taken for
	// a commit of the member that joins next.
	s.commits.Lock()
	s.mu.Lock()
	for id := range parts {
		delete(s.leaving, id)
	}
	s.mu.Unlock()
	s.commits.Unlock()
	s.regulate()
}

// among returns those of ids that are leaving; nil stands for all.
func (s *subscription) among(ids []int32) map[int32]*partition {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ids == nil {
		return maps.Clone(s.leaving)
	}
	parts := map[int32]*partition{}
	for _, id := range ids {
		if p := s.leaving[id]; p != nil {
			parts[id] = p
		}
	}
	return parts
}

// take moves partitions from those that are fed to those that leave.
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
		s.leaving[id] = p
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
			ctx, cut := context.WithCancel(ctx)
			defer cut()
			over := make(chan struct{})
			defer close(over)
			wait.Go(func() {
				select {
				case <-p.lost:
					cut()
				case <-over:
				}
			})
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
