package publisher

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidings-bus/tidings/event"
)

// keysOf returns a key for each partition of topic "order".
func keysOf(t *testing.T, p *Publisher) []string {
	t.Helper()
	tp := p.topic("order")
	l, err := tp.ready(within(t, 5*time.Second))
	require.NoError(t, err)
	keys := make([]string, len(l.partitions))
	for i, left := 0, len(keys); left > 0; i++ {
		key := fmt.Sprintf("k%d", i)
		if at := l.choose(tp, []byte(key), 1).id; keys[at] == "" {
			keys[at] = key
			left--
		}
	}
	return keys
}

// producing watches produce requests for topics other than the control topic;
// what see returns with true is the answer.
func producing(c *kfake.Cluster, see func(*kmsg.ProduceRequest) (kmsg.Response, error, bool)) {
	c.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req, _ := r.(*kmsg.ProduceRequest)
		if req.Topics[0].Topic == ControlTopic {
			return asUsual()
		}
		return see(req)
	})
}

func batches(r *kmsg.ProduceRequest) (n int) {
	for _, t := range r.Topics {
		n += len(t.Partitions)
	}
	return n
}

func TestPartitionsOfOneBrokerShareARequest(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(3, "other"), kfake.SleepOutOfOrder())
	config := to(c)
	config.TopicFor = func(e event.Event) string {
		if e.Aggregate().ID[0] == 'x' {
			return "other"
		}
		return "order"
	}
	p := start(t, config)
	keys := keysOf(t, p)
	ctx := within(t, 10*time.Second)
	require.NoError(t, p.Publish(ctx, ev(t, "x", "first"), ev(t, keys[0], "first")))
	gate := make(chan struct{})
	var requests, largest atomic.Int64
	producing(c, func(r *kmsg.ProduceRequest) (kmsg.Response, error, bool) {
		requests.Add(1)
		largest.Store(max(largest.Load(), int64(batches(r))))
		c.SleepControl(func() { <-gate })
		return asUsual()
	})
	// Requests that are slow would be waited for no longer: here they are not.
	b := p.topic("order").now.Load().partitions[0].leader.Load()
	eventually(t, "the first request is behind it", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.gathering || b.flying > 0 {
			return false
		}
		b.flying += maxFlying
		return true
	})
	events := []event.Event{ev(t, "x", "1")}
	for i := range 50 {
		for _, key := range keys {
			events = append(events, ev(t, key, text(i)))
		}
	}
	done := make(chan error)
	sendBehind(ctx, p, done, events...)
	eventually(t, "all wait", func() bool {
		n, inFlight := held(p)
		return n == len(events) && !inFlight
	})
	b.mu.Lock()
	b.flying -= maxFlying
	b.mu.Unlock()
	b.pass(&request{})
	close(gate)
	require.NoError(t, <-done)
	assert.EqualValues(t, 1, requests.Load())
	assert.EqualValues(t, len(keys)+1, largest.Load(), "the batches of both topics")
	records := log(t, c, "order")
	assert.Len(t, records, 1+50*len(keys))
	for _, key := range keys[1:] {
		assert.Len(t, valuesOf(records, key), 50)
	}
}

func TestAFailingPartitionHoldsUpNoOtherOfItsBroker(t *testing.T) {
	c := cluster(t)
	p := start(t, to(c))
	keys := keysOf(t, p)
	ctx := within(t, 20*time.Second)
	var fails atomic.Bool
	fails.Store(true)
	c.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Produce}, Topic: "order", Partitions: []int32{2}, Err: kerr.NotEnoughReplicas, Count: -1,
		When: func(kmsg.Request) bool { return fails.Load() },
	})
	var all []event.Event
	for _, key := range keys {
		all = append(all, ev(t, key, "0"))
	}
	stuck := make(chan error, 1)
	sendBehind(ctx, p, stuck, all...)
	eventually(t, "only the failing one is left", func() bool {
		n, _ := held(p)
		return n == 1
	})
	for i := range 20 {
		require.NoError(t, p.Publish(ctx, ev(t, keys[0], text(i)), ev(t, keys[5], text(i))))
	}
	select {
	case err := <-stuck:
		t.Fatal("it did not wait for the failing partition", err)
	default:
	}
	fails.Store(false)
	require.NoError(t, <-stuck)
	assert.Equal(t, []string{"0"}, valuesOf(log(t, c, "order"), keys[2]))
}

