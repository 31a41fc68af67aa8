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
	return !errors.As(err, &answer) || answer.Retriable || errors.Is(err, kerr.RebalanceInProgress) ||
		errors.Is(err, kerr.OffsetMetadataTooLarge) // it goes without
}

// commit stores the watermarks of parts, and with each what is finished above it,
// where something has moved. It returns the first error. The caller holds commits.
func (s *subscription) commit(ctx context.Context, parts map[int32]*partition) error {
	offsets := map[int32]kgo.EpochOffset{}
	notes := map[int32]string{}
	for id, p := range parts {
		if p.isLost() {
			continue
		}
		if next, note, ok := s.progress(id, p); ok {
			offsets[id] = kgo.EpochOffset{Epoch: -1, Offset: next}
			notes[id] = note
		}
	}
	if len(offsets) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	ctx = withNotes(ctx, notes)
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
						if errors.Is(err, kerr.OffsetMetadataTooLarge) {
							s.plain = true
						}
						s.commitFailed(r.Partition, err)
						failed = cmp.Or(failed, err)
					} else if p := parts[r.Partition]; p != nil {
						s.mu.Lock()
						p.committed, p.note = offsets[r.Partition].Offset, notes[r.Partition]
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

// withNotes adds the partitions' metadata to a commit, where there is some.
func withNotes(ctx context.Context, notes map[int32]string) context.Context {
	return kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		for _, t := range req.Topics {
			for i := range t.Partitions {
				if p := &t.Partitions[i]; notes[p.Partition] != "" {
					p.Metadata = new(notes[p.Partition])
				}
			}
		}
		return nil
	})
}

// progress returns the watermark of p and what is finished above it, as it is to
// be committed; ok is false when the group knows.
func (s *subscription) progress(id int32, p *partition) (next int64, note string, ok bool) {
	next, fed, runs, ok := p.lanes.Ahead(aheadRuns)
	if !ok {
		return 0, "", false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := ahead{epoch: p.epoch, runs: p.ahead.with(runs, fed)}
	for len(a.runs) > 0 && a.runs[0].From <= next { // an earlier owner went on from here
		next, a.runs = max(next, a.runs[0].To), a.runs[1:]
	}
	if !s.plain {
		note = a.encode(place{topic: s.topicID, partition: id, offset: next})
	}
	return next, note, next != p.committed || note != p.note
}

// commitFailed reports an error; the next commit carries the same offsets again.
func (s *subscription) commitFailed(partition int32, err error) {
	switch {
	case errors.Is(err, kerr.OffsetMetadataTooLarge):
		s.log.Info("the broker does not take what is finished ahead with the offsets, it would be repeated after a crash: raise offset.metadata.max.bytes to 4096",
			"partition", partition)
	case errors.Is(err, kerr.RebalanceInProgress), errors.Is(err, kerr.IllegalGeneration),
		errors.Is(err, kerr.UnknownMemberID), errors.Is(err, context.DeadlineExceeded):
		s.log.Warn("offsets not committed, what was finished since the last commit may be repeated",
			"partition", partition, "error", err)
	default:
		s.log.Error("offsets not committed, what was finished since the last commit may be repeated",
			"partition", partition, "error", err)
	}
}
