package subscriber

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// balancer is the cooperative-sticky one, for static members. When the group's
// leader comes back, the broker gives it its old partitions and tells it not to
// assign any (KIP-814). The client works out a plan all the same, and asks for a
// rebalance when its own part differs from what it was given. It mostly does: the
// plan is made from what the members owned when they last joined, which is not
// what they were assigned then. So the plan of a leader that comes back is what
// the group has.
type balancer struct {
	kgo.GroupBalancer

	sticky kgo.ConsumerBalancerBalance // the same
	s      *subscription
}

// describeTimeout bounds the question to the broker; without an answer the
// group rebalances, and nothing moves.
const describeTimeout = 5 * time.Second

func (s *subscription) balancer() kgo.GroupBalancer {
	sticky := kgo.CooperativeStickyBalancer()
	plan, ok := sticky.(kgo.ConsumerBalancerBalance)
	if s.config.InstanceID == "" || !ok {
		return sticky
	}
	return balancer{GroupBalancer: sticky, sticky: plan, s: s}
}

// MemberBalancer implements kgo.GroupBalancer.
func (b balancer) MemberBalancer(members []kmsg.JoinGroupResponseMember) (kgo.GroupMemberBalancer, map[string]struct{}, error) {
	group, err := kgo.NewConsumerBalancer(b, members)
	if err != nil {
		return nil, nil, err
	}
	return group, group.MemberTopics(), nil
}

// Balance implements kgo.ConsumerBalancerBalance.
func (b balancer) Balance(group *kgo.ConsumerBalancer, topics map[string]int32) kgo.IntoSyncAssignment {
	if had := b.s.stands(topics); had != nil {
		return had
	}
	return b.sticky.Balance(group, topics)
}

// assignment is the group's, as the broker keeps it.
type assignment []kmsg.SyncGroupRequestGroupAssignment

// IntoSyncAssignment implements kgo.IntoSyncAssignment.
func (a assignment) IntoSyncAssignment() []kmsg.SyncGroupRequestGroupAssignment { return a }

// stands returns the assignment that the group has, when this member has just
// come back to a stable group: one that waits for an assignment of its leader is
// not stable. Otherwise nil. If a partition of topics is nobody's, for the topic
// has grown, the assignment is no member's, which makes the client rejoin.
func (s *subscription) stands(topics map[string]int32) assignment {
	if s.health.hasJoined() {
		return nil
	}
	s.mu.Lock()
	client := s.client
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), describeTimeout)
	defer cancel()
	request := kmsg.NewPtrDescribeGroupsRequest()
	request.Groups = []string{s.config.Group}
	response, err := request.RequestWith(ctx, client)
	if err == nil && len(response.Groups) == 1 {
		err = kerr.ErrorForCode(response.Groups[0].ErrorCode)
	}
	if err != nil || len(response.Groups) != 1 || response.Groups[0].State != "Stable" {
		return nil
	}
	missing := 0
	for _, n := range topics {
		missing += int(n)
	}
	var had assignment
	for _, m := range response.Groups[0].Members {
		var parts kmsg.ConsumerMemberAssignment
		if err := parts.ReadFrom(m.MemberAssignment); err != nil {
			return nil
		}
		for _, t := range parts.Topics {
			missing -= len(t.Partitions)
		}
		had = append(had, kmsg.SyncGroupRequestGroupAssignment{MemberID: m.MemberID, MemberAssignment: m.MemberAssignment})
	}
	if missing > 0 {
		for i := range had {
			had[i].MemberAssignment = nil
		}
	}
	return had
}
