package watermillkafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
)

// member is a member of the consumer group, for as long as its connection holds:
// sarama's handler of the group's sessions.
type member struct {
	*subscription

	client sarama.Client
	group  sarama.ConsumerGroup
	errors sync.WaitGroup // reads those of the group

	generation *session // guarded by subscription.mu; nil: not in the group, or between two generations
}

// session is one generation of the group, in which the partitions do not change.
type session struct {
	member     string
	number     int32
	owned      context.Context //nolint:containedctx // ends when others may have the partitions
	lose       context.CancelFunc
	starts     map[int32]int64 // of partitions that the group had no offset for
	partitions map[int32]*partition
	clean      bool // nothing was cancelled
	doubt      bool // the coordinator does not answer
	// uncommitted says that the last commit failed; guarded by commits.
	uncommitted bool
}

var _ sarama.ConsumerGroupHandler = (*member)(nil)

func newMember(s *subscription, client sarama.Client) (*member, error) {
	group, err := sarama.NewConsumerGroupFromClient(s.config.ConsumerGroup, client)
	if err != nil {
		return nil, err
	}
	m := &member{subscription: s, client: client, group: group}
	m.errors.Go(func() {
		for err := range group.Errors() {
			m.log.Error("Sarama internal error", err, nil)
		}
	})
	return m, nil
}

// consume takes part in the group, one session after the other.
func (m *member) consume(ctx context.Context) error {
	var handler sarama.ConsumerGroupHandler = m
	if t := m.config.Tracer; t != nil {
		handler = t.WrapConsumerGroupHandler(handler)
	}
	for ctx.Err() == nil {
		err := m.group.Consume(ctx, []string{m.topic}, handler)
		m.end() // a tracer may have kept Cleanup to itself
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("take part in group %q: %w", m.config.ConsumerGroup, err)
		}
	}
	return nil
}

// close leaves the group. The partitions have been given up.
func (m *member) close() {
	if err := m.group.Close(); err != nil {
		m.log.Info("Could not leave the group well: its other members wait for the session to end", watermill.LogFields{"err": err.Error()})
	}
	m.errors.Wait()
	if err := m.client.Close(); err != nil {
		m.log.Error("Cannot close client", err, nil)
	}
}

func (m *member) joined() error {
	if m.generation == nil {
		return errors.New("not joined")
	}
	return nil
}

func (m *member) pause(partitions map[string][]int32)  { m.group.Pause(partitions) }
func (m *member) resume(partitions map[string][]int32) { m.group.Resume(partitions) }

// Setup implements sarama.ConsumerGroupHandler.
func (m *member) Setup(sess sarama.ConsumerGroupSession) error {
	ids := sess.Claims()[m.topic]
	starts, err := m.pin(sess, ids)
	if err != nil {
		return fmt.Errorf("look up where to begin: %w", err)
	}
	g := &session{
		member: sess.MemberID(), number: sess.GenerationID(),
		starts: starts, partitions: map[int32]*partition{}, clean: true,
	}
	g.owned, g.lose = context.WithCancel(context.Background())
	m.mu.Lock()
	m.generation = g
	m.mu.Unlock()
	m.log.Info("Partitions assigned", watermill.LogFields{"partitions": ids})
	return nil
}

// pin holds on to where partitions begin that the group has no offset for, when
// that is the newest message: a session that ended before one was finished would
// otherwise begin anew at what is newest then, and lose what came meanwhile.
func (m *member) pin(sess sarama.ConsumerGroupSession, ids []int32) (map[int32]int64, error) {
	config := m.config.OverwriteSaramaConfig
	if config.Consumer.Offsets.Initial != sarama.OffsetNewest || len(ids) == 0 {
		return nil, nil //nolint:nilnil // none
	}
	coordinator, err := m.client.Coordinator(m.config.ConsumerGroup)
	if err != nil {
		return nil, err
	}
	known, err := coordinator.FetchOffset(sarama.NewOffsetFetchRequest(config.Version, m.config.ConsumerGroup, map[string][]int32{m.topic: ids}))
	if err != nil {
		return nil, err
	}
	starts := map[int32]int64{}
	for _, id := range ids {
		block := known.GetBlock(m.topic, id)
		switch {
		case block == nil:
			return nil, sarama.ErrIncompleteResponse
		case !errors.Is(block.Err, sarama.ErrNoError):
			return nil, block.Err
		case block.Offset >= 0:
			continue
		}
		newest, err := m.client.GetOffset(m.topic, id, sarama.OffsetNewest)
		if err != nil {
			return nil, err
		}
		sess.MarkOffset(m.topic, id, newest, "") // the claim starts from it
		starts[id] = newest
	}
	return starts, nil
}

