package subscriber_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidings-bus/tidings/subscriber"
)

// note is the metadata of the group's offset of a partition.
func (c *cluster) note(group, topic string, partition int32) kadm.Offset {
	offsets, err := c.admin.FetchOffsets(context.Background(), group)
	require.NoError(c.t, err)
	o, _ := offsets.Lookup(topic, partition)
	return o.Offset
}

// commit stores an offset as a tool does.
func (c *cluster) commit(group string, o kadm.Offset) {
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...)) // c's knows old topics
	require.NoError(c.t, err)
	defer client.Close()
	offsets := kadm.Offsets{}
	offsets.Add(o)
	require.NoError(c.t, kadm.NewClient(client).CommitAllOffsets(context.Background(), group, offsets))
}

// finishBut acks n messages and keeps the one with the number stuck, until the
// test ends.
func finishBut(t *testing.T, out <-chan *message.Message, n, stuck int) *message.Message {
	t.Helper()
	var held *message.Message
	for n > 0 {
		m := receive(t, out)
		if number(m) == stuck {
			held = m
			t.Cleanup(func() { m.Nack() })
			continue
		}
		m.Ack()
		n--
	}
	return held
}

// I5: what every handler has finished survives a crash, also above the
// watermark. The offsets that the group has are all that a kill leaves behind;
// another group that has the same goes on as the next owner would.
func TestFinishedAheadIsNotHandedOutAgain(t *testing.T) {
	c := newCluster(t, 1, "orders")
	const total = 10_001
	c.produce("orders", 0, total, total)
	first, out := subscribe(t, c.config("billing"), "orders")
	finishBut(t, out, total-1, 0)
	var left kadm.Offset
	await(t, "all but one are committed", func() bool {
		left = c.note("billing", "orders", 0)
		return left.At == 0 && subscriber.AheadForTest(first) == total-1 && left == c.note("billing", "orders", 0)
	})

	c.commit("heir", left)
	config, registry := c.config("heir"), prometheus.NewRegistry()
	config.Metrics = registry
	_, out = subscribe(t, config, "orders")
	m := receive(t, out)
	require.Zero(t, number(m))
	nothing(t, out, 200*time.Millisecond)
	require.InDelta(t, total-1, counter(t, registry, "tidings_subscriber_spared_total", ""), 0)
	m.Ack()
	await(t, "all", func() bool { return c.committed("heir", "orders") == total })
	require.False(t, strings.HasPrefix(c.note("heir", "orders", 0).Metadata, "t1."), "nothing is ahead any more")
}

// What a member has not read yet it passes on, and what a drain leaves too.
func TestFinishedAheadIsPassedOnByAMemberThatLeaves(t *testing.T) {
	c := newCluster(t, 1, "orders")
	const total = 600
	c.produce("orders", 0, total, total)
	config := c.config("billing")
	config.Timings.DrainRetry = 50 * time.Millisecond
	first, out := subscribe(t, config, "orders")
	finishBut(t, out, total-1, 0).Nack()
	require.NoError(t, first.Close())
	require.Zero(t, c.committed("billing", "orders"))

	// It reads twenty messages, and no further.
	small := config
	small.Limits = subscriber.Limits{Running: 1, Pending: 1, RunAhead: 20}
	small.Fetch.MaxBytes, small.Fetch.PartitionMaxBytes = 1024, 1024
	second, out := subscribe(t, small, "orders")
	receive(t, out).Nack()
	require.NoError(t, second.Close())

	third, out := subscribe(t, config, "orders")
	m := receive(t, out)
	require.Zero(t, number(m))
	nothing(t, out, 200*time.Millisecond)
	m.Ack()
	await(t, "all", func() bool { return c.committed("billing", "orders") == total })
	require.NoError(t, third.Close())
}

// Only what was written with the offset counts: after a reset nothing is skipped.
func TestOffsetsOfOtherToolsSkipNothing(t *testing.T) {
	c := newCluster(t, 1, "orders")
	const total = 50
	c.produce("orders", 0, total, total)
	_, out := subscribe(t, c.config("billing"), "orders")
	finishBut(t, out, total-2, 1).Context()
	await(t, "commit", func() bool {
		return c.note("billing", "orders", 0).At == 1 && len(c.note("billing", "orders", 0).Metadata) > 3
	})
	ours := c.note("billing", "orders", 0)
	for name, o := range map[string]kadm.Offset{
		"reset":    {Topic: "orders", At: 0},
		"foreign":  {Topic: "orders", At: 0, Metadata: "offsets by another tool"},
		"moved":    {Topic: "orders", At: 0, Metadata: ours.Metadata},
		"garbled":  {Topic: "orders", At: 0, Metadata: "t1.AAAAAAAAAAAA"},
		"a member": {Topic: "orders", At: 0, Metadata: "tidings-0b0c7e"},
	} {
		t.Run(name, func(t *testing.T) {
			o.LeaderEpoch = -1
			c.commit(name, o)
			s, out := subscribe(t, c.config(name), "orders")
			seen := map[int]bool{}
			for len(seen) < total {
				m := receive(t, out)
				seen[number(m)] = true
				m.Ack()
			}
			require.NoError(t, s.Close())
		})
	}
}

func TestBrokerThatTakesNoMetadataGetsPlainOffsets(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 20, 20)
	c.ControlKey(int16(kmsg.OffsetCommit), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req, resp := kreq.(*kmsg.OffsetCommitRequest), kreq.ResponseKind().(*kmsg.OffsetCommitResponse)
		p := req.Topics[0].Partitions[0]
		if p.Metadata == nil || !strings.HasPrefix(*p.Metadata, "t1.") {
			return nil, nil, false //nolint:nilnil // kfake: not handled here
		}
		resp.Topics = append(resp.Topics, kmsg.OffsetCommitResponseTopic{
			Topic: req.Topics[0].Topic, TopicID: req.Topics[0].TopicID,
			Partitions: []kmsg.OffsetCommitResponseTopicPartition{{Partition: p.Partition, ErrorCode: kerr.OffsetMetadataTooLarge.Code}},
		})
		return resp, nil, true
	})
	config := c.config("billing")
	config.Timings.Commit = time.Hour
	config.Timings.DrainRetry = 50 * time.Millisecond
	s, out := subscribe(t, config, "orders")
	finishBut(t, out, 19, 7).Nack()
	require.NoError(t, s.Close())
	require.Equal(t, int64(7), c.committed("billing", "orders"))
}

// A topic made anew has other messages under the old offsets.
func TestTopicMadeAnewIsReadFromItsStart(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 30, 30)
	s, out := subscribe(t, c.config("billing"), "orders")
	finishBut(t, out, 29, 0).Nack()
	await(t, "commit", func() bool { return strings.HasPrefix(c.note("billing", "orders", 0).Metadata, "t1.") })
	require.NoError(t, s.Close())
	left := c.note("billing", "orders", 0)
	_, err := c.admin.DeleteTopics(context.Background(), "orders")
	require.NoError(t, err)
	_, err = c.admin.CreateTopic(context.Background(), 1, 1, nil, "orders")
	require.NoError(t, err)
	c.produceTo("orders", 0, 100, 30)
	c.commit("heir", left) // were it kept
	_, out = subscribe(t, c.config("heir"), "orders")
	for range 30 {
		m := receive(t, out)
		require.GreaterOrEqual(t, number(m), 100)
		m.Ack()
	}
}
