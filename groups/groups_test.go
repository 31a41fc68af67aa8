package groups_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/groups"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func cluster(t *testing.T) (connection.Config, *kgo.Client, *kfake.Cluster) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return connection.Config{Brokers: c.ListenAddrs()}, client, c
}

func TestPauseAndResumeAreRecordedWithWhoAndWhy(t *testing.T) {
	conn, client, _ := cluster(t)
	ctx := t.Context()
	all, err := groups.List(ctx, conn)
	require.NoError(t, err)
	require.Empty(t, all)
	before := time.Now().Add(-time.Second)

	done, err := groups.Pause(ctx, conn, "billing", "ann", "the bank is closed")
	require.NoError(t, err)
	require.True(t, done.Changed())
	require.False(t, done.Before.Paused)
	require.Equal(t, "ann", done.After.By)
	_, err = groups.Pause(ctx, conn, "audit", "bob", "")
	require.NoError(t, err)
	_, err = groups.Resume(ctx, conn, "audit", "bob", "done")
	require.NoError(t, err)

	all, err = groups.List(ctx, conn)
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.Equal(t, "audit", all[0].Group)
	require.False(t, all[0].Paused)
	require.Equal(t, groups.State{Group: "billing", Paused: true, By: "ann", Reason: "the bank is closed", Since: all[1].Since}, all[1])
	require.WithinRange(t, all[1].Since, before, time.Now().Add(time.Second))

	again, err := groups.Pause(ctx, conn, "billing", "carl", "me too")
	require.NoError(t, err)
	require.False(t, again.Changed())
	require.Equal(t, "ann", again.After.By, "who paused it first stands")

	topics, err := kadm.NewClient(client).DescribeTopicConfigs(ctx, groups.Topic)
	require.NoError(t, err)
	for _, c := range topics[0].Configs {
		if c.Key == "cleanup.policy" {
			require.Equal(t, "compact", c.MaybeValue())
		}
	}
}

func TestReaderFollowsChangesAndANewTopic(t *testing.T) {
	conn, client, _ := cluster(t)
	ctx := t.Context()
	r := groups.Reader{Connection: conn, Logger: slog.New(slog.DiscardHandler)}
	require.NoError(t, r.Refresh(ctx, client), "no control topic: nobody is paused")
	require.False(t, r.State("billing").Paused)
	_, err := groups.Pause(ctx, conn, "billing", "ann", "")
	require.NoError(t, err)
	require.NoError(t, r.Refresh(ctx, client))
	require.True(t, r.State("billing").Paused)
	require.False(t, r.State("audit").Paused)

	// What is no state changes nothing.
	require.NoError(t, client.ProduceSync(ctx, &kgo.Record{Topic: groups.Topic, Key: []byte("billing"), Value: []byte("{")},
		&kgo.Record{Topic: groups.Topic, Value: []byte("{}")}).FirstErr())
	require.NoError(t, r.Refresh(ctx, client))
	require.True(t, r.State("billing").Paused)

	_, err = kadm.NewClient(client).DeleteTopics(ctx, groups.Topic)
	require.NoError(t, err)
	require.NoError(t, r.Refresh(ctx, client))
	require.False(t, r.State("billing").Paused)
	_, err = groups.Pause(ctx, conn, "billing", "bob", "")
	require.NoError(t, err)
	require.NoError(t, r.Refresh(ctx, client))
	require.Equal(t, "bob", r.State("billing").By)
}

func TestWhatCannotBeDoneSaysWhy(t *testing.T) {
	conn, _, c := cluster(t)
	ctx := t.Context()
	_, err := groups.Pause(ctx, conn, "", "ann", "")
	require.ErrorContains(t, err, "no name")
	_, err = groups.Pause(ctx, conn, "billing", "", "")
	require.ErrorContains(t, err, "name who does it")
	_, err = groups.List(ctx, connection.Config{})
	require.ErrorContains(t, err, "Brokers is empty")

	_, err = groups.Pause(ctx, conn, "billing", "ann", "")
	require.NoError(t, err)
	c.ControlKey(int16(kmsg.Produce), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req, resp := kreq.(*kmsg.ProduceRequest), kreq.ResponseKind().(*kmsg.ProduceResponse)
		for _, t := range req.Topics {
			p := kmsg.NewProduceResponseTopicPartition()
			p.ErrorCode = kerr.TopicAuthorizationFailed.Code
			resp.Topics = append(resp.Topics, kmsg.ProduceResponseTopic{Topic: t.Topic, TopicID: t.TopicID, Partitions: []kmsg.ProduceResponseTopicPartition{p}})
		}
		return resp, nil, true
	})
	_, err = groups.Resume(ctx, conn, "billing", "ann", "")
	require.ErrorIs(t, err, groups.ErrForbidden)
	require.ErrorContains(t, err, "grant the user WRITE")

	gone, cancel := context.WithCancel(ctx)
	cancel()
	_, err = groups.List(gone, conn)
	require.ErrorIs(t, err, context.Canceled)
}