// ConsumeClaim implements sarama.ConsumerGroupHandler. It returns when what has
// started of the partition is finished.
func (m *member) ConsumeClaim(sess sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	m.mu.Lock()
	g := m.generation
	m.mu.Unlock()
	if g == nil {
		return errors.New("no session was set up: the Tracer must pass Setup on to the handler that it wraps")
	}
	start, ok := g.starts[claim.Partition()]
	if !ok {
		start = -1
	}
	p := m.open(claim.Partition(), start)
	m.mu.Lock()
	g.partitions[claim.Partition()] = p
	m.mu.Unlock()

	failed := m.feed(sess.Context().Done(), p, claim.Messages())
	// A tracer that feeds the channel is not left behind with what nobody takes:
	// that is for the next owner of the partition.
	go func() {
		for range claim.Messages() {
		}
	}()
	if !m.drain(g.owned, p, m.patience(sess.Context(), g)) {
		m.mu.Lock()
		g.clean = false
		m.mu.Unlock()
	}
	return failed
}

// patience is how long a drain may take, by why the session ends.
func (m *member) patience(sess context.Context, g *session) time.Duration {
	switch cause := context.Cause(sess); {
	case cause == nil, m.running.Err() != nil,
		errors.Is(cause, sarama.ErrRebalanceInProgress),
		errors.Is(cause, sarama.ErrSessionPartitionCountChanged),
		errors.Is(cause, sarama.ErrSessionConsumeClaimExited):
		return m.config.lanes.Drain
	case expelled(cause):
		m.expel(g, cause)
		return 0
	default:
		m.mu.Lock()
		g.doubt = true
		m.mu.Unlock()
		return min(m.config.lanes.Drain, m.doubtful())
	}
}

// doubtful is how long partitions are ours for certain when the coordinator has
// stopped to answer: what is left of the session, some of which went by before it
// was noticed.
func (m *member) doubtful() time.Duration {
	return m.config.OverwriteSaramaConfig.Consumer.Group.Session.Timeout / 3
}

// expelled tells whether the group goes on without us.
func expelled(err error) bool {
	return errors.Is(err, sarama.ErrUnknownMemberId) || errors.Is(err, sarama.ErrIllegalGeneration) || errors.Is(err, sarama.ErrFencedInstancedId)
}

// expel ends a session whose partitions others may have: handlers are told to
// stop, and nothing is committed.
func (m *member) expel(g *session, why error) {
	if g.owned.Err() == nil {
		m.log.Error("Partitions lost: another member may have them already; what runs is cancelled and will be repeated", why, nil)
	}
	g.lose()
}

// Cleanup implements sarama.ConsumerGroupHandler.
func (m *member) Cleanup(sarama.ConsumerGroupSession) error {
	m.end()
	return nil
}

// end commits what the session has finished and forgets it. Again it does nothing.
func (m *member) end() {
	m.mu.Lock()
	g := m.generation
	m.mu.Unlock()
	if g == nil {
		return
	}
	committed := m.commitLast(g)
	m.commits.Lock() // a commit on its way may carry them; the next one must not
	m.mu.Lock()
	m.generation = nil
	m.mu.Unlock()
	m.shut(g.partitions)
	m.commits.Unlock()
	g.lose()
	m.log.Info("Partitions given up", watermill.LogFields{
		"partitions": slices.Sorted(maps.Keys(g.partitions)), "finished": g.clean, "committed": committed,
	})
}
