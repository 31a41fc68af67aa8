package publisher

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidings-bus/tidings/connection"
)

func admin(t testing.TB, c *kfake.Cluster) *Topics {
	t.Helper()
	topics, err := NewTopics(TopicsConfig{Connection: connection.Config{Brokers: c.ListenAddrs()}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, topics.Close()) })
	return topics
}

func foreign(t testing.TB, c *kfake.Cluster, do func(context.Context, *kadm.Client)) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	require.NoError(t, err)
	defer client.Close()
	do(within(t, 10*time.Second), kadm.NewClient(client))
}

func grow(t testing.TB, c *kfake.Cluster, topic string, n int) {
	t.Helper()
	foreign(t, c, func(ctx context.Context, a *kadm.Client) {
		res, err := a.UpdatePartitions(ctx, n, topic)
		require.NoError(t, err)
		require.NoError(t, res.Error())
	})
}

func deleteTopic(t testing.TB, c *kfake.Cluster, topic string) {
	t.Helper()
	foreign(t, c, func(ctx context.Context, a *kadm.Client) {
		res, err := a.DeleteTopics(ctx, topic)
		require.NoError(t, err)
		require.NoError(t, res.Error())
	})
}

func TestTopicsAreMadeOnceAndListed(t *testing.T) {
	c := cluster(t)
	topics := admin(t, c)
	ctx := within(t, 20*time.Second)
	specs := []TopicSpec{
		{Name: "invoice", Partitions: 3, Replication: 1, Retention: 48 * time.Hour, Config: map[string]string{"max.message.bytes": "2000000"}},
		{Name: "shipment", Retention: -1},
	}
	require.NoError(t, topics.Create(ctx, specs...))
	require.NoError(t, topics.Create(ctx, specs...), "again is fine")
	list, err := topics.List(ctx)
	require.NoError(t, err)
	assert.Equal(t, []Topic{
		{Name: "invoice", Partitions: 3, Replication: 1, Recorded: 3},
		{Name: "order", Partitions: 6, Replication: 1},
		{Name: "shipment", Partitions: 6, Replication: 1, Recorded: 6},
	}, list)

	err = topics.Create(ctx, TopicSpec{Name: "invoice", Partitions: 5})
	require.ErrorContains(t, err, `create topic "invoice" with 5 partitions: it is there with 3`)
	for name, s := range map[string]TopicSpec{
		`topic name "a b" has ' ' in it`: {Name: "a b"},
		"Partitions is -1":               {Name: "x", Partitions: -1},
		"taken by the control topic":     {Name: ControlTopic},
		"set one of them":                {Name: "x", Retention: time.Hour, Config: map[string]string{"retention.ms": "1"}},
	} {
		require.ErrorContains(t, topics.Create(ctx, s), name)
	}

	foreign(t, c, func(ctx context.Context, a *kadm.Client) {
		configs, err := a.DescribeTopicConfigs(ctx, "invoice", "shipment", ControlTopic)
		require.NoError(t, err)
		value := make(map[string]string)
		for _, r := range configs {
			for _, c := range r.Configs {
				value[r.Name+" "+c.Key] = c.MaybeValue()
			}
		}
		assert.Equal(t, "172800000", value["invoice retention.ms"])
		assert.Equal(t, "2000000", value["invoice max.message.bytes"])
		assert.Equal(t, "-1", value["shipment retention.ms"])
		assert.Equal(t, "compact", value[ControlTopic+" cleanup.policy"])
	})
}

func TestManyMakeTheSameTopicsAtOnce(t *testing.T) {
	c := cluster(t)
	ctx := within(t, 20*time.Second)
	together(8, func(int) {
		assert.NoError(t, admin(t, c).Create(ctx, TopicSpec{Name: "invoice", Partitions: 3}, TopicSpec{Name: "shipment", Partitions: 2}))
	})
}

func TestAGrownTopicIsRefusedUntilItsCountIsAccepted(t *testing.T) {
	c := cluster(t)
	config := to(c)
	config.MetadataMaxAge = 10 * time.Millisecond
	running := start(t, config)
	ctx := within(t, 20*time.Second)
	require.NoError(t, running.Publish(ctx, ev(t, "o", "1")))
	grow(t, c, "order", 8)

	fresh := start(t, to(c))
	for what, p := range map[string]*Publisher{"one that runs": running, "one that starts": fresh} {
		eventually(t, what+" notices", func() bool {
			return assert.ObjectsAreEqual(true, p.Publish(ctx, ev(t, "o", "x")) != nil)
		})
		err := p.Publish(ctx, ev(t, "o", "2"))
		require.ErrorIs(t, err, ErrPartitionsChanged, what)
		require.ErrorContains(t, err, `topic "order" has 8 partitions, recorded are 6`, what)
		require.ErrorContains(t, err, "publisher.Topics.Accept", what)
	}
	topics := admin(t, c)
	require.ErrorContains(t, topics.Create(ctx, TopicSpec{Name: "order", Partitions: 8}), "recorded are 6")
	list, err := topics.List(ctx)
	require.NoError(t, err)
	require.Equal(t, []Topic{{Name: "order", Partitions: 8, Replication: 1, Recorded: 6}}, list)

	require.NoError(t, topics.Accept(ctx, "order"))
	for what, p := range map[string]*Publisher{"one that runs": running, "one that starts": fresh, "a new one": start(t, to(c))} {
		eventually(t, what+" goes on", func() bool { return p.Publish(ctx, ev(t, "o", "3")) == nil })
	}
	for _, r := range log(t, c, "order") {
		assert.NotEqual(t, "2", string(r.Value))
	}
	require.ErrorIs(t, topics.Accept(ctx, "nothing"), ErrUnknownTopic)
}