func TestASlowPartitionHoldsUpNoOtherOfItsBroker(t *testing.T) {
	c := cluster(t, kfake.SleepOutOfOrder())
	p := start(t, to(c))
	keys := keysOf(t, p)
	ctx := within(t, 20*time.Second)
	gate := make(chan struct{})
	producing(c, func(r *kmsg.ProduceRequest) (kmsg.Response, error, bool) {
		for _, p := range r.Topics[0].Partitions {
			if p.Partition < maxFlying {
				c.SleepControl(func() { <-gate })
				break
			}
		}
		return asUsual()
	})
	slow := make(chan error, maxFlying)
	for i := range maxFlying { // each in a request of its own: all that others wait for
		sendBehind(ctx, p, slow, ev(t, keys[i], "slow"))
		eventually(t, "it is in flight", func() bool {
			q := p.topic("order").now.Load().partitions[i]
			q.mu.Lock()
			defer q.mu.Unlock()
			return q.inFlight
		})
	}
	for i := range 10 {
		require.NoError(t, p.Publish(ctx, ev(t, keys[4], text(i)), ev(t, keys[5], text(i))))
	}
	assert.Empty(t, slow)
	close(gate)
	for range maxFlying {
		require.NoError(t, <-slow)
	}
}

// I2: in a shared request each partition has its own answer.
func TestI2AnAnswerConcernsItsPartitionOnly(t *testing.T) {
	c := cluster(t)
	p := start(t, to(c))
	keys := keysOf(t, p)
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "order", Partitions: []int32{1}, Err: kerr.PolicyViolation})
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "order", Partitions: []int32{3}, Err: kerr.NotLeaderForPartition, Count: 2})
	var events []event.Event
	for _, key := range keys {
		events = append(events, ev(t, key, "1"), ev(t, key, "2"))
	}
	err := p.Publish(within(t, 10*time.Second), events...)
	require.ErrorIs(t, err, kafka.PolicyViolation)
	e := failures(t, err)
	require.Len(t, e.Failed, 2)
	for _, f := range e.Failed {
		assert.Equal(t, keys[1], f.Event.Aggregate().ID)
		assert.False(t, f.InDoubt)
	}
	records := log(t, c, "order")
	assert.Len(t, records, 10)
	for i, key := range keys {
		if i != 1 {
			assert.Equal(t, []string{"1", "2"}, valuesOf(records, key))
		}
	}
}

// I2: without an answer every batch of the request is in doubt.
func TestI2ALostAnswerPutsEveryPartitionOfTheRequestInDoubt(t *testing.T) {
	for name, answer := range map[string]func(*kmsg.ProduceRequest) (kmsg.Response, error, bool){
		"the connection broke": func(*kmsg.ProduceRequest) (kmsg.Response, error, bool) {
			return nil, errors.New("lost by the test"), true
		},
		"the answer is empty": func(r *kmsg.ProduceRequest) (kmsg.Response, error, bool) {
			return r.ResponseKind(), nil, true
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := cluster(t)
			p := start(t, to(c))
			keys := keysOf(t, p)
			producing(c, answer)
			var events []event.Event
			for _, key := range keys {
				events = append(events, ev(t, key, "1"))
			}
			e := failures(t, p.Publish(within(t, 500*time.Millisecond), events...))
			require.Len(t, e.Failed, len(keys))
			for _, f := range e.Failed {
				assert.True(t, f.InDoubt)
			}
		})
	}
}

func TestARequestTakesInNoMorePartitionsOnceItIsFull(t *testing.T) {
	c := cluster(t)
	p := start(t, to(c))
	keys := keysOf(t, p)
	var most atomic.Int64
	producing(c, func(r *kmsg.ProduceRequest) (kmsg.Response, error, bool) {
		most.Store(max(most.Load(), int64(batches(r))))
		return asUsual()
	})
	var events []event.Event
	for range 3 {
		for _, key := range keys {
			events = append(events, ev(t, key, strings.Repeat("x", 600_000)))
		}
	}
	together(2, func(int) { assert.NoError(t, p.Publish(within(t, 20*time.Second), events...)) })
	assert.LessOrEqual(t, most.Load(), int64(2))
	assert.Len(t, log(t, c, "order"), 2*len(events))
}
