package publisher

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A broker under a quota answers with nothing although there is something.
func TestAnEmptyAnswerDoesNotHideARecordedCount(t *testing.T) {
	for name, fill := range map[string]func(*kmsg.FetchRequest, *kmsg.FetchResponse){
		"an empty partition": func(req *kmsg.FetchRequest, res *kmsg.FetchResponse) {
			topic, partition := kmsg.NewFetchResponseTopic(), kmsg.NewFetchResponseTopicPartition()
			topic.Topic, topic.TopicID = req.Topics[0].Topic, req.Topics[0].TopicID
			partition.HighWatermark, partition.RecordBatches = 1, []byte{}
			topic.Partitions = append(topic.Partitions, partition)
			res.Topics = append(res.Topics, topic)
		},
		"no partition": func(*kmsg.FetchRequest, *kmsg.FetchResponse) {},
	} {
		t.Run(name, func(t *testing.T) {
			c := cluster(t)
			ctx := within(t, 20*time.Second)
			require.NoError(t, start(t, to(c)).Publish(ctx, ev(t, "o", "1")))
			grow(t, c, "order", 8)
			throttled := 0
			throttle := func(r kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				if throttled++; throttled > 2 {
					return asUsual()
				}
				req, _ := r.(*kmsg.FetchRequest)
				res, _ := req.ResponseKind().(*kmsg.FetchResponse)
				res.ThrottleMillis = 100
				fill(req, res)
				return res, nil, true
			}
			c.ControlKey(int16(kmsg.Fetch), throttle)
			list, err := admin(t, c).List(ctx)
			require.NoError(t, err)
			assert.Equal(t, []Topic{{Name: "order", Partitions: 8, Replication: 1, Recorded: 6}}, list)
			throttled = 0
			require.ErrorIs(t, start(t, to(c)).Publish(ctx, ev(t, "o", "2")), ErrPartitionsChanged)
			assert.Greater(t, throttled, 2)
		})
	}
	t.Run("for ever", func(t *testing.T) {
		c := cluster(t)
		require.NoError(t, start(t, to(c)).Publish(within(t, 20*time.Second), ev(t, "o", "1")))
		c.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			return r.ResponseKind(), nil, true
		})
		_, err := admin(t, c).List(within(t, 300*time.Millisecond))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "nothing of what is from offset 0 to 1")
	})
}

func TestWhatIsDeletedFromTheControlTopicIsNotWaitedFor(t *testing.T) {
	c := cluster(t)
	topics := admin(t, c)
	ctx := within(t, 20*time.Second)
	require.NoError(t, topics.Create(ctx, TopicSpec{Name: "a", Partitions: 1}, TopicSpec{Name: "b", Partitions: 2}))
	var deleted atomic.Bool
	asked := make(chan struct{}, 1)
	c.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if deleted.Load() {
			return asUsual()
		}
		select {
		case asked <- struct{}{}:
		default:
		}
		return r.ResponseKind(), nil, true
	})
	fresh := admin(t, c)
	done := make(chan error, 1)
	var list []Topic
	go func() {
		var err error
		list, err = fresh.List(ctx)
		done <- err
	}()
	<-asked
	foreign(t, c, func(ctx context.Context, a *kadm.Client) {
		var to kadm.Offsets
		to.AddOffset(ControlTopic, 0, 1, -1)
		res, err := a.DeleteRecords(ctx, to)
		require.NoError(t, err)
		require.NoError(t, res.Error())
	})
	deleted.Store(true)
	require.NoError(t, <-done)
	assert.Contains(t, list, Topic{Name: "b", Partitions: 2, Replication: 1, Recorded: 2})
}

func TestAnUnreadableControlRecordRecordsNothing(t *testing.T) {
	l := newLedger(nil)
	l.apply("order", []byte(`{"topic":"order","partitions":6}`))
	l.apply("order", []byte("not JSON"))
	l.apply("order", []byte(`{"partitions":-3}`))
	assert.Equal(t, map[string]int{"order": 6}, l.read)
	l.apply("order", nil)
	assert.Empty(t, l.read)
}
