package subscriber

import (
	"context"
	"errors"
	"maps"
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
			s.mu.Unlock()
			s.commit(parts) //nolint:contextcheck // a commit on its way is not cut short
			s.commits.Unlock()
			s.refreshEnds(ctx)
			s.observe()
		}
	}
}

// commit stores the watermarks of parts that have moved, and nothing above them.
// The caller holds commits.
func (s *subscription) commit(parts map[int32]*partition) {
	offsets := map[int32]kgo.EpochOffset{}
	for id, p := range parts {
		if next, ok := p.lanes.Watermark(); ok && next != p.committed {
			offsets[id] = kgo.EpochOffset{Epoch: -1, Offset: next}
		}
	}
	if len(offsets) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	s.client.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{s.topic: offsets},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
			if err != nil {
				s.commitFailed(-1, err)
				return
			}
			for _, t := range resp.Topics {
				for _, r := range t.Partitions {
					if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
						s.commitFailed(r.Partition, err)
					} else if p := parts[r.Partition]; p != nil {
						s.mu.Lock()
						p.committed = offsets[r.Partition].Offset
						s.mu.Unlock()
					}
				}
			}
			s.metrics.commits.WithLabelValues(s.config.Group, s.topic, "ok").Inc()
		})
}

// commitFailed reports an error; the next commit carries the same offsets again.
func (s *subscription) commitFailed(partition int32, err error) {
	s.metrics.commits.WithLabelValues(s.config.Group, s.topic, "failed").Inc()
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
