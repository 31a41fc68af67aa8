package subscriber_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidings-bus/tidings/groups"
	"github.com/tidings-bus/tidings/subscriber"
)

// journal is a log that is read while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) count(what string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.text.String(), what)
}

func nothing(t *testing.T, out <-chan *message.Message, d time.Duration) {
	t.Helper()
	select {
	case m := <-out:
		t.Fatalf("message %d handed out in a pause", number(m))
	case <-time.After(d):
	}
}

// Every member follows what is said about the group: what runs is finished and
// committed (I5), nothing is begun, nobody leaves.
func TestPausedGroupFinishesWhatRunsAndBeginsNothing(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 40, 40)
	conn := c.config("billing").Connection
	config, log, registry := c.config("billing"), &journal{}, prometheus.NewRegistry()
	config.Logger, config.Metrics = slog.New(slog.NewTextHandler(log, nil)), registry
	config.Limits.Running = 2 // offsets 0 and 1
	s, out := subscribe(t, config, "orders")
	held := []*message.Message{receive(t, out), receive(t, out)}

	_, err := groups.Pause(t.Context(), conn, "billing", "ann", "the bank is closed")
	require.NoError(t, err)
	await(t, "pause", func() bool { return len(s.Warnings(t.Context())) == 1 })
	require.Contains(t, s.Warnings(t.Context())[0], `group "billing": paused since`)
	require.Contains(t, s.Warnings(t.Context())[0], `by ann: the bank is closed`)
	require.True(t, s.Paused())
	require.NoError(t, s.Ready(t.Context()), "a pause is no failure")
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP tidings_subscriber_paused 1 while the group, or this subscriber, is paused and nothing is handed out.
# TYPE tidings_subscriber_paused gauge
tidings_subscriber_paused{group="billing",topic="orders"} 1
`), "tidings_subscriber_paused"))
	for _, m := range held {
		require.NoError(t, m.Context().Err())
		m.Ack()
	}
	await(t, "what ran is committed", func() bool { return c.committed("billing", "orders") == 2 })
	nothing(t, out, 300*time.Millisecond)

	// A member that starts looks first.
	late, lateOut := subscribe(t, c.config("billing"), "orders")
	require.Len(t, late.Warnings(t.Context()), 1)
	await(t, "second member", func() bool { return late.Ready(context.Background()) == nil })
	nothing(t, lateOut, 300*time.Millisecond)
	require.NoError(t, late.Close())

	_, err = groups.Resume(t.Context(), conn, "billing", "bob", "")
	require.NoError(t, err)
	for range 38 {
		receive(t, out).Ack()
	}
	await(t, "all", func() bool { return c.committed("billing", "orders") == 40 })
	require.Empty(t, s.Warnings(t.Context()))
	require.False(t, s.Paused())
	require.Equal(t, 1, log.count(`msg="paused: `), "said once")
	require.Equal(t, 1, log.count(`msg=resumed`))
}

func TestSubscriberIsPausedByItselfAndWithItsGroupUntilNeitherHolds(t *testing.T) {
	c := newCluster(t, 1, "orders")
	conn := c.config("billing").Connection
	_, err := groups.Pause(t.Context(), conn, "billing", "ann", "")
	require.NoError(t, err)
	s, out := subscribe(t, c.config("billing"), "orders")
	s.Pause("the service", "the bank is away")
	c.produce("orders", 0, 2, 2)
	s.Resume()
	nothing(t, out, 200*time.Millisecond)
	s.Pause("the service", "the bank is away")
	_, err = groups.Resume(t.Context(), conn, "billing", "ann", "")
	require.NoError(t, err)
	await(t, "the group's end", func() bool {
		w := s.Warnings(t.Context())
		return len(w) == 1 && strings.Contains(w[0], "by the service: the bank is away")
	})
	nothing(t, out, 200*time.Millisecond)
	s.Resume()
	receive(t, out).Ack()
	receive(t, out).Ack()
}

// A pause must not hold up the members that are not: the drain ends at once.
func TestStopInAPauseCommitsWhatRan(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 10, 10)
	config := c.config("billing")
	config.Limits.Running = 2 // offsets 0 and 1
	config.Timings.Drain = time.Minute
	s, out := subscribe(t, config, "orders")
	first, second := receive(t, out), receive(t, out)
	if number(first) > number(second) {
		first, second = second, first
	}
	s.Pause("ann", "")
	second.Nack()
	closed := make(chan struct{})
	go func() { defer close(closed); _ = s.Close() }()
	first.Ack()
	<-closed
	require.Equal(t, int64(1), c.committed("billing", "orders"))
}

func TestControlTopicThatMayNotBeReadIsReportedOnceAndPausesNothing(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 1, 1)
	_, err := groups.Pause(t.Context(), c.config("billing").Connection, "billing", "ann", "")
	require.NoError(t, err)
	c.ControlKey(int16(kmsg.ListOffsets), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req, resp := kreq.(*kmsg.ListOffsetsRequest), kreq.ResponseKind().(*kmsg.ListOffsetsResponse)
		if req.Topics[0].Topic != groups.Topic {
			return nil, nil, false //nolint:nilnil // kfake: not handled here
		}
		p := kmsg.NewListOffsetsResponseTopicPartition()
		p.ErrorCode = kerr.TopicAuthorizationFailed.Code
		resp.Topics = append(resp.Topics, kmsg.ListOffsetsResponseTopic{Topic: groups.Topic, Partitions: []kmsg.ListOffsetsResponseTopicPartition{p}})
		return resp, nil, true
	})
	config, log := c.config("billing"), &journal{}
	config.Logger = slog.New(slog.NewTextHandler(log, nil))
	_, out := subscribe(t, config, "orders")
	receive(t, out).Ack()
	require.Equal(t, 1, log.count("cannot see whether the group is paused"))

	config.WithoutControlTopic, config.Group = true, "audit"
	quiet := &journal{}
	config.Logger = slog.New(slog.NewTextHandler(quiet, nil))
	s, err := subscriber.New(config)
	require.NoError(t, err)
	out, err = s.Subscribe(context.Background(), "orders")
	require.NoError(t, err)
	receive(t, out).Ack()
	require.NoError(t, s.Close())
	require.Zero(t, quiet.count("cannot see"))
}
