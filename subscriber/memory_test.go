package subscriber_test

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/internal/delivery"
	"github.com/tidings-bus/tidings/subscriber"
)

const mib = 1 << 20

// diskCluster keeps its messages out of the memory that is measured.
func diskCluster(t *testing.T, partitions int32, topics ...string) *cluster {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, topics...), kfake.DataDir(t.TempDir()))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(4*mib), kgo.MaxBufferedRecords(4))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return &cluster{Cluster: c, t: t, client: client, admin: kadm.NewClient(client)}
}

// produceLarge writes n messages of 1 MB in turn to the partitions; the ones of
// partition 0 have the key given.
func (c *cluster) produceLarge(topic string, partitions int32, first, n int, key string) {
	c.t.Helper()
	padding := bytes.Repeat([]byte("x"), mib-100)
	for i := first; i < first+n; i++ {
		r := &kgo.Record{Topic: topic, Partition: int32(i) % partitions, Key: []byte(fmt.Sprintf("k%d", i)), Value: append([]byte(nil), padding...)}
		copy(r.Value, strconv.Itoa(i)+" ")
		if r.Partition == 0 && key != "" && i%20 == 0 {
			r.Key = []byte(key)
		}
		require.NoError(c.t, c.client.ProduceSync(context.Background(), r).FirstErr())
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

var heavy = struct {
	limits subscriber.Limits
	fetch  subscriber.Fetch
}{
	subscriber.Limits{Running: 4, Bytes: 12 * mib, PartitionBytes: 4 * mib},
	subscriber.Fetch{MaxBytes: 4 * mib, PartitionMaxBytes: 2 * mib, Concurrent: 1},
}

// heavyBound is what the documentation promises: Limits.Bytes, what one poll
// brings on top, a fetch under way and one that is handed over.
const heavyBound = 12*mib + 3*4*mib

// I8: messages of 1 MB and a handler that stands: the heap stands too, however
// much is published. The broker's part of it is the same before.
func TestHeapIsFlatUnderAStalledHandlerWithLargeMessages(t *testing.T) {
	const partitions = 3
	c := diskCluster(t, partitions, "orders")
	c.produceLarge("orders", partitions, 0, 30, "")
	base := heap()
	config := c.config("billing")
	config.Limits, config.Fetch = heavy.limits, heavy.fetch
	s, out := subscribe(t, config, "orders")
	m := receive(t, out)
	await(t, "full", func() bool { return subscriber.FullForTest(s) })
	stalled := heap() - base
	require.Less(t, stalled, int64(heavyBound+8*mib))
	c.produceLarge("orders", partitions, 30, 30, "")
	grown := heap() - base
	t.Logf("heap in use: %d MB stalled with 30 MB published, %d MB with 60 MB", stalled/mib, grown/mib)
	require.Less(t, grown, int64(heavyBound+8*mib))
	require.Less(t, grown-stalled, int64(8*mib), "it grows no further")
	m.Ack()
	for range 59 {
		receive(t, out).Ack()
	}
	await(t, "all", func() bool { return c.committed("billing", "orders") == 60 })
}

// One key alone stands, with others' messages of 1 MB around its own: they flow,
// also in its partition, and the heap holds its messages and no others.
func TestHeapIsFlatWhileOneKeyStandsAndOthersFlow(t *testing.T) {
	const partitions, total = 2, 80
	c := diskCluster(t, partitions, "orders")
	c.produceLarge("orders", partitions, 0, total, "stuck")
	base := heap()
	config := c.config("billing")
	config.Limits, config.Fetch = heavy.limits, heavy.fetch
	config.Limits.Bytes, config.Limits.PartitionBytes = 48*mib, 24*mib
	_, out := subscribe(t, config, "orders")
	others := 0
	stuck := receive(t, out)
	for string(delivery.FromContext(stuck.Context()).Record.Key) != "stuck" {
		stuck.Ack()
		others++
		stuck = receive(t, out)
	}
	var once sync.Once
	t.Cleanup(func() { once.Do(func() { stuck.Nack() }) })
	const behind = total/20 - 1 // of its key
	for others < total-behind-1 {
		receive(t, out).Ack()
		others++
	}
	held := heap() - base
	t.Logf("heap in use: %d MB with %d MB of the standing key and %d messages of others handled", held/mib, behind+1, others)
	require.Less(t, held, int64((behind+1)*mib+3*4*mib+8*mib))
	once.Do(func() { stuck.Ack() })
	for range behind {
		receive(t, out).Ack()
	}
	await(t, "all", func() bool { return c.committed("billing", "orders") == total })
}