// A key must not be sent by two counts at once: what was queued by the old one
// is in the log before the first record goes by the new one.
func TestAnAcceptedCountWaitsForWhatWasQueuedByTheOldOne(t *testing.T) {
	c := cluster(t, kfake.SleepOutOfOrder())
	config := to(c)
	config.MetadataMaxAge = time.Millisecond
	p := start(t, config)
	ctx := within(t, 20*time.Second)
	key := movingKey(p, 6, 8)
	require.NoError(t, p.Publish(ctx, ev(t, key, "0")))
	topics := admin(t, c)
	grow(t, c, "order", 8)
	release := make(chan struct{})
	c.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if r.(*kmsg.ProduceRequest).Topics[0].Topic == "order" {
			c.SleepControl(func() { <-release })
		}
		return asUsual()
	})
	// In flight by the old count: the growth is not known yet.
	old := p.topic("order").now.Load()
	cl := newCall(1)
	k := ev(t, key, "1")
	r := bodied(ctx, t, p, cl, 0, recordOf(k))
	require.True(t, old.choose(p.topic("order"), r.key, 1).add(cl, r, r))
	require.NoError(t, topics.Accept(ctx, "order"))
	eventually(t, "the knowledge of the topic is old", func() bool { return time.Since(old.checked) > config.MetadataMaxAge })
	done := make(chan error, 1)
	sendBehind(ctx, p, done, ev(t, key, "2"))
	eventually(t, "the old layout is retired", func() bool {
		old.partitions[0].mu.Lock()
		defer old.partitions[0].mu.Unlock()
		return old.partitions[0].retired
	})
	assert.Same(t, old, p.topic("order").now.Load(), "nothing goes by the new count yet")
	close(release)
	<-cl.done
	require.Empty(t, cl.failed)
	require.NoError(t, <-done)
	assert.Len(t, p.topic("order").now.Load().partitions, 8)
	now := p.topic("order").now.Load()
	from, to := old.choose(p.topic("order"), []byte(key), 1).id, now.choose(p.topic("order"), []byte(key), 1).id
	require.NotEqual(t, from, to)
	at := make(map[string]int32)
	for _, r := range log(t, c, "order") {
		at[string(r.Value)] = r.Partition
	}
	assert.Equal(t, map[string]int32{"0": from, "1": from, "2": to}, at)
}

// The goroutine that sends must not wait for itself when it is the one that
// learns of an accepted count.
func TestAnAcceptedCountIsFollowedWhileEventsAreTriedAgain(t *testing.T) {
	c := cluster(t)
	config := to(c)
	config.MetadataMaxAge = time.Hour
	p := start(t, config)
	ctx := within(t, 5*time.Second) // less than the RequestTimeout
	key := movingKey(p, 6, 8)
	require.NoError(t, p.Publish(ctx, ev(t, key, "0")))
	grow(t, c, "order", 8)
	require.NoError(t, admin(t, c).Accept(ctx, "order"))
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "order", Err: kerr.NotLeaderForPartition, Count: 2})
	require.NoError(t, p.Publish(ctx, ev(t, key, "1")), "queued by the old count")
	require.NoError(t, p.Publish(ctx, ev(t, key, "2")), "goes by the new one")
	at := make(map[string]int32)
	for _, r := range log(t, c, "order") {
		at[string(r.Value)] = r.Partition
	}
	assert.Equal(t, at["0"], at["1"])
	assert.NotEqual(t, at["1"], at["2"])
}

func movingKey(p *Publisher, from, to int) string {
	a, b := &layout{}, &layout{}
	tp := newTopic(p, "order")
	a.partitions, a.indexes = tp.partitions(from)
	b.partitions, b.indexes = tp.partitions(to)
	for i := 0; ; i++ {
		key := fmt.Sprintf("o-%d", i)
		if a.choose(tp, []byte(key), 1).id != b.choose(tp, []byte(key), 1).id {
			return key
		}
	}
}

func TestManyPublishersAdoptATopicAtOnce(t *testing.T) {
	c := cluster(t)
	ctx := within(t, 20*time.Second)
	together(10, func(i int) {
		assert.NoError(t, start(t, to(c)).Publish(ctx, ev(t, "o", text(i))))
	})
	list, err := admin(t, c).List(ctx)
	require.NoError(t, err)
	assert.Equal(t, []Topic{{Name: "order", Partitions: 6, Replication: 1, Recorded: 6}}, list)
}

func TestWithoutTheControlTopicGrowthIsNoticedByTheProcessAlone(t *testing.T) {
	c := cluster(t)
	config := to(c)
	config.WithoutControlTopic = true
	config.MetadataMaxAge = time.Millisecond
	p := start(t, config)
	ctx := within(t, 20*time.Second)
	require.NoError(t, p.Publish(ctx, ev(t, "o", "1")))
	grow(t, c, "order", 7)
	eventually(t, "it is noticed", func() bool { return p.Publish(ctx, ev(t, "o", "x")) != nil })
	require.ErrorContains(t, p.Publish(ctx, ev(t, "o", "x")), "start this process again")
	list, err := admin(t, c).List(ctx)
	require.NoError(t, err)
	assert.Len(t, list, 1)
	foreign(t, c, func(ctx context.Context, a *kadm.Client) {
		all, err := a.ListTopics(ctx)
		require.NoError(t, err)
		assert.False(t, all.Has(ControlTopic), "it was not made")
	})
}
