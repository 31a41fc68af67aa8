package publisher

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidings-bus/tidings/event"
)

// What was queued by the old count is sent to the partition's new leader, also
// while a new count waits for it.
func TestAnAcceptedCountIsFollowedWhenTheLeaderMoves(t *testing.T) {
	for name, early := range map[string]bool{"before the count is learned": true, "while it waits": false} {
		t.Run(name, func(t *testing.T) {
			c := cluster(t, kfake.NumBrokers(2), kfake.SeedTopics(1, "one"))
			config := to(c)
			config.TopicFor = func(event.Event) string { return "one" }
			config.MetadataMaxAge = 50 * time.Millisecond
			p := start(t, config)
			ctx := within(t, 5*time.Second) // less than the RequestTimeout
			require.NoError(t, c.MoveTopicPartition("one", 0, 0))
			require.NoError(t, p.Publish(ctx, ev(t, "a", "0")))
			old := p.topic("one").now.Load()
			// The leader does not take it, and does not say that there may be another.
			var moved atomic.Bool
			move := func() {
				require.NoError(t, c.MoveTopicPartition("one", 0, 1))
				moved.Store(true)
			}
			first := c.Fault(kfake.Fault{
				Keys: []kmsg.Key{kmsg.Produce}, Topic: "one", Err: kerr.NotEnoughReplicas, Count: -1,
				When: func(kmsg.Request) bool { return !moved.Load() },
			})
			waiting := make(chan error, 2)
			sendBehind(ctx, p, waiting, ev(t, "a", "1"))
			eventually(t, "it is refused for now", func() bool { return first.Hits() > 0 })
			grow(t, c, "one", 3)
			require.NoError(t, admin(t, c).Accept(ctx, "one"))
			if early {
				move()
			}
			eventually(t, "the knowledge of the topic is old", func() bool { return time.Since(old.checked) > config.MetadataMaxAge })
			sendBehind(ctx, p, waiting, ev(t, "a", "2"))
			if !early {
				eventually(t, "the new count waits", func() bool {
					old.partitions[0].mu.Lock()
					defer old.partitions[0].mu.Unlock()
					return old.partitions[0].retired
				})
				move()
			}
			require.NoError(t, <-waiting)
			require.NoError(t, <-waiting)
			assert.ElementsMatch(t, []string{"0", "1", "2"}, valuesOf(log(t, c, "one"), "a"))
			assert.Len(t, p.topic("one").now.Load().partitions, 3)
		})
	}
}

func TestEventsForAPartitionThatIsNoMoreAreRefused(t *testing.T) {
	c := cluster(t)
	p := start(t, to(c))
	ctx := within(t, 8*time.Second)
	keys := keysOf(t, p)
	require.NoError(t, p.Publish(ctx, ev(t, keys[5], "1")))
	deleteTopic(t, c, "order")
	foreign(t, c, func(ctx context.Context, a *kadm.Client) {
		_, err := a.CreateTopic(ctx, 2, 1, nil, "order")
		require.NoError(t, err)
	})
	err := p.Publish(ctx, ev(t, keys[5], "2"))
	require.ErrorIs(t, err, ErrPartitionsChanged)
	require.ErrorContains(t, err, `topic "order" has 2 partitions, recorded are 6`)
	require.ErrorContains(t, err, "publisher.Topics.Accept")
	assert.False(t, failures(t, err).Failed[0].InDoubt)
	require.ErrorIs(t, p.Publish(ctx, ev(t, keys[0], "2")), ErrPartitionsChanged)
	require.NoError(t, admin(t, c).Accept(ctx, "order"))
	eventually(t, "it goes on", func() bool { return p.Publish(ctx, ev(t, keys[5], "3")) == nil })
}
