package watermillkafka_test

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/subscriber/watermillkafka"
)

// I8: a handler that stalls stops the reading of its partition, and nothing else;
// when it goes on, so does the reading.
func TestReadingStopsWhenLanesAreFullAndGoesOnWhenTheyAreNot(t *testing.T) {
	c := newCluster(t, 2, "orders")
	const each, most = 2000, 100
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytes(1<<10)) // a fetch has whole batches
	require.NoError(t, err)
	defer client.Close()
	var records []*kgo.Record
	for i := range 2 * each {
		records = append(records, &kgo.Record{
			Topic: "orders", Partition: int32(i % 2), Key: []byte("k" + strconv.Itoa(i%50)), Value: []byte(strconv.Itoa(i)),
		})
	}
	require.NoError(t, client.ProduceSync(context.Background(), records...).FirstErr())
	config := c.config("billing")
	config.OverwriteSaramaConfig.Consumer.Fetch.Default = 4 << 10
	s := newSubscriber(t, config, watermillkafka.LanesConfig{PartitionPending: most, Pending: 2 * most, RunAhead: most})
	out, err := s.Subscribe(context.Background(), "orders")
	require.NoError(t, err)
	var acked [2]atomic.Int64
	goOn := make(chan struct{})
	var readers sync.WaitGroup
	readers.Go(func() {
		for m := range out {
			p, _ := kafka.MessagePartitionFromCtx(m.Context())
			readers.Go(func() {
				if p == 0 {
					<-goOn
				}
				acked[p].Add(1)
				m.Ack()
			})
		}
	})
	await(t, "the partition beside the stalled one is done", func() bool { return acked[1].Load() == each })
	held := watermillkafka.HeldForTest(s, 0)
	require.GreaterOrEqual(t, held, most)
	require.Less(t, held, each/2)
	close(goOn)
	await(t, "the stalled one is done", func() bool { return acked[0].Load() == each })
	require.NoError(t, s.Close())
	readers.Wait()
	require.Equal(t, int64(2*each), c.committed("billing", "orders"))
}

// I8: messages of 1 MB are bounded by their bytes.
func TestLargeMessagesOfAStalledHandlerAreBoundedByBytes(t *testing.T) {
	c := newCluster(t, 2, "orders")
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytes(2<<20))
	require.NoError(t, err)
	defer client.Close()
	const large, most = 60, 8 // MB
	for i := range large {
		require.NoError(t, client.ProduceSync(context.Background(), &kgo.Record{
			Topic: "orders", Key: []byte("k" + strconv.Itoa(i%4)), Value: make([]byte, 1<<20-1024),
		}).FirstErr())
	}
	s := newSubscriber(t, c.config("billing"), watermillkafka.LanesConfig{PartitionBytes: most << 20, Drain: 50 * time.Millisecond})
	out, err := s.Subscribe(context.Background(), "orders")
	require.NoError(t, err)
	var small atomic.Int64
	var readers sync.WaitGroup
	readers.Go(func() {
		for m := range out {
			if len(m.Payload) < 1<<10 { // the large ones are never answered
				small.Add(1)
				m.Ack()
			}
		}
	})
	await(t, "the bound is reached", func() bool { return watermillkafka.HeldForTest(s, 0) >= most })
	// Fetches go on for the partition beside it: it is not that nothing was asked for.
	for i := range 20 {
		require.NoError(t, client.ProduceSync(context.Background(), &kgo.Record{Topic: "orders", Partition: 1, Value: []byte("small")}).FirstErr())
		await(t, "the partition beside it", func() bool { return small.Load() == int64(i+1) })
	}
	// What sarama had fetched by then comes on top: a channel of 16, and two fetches.
	require.LessOrEqual(t, watermillkafka.HeldForTest(s, 0), most+18)
	require.NoError(t, s.Close())
	readers.Wait()
}

// A tenant that floods the partition, and whose handlers hang, leaves room for
// the one behind it.
func TestTenantBehindAFloodGetsItsTurn(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 200, 200)
	require.NoError(t, c.client.ProduceSync(context.Background(), &kgo.Record{Topic: "orders", Key: []byte("small"), Value: []byte("200")}).FirstErr())
	s := newSubscriber(t, c.config("billing"), watermillkafka.LanesConfig{
		Running: 8, PartitionRunning: 8, Drain: 50 * time.Millisecond,
		Tenant:  func(m *sarama.ConsumerMessage) string { return string(m.Key[:1]) }, // "k" and "s"
		Weights: map[string]int{"k": 1000},
	})
	out, err := s.Subscribe(context.Background(), "orders")
	require.NoError(t, err)
	for {
		if m := receive(t, out); number(m) == 200 { // the others are never answered
			m.Ack()
			return
		}
	}
}
