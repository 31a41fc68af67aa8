package watermillkafka

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
)

const (
	lastCommit  = 8 * time.Second // for the commit after a drain, with its repetitions
	commitRetry = 100 * time.Millisecond
)

// commit stores what the session has finished. Offsets are committed here and not
// by sarama's session, which does not tell whether they were.
func (m *member) commit() {
	m.commits.Lock()
	defer m.commits.Unlock()
	m.mu.Lock()
	g := m.generation
	m.mu.Unlock()
	if g != nil {
		_ = m.store(g) // the next commit carries the same offsets again
	}
}

// commitLast commits what a drain has finished. There is no later commit, so it
// tries again while the group waits. False: something is not committed.
func (m *member) commitLast(g *session) bool {
	m.mu.Lock()
	patience := lastCommit
	if g.doubt {
		patience = min(patience, m.doubtful())
	}
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(g.owned, patience)
	defer cancel()
	for g.owned.Err() == nil {
		m.commits.Lock()
		err := m.store(g)
		m.commits.Unlock()
		if err == nil {
			return true
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
	return false
}

// transient tells whether the same commit may do better later.
func transient(err error) bool {
	var answer sarama.KError
	if !errors.As(err, &answer) {
		return !errors.Is(err, sarama.ErrClosedClient)
	}
	switch answer { //nolint:exhaustive // the others are for good
	case sarama.ErrNotCoordinatorForConsumer, sarama.ErrConsumerCoordinatorNotAvailable, sarama.ErrOffsetsLoadInProgress,
		sarama.ErrRebalanceInProgress, sarama.ErrRequestTimedOut, sarama.ErrNetworkException, sarama.ErrNotEnoughReplicas:
		return true
	}
	return false
}

// store commits the watermarks that have moved, and nothing above them. It
// returns the first error. The caller holds commits.
func (m *member) store(g *session) error {
	m.mu.Lock()
	parts := maps.Clone(g.partitions)
	m.mu.Unlock()
	offsets := map[int32]int64{}
	for id, p := range parts {
		next, ok := p.lanes.Watermark()
		if !ok {
			next = p.start
		}
		if next >= 0 && next != p.committed {
			offsets[id] = next
		}
	}
	if len(offsets) == 0 || g.owned.Err() != nil {
		return g.owned.Err()
	}
	err := m.send(g, offsets, func(id int32) { parts[id].committed = offsets[id] })
	switch {
	case expelled(err):
		m.expel(g, err)
	case err != nil && !g.uncommitted: // once, not at every try
		m.log.Error("Offsets not committed: what was finished since the last commit may be repeated", err, watermill.LogFields{"offsets": offsets})
	case err == nil && g.uncommitted:
		m.log.Info("Offsets are committed again", watermill.LogFields{"offsets": offsets})
	}
	g.uncommitted = err != nil
	return err
}

// send asks the group's coordinator to store offsets, and calls stored for each
// that is.
func (m *member) send(g *session, offsets map[int32]int64, stored func(id int32)) error {
	config := m.config.OverwriteSaramaConfig
	req := sarama.NewOffsetCommitRequest(config, m.config.ConsumerGroup)
	req.ConsumerID, req.ConsumerGroupGeneration = g.member, g.number
	if id := config.Consumer.Group.InstanceId; id != "" && config.Version.IsAtLeast(sarama.V2_3_0_0) {
		req.GroupInstanceId = &id
	}
	for id, next := range offsets {
		req.AddBlockWithLeaderEpoch(m.topic, id, next, -1, sarama.ReceiveTime, "")
	}
	coordinator, err := m.client.Coordinator(m.config.ConsumerGroup)
	if err != nil {
		return err
	}
	resp, err := coordinator.CommitOffset(req)
	if err != nil {
		_ = coordinator.Close() // so that the next request opens it anew
		return err
	}
	var failed error
	for id := range offsets {
		switch answer, ok := resp.Errors[m.topic][id]; {
		case !ok:
			failed = cmp.Or(failed, sarama.ErrIncompleteResponse)
		case !errors.Is(answer, sarama.ErrNoError):
			failed = cmp.Or(failed, error(answer))
		default:
			stored(id)
		}
	}
	if errors.Is(failed, sarama.ErrNotCoordinatorForConsumer) || errors.Is(failed, sarama.ErrConsumerCoordinatorNotAvailable) {
		_ = m.client.RefreshCoordinator(m.config.ConsumerGroup) // the error is the next commit's
	}
	return failed
}
