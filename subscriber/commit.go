package subscriber

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// keepCommitting commits what is finished, and looks after the metrics, at the
// set interval.
func (s *subscription) keepCommitting(ctx context.Context) {
	tick := time.NewTicker(s.config.Timings.Commit)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.commits.Lock()
			s.mu.Lock()
			parts := maps.Clone(s.partitions)
			maps.Copy(parts, s.leaving)
			s.mu.Unlock()
			_ = s.commit(context.Background(), parts) //nolint:contextcheck // a commit on its way is not cut short; the next one carries it again
			s.commits.Unlock()
			s.refreshEnds(ctx)
			s.observe()
		}
	}
}

// commitLast commits what a drain has finished. There is no later commit, so it
// tries again while the group waits. False: something is not committed.
func (s *subscription) commitLast(parts map[int32]*partition) bool {
	ctx, cancel := context.WithTimeout(context.Background(), lastCommit)
	defer cancel()
	for {
		s.commits.Lock()
		err := s.commit(ctx, parts)
		s.commits.Unlock()
		if err == nil {
			return !slices.ContainsFunc(slices.Collect(maps.Values(parts)), (*partition).isLost)
		}
		if !transient(err) {
			return false
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(commitRetry):
		}
	}
}

// transient tells whether the same commit may do better later.
func transient(err error) bool {
	var answer *kerr.Error
	return !errors.As(err, &answer) || answer.Retriable || errors.Is(err, kerr.RebalanceInProgress)
}

// commit stores the watermarks of parts that have moved, and nothing above them.
// It returns the first error. The caller holds commits.
func (s *subscription) commit(ctx context.Context, parts map[int32]*partition) error {
	offsets := map[int32]kgo.EpochOffset{}
	for id, p := range parts {
		if p.isLost() {
			continue
		}
		if next, ok := p.lanes.Watermark(); ok && next != p.committed {
			offsets[id] = kgo.EpochOffset{Epoch: -1, Offset: next}
		}
	}
	if len(offsets) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	var failed error
	s.client.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{s.topic: offsets},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
			if err != nil {
				s.commitFailed(-1, err)
				failed = err
				return
			}
			for _, t := range resp.Topics {
				for _, r := range t.Partitions {
					if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
						s.commitFailed(r.Partition, err)
						failed = cmp.Or(failed, err)
					} else if p := parts[r.Partition]; p != nil {
						s.mu.Lock()
						p.committed = offsets[r.Partition].Offset
						s.mu.Unlock()
					}
				}
			}
		})
	result := "ok"
	if failed != nil {
		result = "failed"
	}
	s.metrics.commits.WithLabelValues(s.config.Group, s.topic, result).Inc()
	return failed
}

// commitFailed reports an error; the next commit carries the same offsets again.
func (s *subscription) commitFailed(partition int32, err error) {
	switch {
	case errors.Is(err, kerr.RebalanceInProgress), errors.Is(err, kerr.IllegalGeneration),
		errors.Is(err, kerr.UnknownMemberID), errors.Is(err, context.DeadlineExceeded):
		s.log.Warn("offsets not committed, what was finished since the last commit may be repeated",
			"partition", partition, "error", err)
	default:
		s.log.Error("offsets not committed, what was finished since the last commit may be repeated",
			"partition", partition, "error", err)
	}
}
