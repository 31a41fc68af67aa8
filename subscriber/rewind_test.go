package subscriber

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/internal/delivery"
	"github.com/tidings-bus/tidings/internal/lanes"
)

// After an unclean change of leader old offsets hold new messages.
func TestLogThatGoesBackIsReadAnew(t *testing.T) {
	s, err := New(Config{Connection: connection.Config{Brokers: []string{"127.0.0.1:1"}}, Group: "billing"})
	require.NoError(t, err)
	sub := newSubscription(context.Background(), s.config, s.metrics, "orders", 1)
	p := &partition{lanes: sub.lanes.Open(0), committed: -1}
	sub.partitions[0] = p
	fetch := func(offsets ...int64) {
		f := kgo.FetchTopicPartition{Topic: "orders"}
		for _, o := range offsets {
			f.Records = append(f.Records, &kgo.Record{Topic: "orders", Offset: o, Key: []byte("k")})
		}
		sub.feed(f, nil)
	}
	take := func() int64 {
		m := <-sub.out
		defer m.Ack()
		return delivery.FromContext(m.Context()).Offset
	}
	fetch(5, 6, 7)
	require.Equal(t, int64(5), take())
	var wait sync.WaitGroup
	wait.Go(func() { fetch(3, 4, 5) })
	held := <-sub.out // 6 of the old log, offered before or recalled
	if delivery.FromContext(held.Context()).Offset == 6 {
		<-held.Context().Done()
		held.Ack()
		wait.Wait()
		require.Equal(t, int64(3), take())
	} else {
		held.Ack()
		wait.Wait()
	}
	require.Equal(t, int64(4), take())
	require.Equal(t, int64(5), take())
	require.True(t, p.lanes.Drain(context.Background(), time.Second))
	defer sub.lanes.Close()
	next, _ := p.lanes.Watermark()
	require.Equal(t, int64(6), next)
}

// I5: a partition that is taken away while records of a new epoch are on their
// way leaves what was finished under the old epoch: under the new one its next
// owner would take new records at these offsets for finished.
func TestWhatWasFinishedKeepsItsEpochWhenThePartitionGoes(t *testing.T) {
	config := Config{Connection: connection.Config{Brokers: []string{"127.0.0.1:1"}}, Group: "billing"}
	var sub *subscription
	config.Fairness.By = func(event.KafkaRecord) string {
		sub.mu.Lock()
		defer sub.mu.Unlock()
		sub.leaving[0] = sub.partitions[0]
		delete(sub.partitions, 0)
		return ""
	}
	s, err := New(config)
	require.NoError(t, err)
	sub = newSubscription(context.Background(), s.config, s.metrics, "orders", 1)
	defer sub.lanes.Close()
	finished := []lanes.Run{{From: 10, To: 20}}
	p := &partition{lanes: sub.lanes.Open(0), committed: 5, ahead: ahead{epoch: 3, runs: finished}, epoch: 3}
	sub.partitions[0] = p
	sub.feed(kgo.FetchTopicPartition{Topic: "orders", FetchPartition: kgo.FetchPartition{Records: []*kgo.Record{{Topic: "orders", Offset: 5, LeaderEpoch: 4, Key: []byte("k")}}}}, nil)
	require.Equal(t, finished, p.ahead.runs)
	require.Equal(t, int32(3), p.epoch)
}
