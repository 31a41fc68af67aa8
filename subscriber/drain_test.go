package subscriber_test

import (
	"bytes"
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidings-bus/tidings/internal/delivery"
	"github.com/tidings-bus/tidings/subscriber"
)

// refuseCommits answers the next n commits with refusal; n < 0: all.
func (c *cluster) refuseCommits(refusal *kerr.Error, n int64) (refused *atomic.Int64) {
	refused = &atomic.Int64{}
	c.ControlKey(int16(kmsg.OffsetCommit), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if n >= 0 && refused.Load() >= n {
			return nil, nil, false //nolint:nilnil // kfake: not handled here
		}
		refused.Add(1)
		req, resp := kreq.(*kmsg.OffsetCommitRequest), kreq.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, t := range req.Topics {
			rt := kmsg.OffsetCommitResponseTopic{Topic: t.Topic, TopicID: t.TopicID}
			for _, p := range t.Partitions {
				rt.Partitions = append(rt.Partitions, kmsg.OffsetCommitResponseTopicPartition{Partition: p.Partition, ErrorCode: refusal.Code})
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	return refused
}

// A stop may take longer than the session, and a rebalance may come meanwhile:
// the member stays in the group until all is finished and committed.
func TestDrainLongerThanTheSessionOverlapsNothing(t *testing.T) {
	c := newCluster(t, 2, "orders")
	const total, keys = 20, 10
	c.produce("orders", 0, total, keys)
	config := c.config("billing")
	config.Timings.Session = time.Second
	config.Timings.Drain = time.Minute
	var beats atomic.Int64
	c.ControlKey(int16(kmsg.Heartbeat), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		beats.Add(1)
		return nil, nil, false //nolint:nilnil // kfake: only looks
	})
	s, err := subscriber.New(config)
	require.NoError(t, err)
	out, err := s.Subscribe(context.Background(), "orders")
	require.NoError(t, err)
	held := make([]*message.Message, keys)
	times := map[int]int{}
	for i := range held {
		held[i] = receive(t, out)
		times[number(held[i])]++
	}
	closed := make(chan struct{})
	go func() { defer close(closed); _ = s.Close() }()
	await(t, "drain", func() bool { return len(subscriber.PartitionsForTest(s)) == 0 })
	before := beats.Load()
	await(t, "heartbeats beyond the session", func() bool { return beats.Load() > before+10 })

	second, secondOut := subscribe(t, config, "orders")
	await(t, "second member", func() bool { return second.Ready(context.Background()) == nil })
	before = beats.Load()
	await(t, "heartbeats beyond the session", func() bool { return beats.Load() > before+20 })
	select {
	case m := <-secondOut:
		t.Fatalf("the second member has message %d while the first drains", number(m))
	default:
	}
	for _, m := range held {
		require.NoError(t, m.Context().Err())
		m.Ack()
	}
	<-closed
	for len(times) < total {
		m := receive(t, secondOut)
		times[number(m)]++
		m.Ack()
	}
	await(t, "commit", func() bool { return c.committed("billing", "orders") == total })
	for n, times := range times {
		require.Equal(t, 1, times, "message %d", n)
	}
}

// KIP-429: a rebalance stops only what moves.
func TestKeptPartitionsGoOnAndAreCommittedWhileOthersDrain(t *testing.T) {
	c := newCluster(t, 2, "orders")
	for partition := range int32(2) {
		c.produceTo("orders", partition, 0, 3)
	}
	config := c.config("billing")
	config.Timings.Drain = time.Minute
	first, out := subscribe(t, config, "orders")
	held := map[int32]*message.Message{}
	for range 2 {
		m := receive(t, out)
		require.Zero(t, number(m))
		held[delivery.FromContext(m.Context()).Partition] = m
	}
	await(t, "the rest", func() bool { return subscriber.PendingForTest(first) == 6 })
	second, secondOut := subscribe(t, config, "orders")
	await(t, "second member", func() bool { return second.Ready(context.Background()) == nil })
	await(t, "drain of one", func() bool { return len(subscriber.PartitionsForTest(first)) == 1 })
	kept := subscriber.PartitionsForTest(first)[0]
	require.NoError(t, held[kept].Context().Err())
	held[kept].Ack()
	for n := 1; n < 3; n++ {
		m := receive(t, out)
		require.Equal(t, kept, delivery.FromContext(m.Context()).Partition)
		require.Equal(t, n, number(m))
		m.Ack()
	}
	await(t, "commit during the drain", func() bool { return c.committed("billing", "orders") == 3 })
	c.produceTo("orders", kept, 3, 2)
	for n := 3; n < 5; n++ {
		m := receive(t, out)
		require.Equal(t, n, number(m), "what stays is read on during the drain")
		m.Ack()
	}
	await(t, "commit during the drain", func() bool { return c.committed("billing", "orders") == 5 })
	moving := held[1-kept]
	require.NoError(t, moving.Context().Err())
	moving.Ack()
	for n := 1; n < 3; n++ {
		m := receive(t, secondOut)
		require.Equal(t, n, number(m))
		m.Ack()
	}
}

func TestLastCommitIsTriedAgain(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 3, 3)
	config := c.config("billing")
	config.Timings.Commit = time.Hour
	s, out := subscribe(t, config, "orders")
	for range 3 {
		receive(t, out).Ack()
	}
	refused := c.refuseCommits(kerr.RebalanceInProgress, 3)
	require.NoError(t, s.Close())
	require.Equal(t, int64(3), refused.Load())
	require.Equal(t, int64(3), c.committed("billing", "orders"))
}

func TestRefusedCommitsAreCountedAndLogged(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 3, 3)
	var log bytes.Buffer
	config, registry := c.config("billing"), prometheus.NewRegistry()
	config.Metrics = registry
	config.Logger = slog.New(slog.NewTextHandler(&log, nil))
	refused := c.refuseCommits(kerr.GroupAuthorizationFailed, -1)
	s, out := subscribe(t, config, "orders")
	for range 3 {
		receive(t, out).Ack()
	}
	await(t, "commit", func() bool { return refused.Load() > 0 })
	require.NoError(t, s.Close())
	require.Contains(t, log.String(), "finished=true committed=false")
	require.Zero(t, counter(t, registry, "tidings_subscriber_commits_total", "ok"))
	require.InDelta(t, refused.Load(), counter(t, registry, "tidings_subscriber_commits_total", "failed"), 0)
}
