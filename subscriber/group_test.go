package subscriber_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidings-bus/tidings/internal/delivery"
	"github.com/tidings-bus/tidings/subscriber"
)

// work handles everything from out in goroutines of its own, as watermill's
// router does, until the channel is closed.
func work(l *ledger, out <-chan *message.Message, keys int, handle func(*message.Message) bool) *sync.WaitGroup {
	var wait sync.WaitGroup
	wait.Go(func() {
		for m := range out {
			wait.Go(func() {
				key := string(delivery.FromContext(m.Context()).Record.Key)
				l.begin(key, number(m))
				ok := handle(m)
				l.end(key, number(m), keys, ok)
				if ok {
					m.Ack()
				} else {
					m.Nack()
				}
			})
		}
	})
	return &wait
}

// I3, I5: every message is counted, whoever comes and goes.
func TestOrderAndEveryMessageUnderMembersComingAndGoing(t *testing.T) {
	c := newCluster(t, 6, "orders")
	const total, keys = 6000, 60
	l := newLedger(t)
	handle := func(*message.Message) bool {
		time.Sleep(time.Duration(rand.N(3)) * time.Millisecond)
		return rand.N(20) > 0
	}
	join := func() func() {
		s, err := subscriber.New(c.config("billing"))
		require.NoError(t, err)
		out, err := s.Subscribe(context.Background(), "orders")
		require.NoError(t, err)
		wait := work(l, out, keys, handle)
		return func() {
			require.NoError(t, s.Close())
			wait.Wait()
		}
	}
	first := join()
	c.produce("orders", 0, total/3, keys)
	await(t, "first messages", func() bool { return l.count() > 100 })
	second := join()
	c.produce("orders", total/3, total/3, keys)
	await(t, "a third", func() bool { return l.count() > total/3 })
	third := join()
	first()
	c.produce("orders", 2*total/3, total/3, keys)
	await(t, "half", func() bool { return l.count() > total/2 })
	second()
	await(t, "all", func() bool { return l.count() == total })
	third()
	require.Equal(t, int64(total), c.committed("billing", "orders"))
	repeated := 0
	for _, times := range l.seen {
		repeated += times - 1
	}
	// Only keys that kept failing into a drain may come again.
	require.Less(t, repeated, total/20)
}

func TestMembersThatLeaveRepeatNothing(t *testing.T) {
	c := newCluster(t, 4, "orders")
	const total, keys = 4000, 40
	l := newLedger(t)
	c.produce("orders", 0, total, keys)
	for i := range 4 {
		s, err := subscriber.New(c.config("billing"))
		require.NoError(t, err)
		out, err := s.Subscribe(context.Background(), "orders")
		require.NoError(t, err)
		wait := work(l, out, keys, func(*message.Message) bool { time.Sleep(time.Millisecond); return true })
		await(t, "a part", func() bool { return l.count() >= (i+1)*total/4 })
		require.NoError(t, s.Close())
		wait.Wait()
	}
	require.Len(t, l.seen, total)
	for n, times := range l.seen {
		require.Equal(t, 1, times, "message %d", n)
	}
	require.Equal(t, int64(total), c.committed("billing", "orders"))
}

func TestNackingHandlerDoesNotHoldStop(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 50, 10)
	config := c.config("billing")
	config.Timings.DrainRetry = 100 * time.Millisecond
	s, err := subscriber.New(config)
	require.NoError(t, err)
	out, err := s.Subscribe(context.Background(), "orders")
	require.NoError(t, err)
	l := newLedger(t)
	wait := work(l, out, 10, func(m *message.Message) bool { return number(m) != 7 })
	await(t, "the others", func() bool { return l.count() == 45 })
	start := time.Now()
	require.NoError(t, s.Close())
	wait.Wait()
	require.Less(t, time.Since(start), 5*time.Second)
	require.Equal(t, int64(7), c.committed("billing", "orders")) // I5
}

func TestRunningHandlersFinishAndAreCommittedOnStop(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 4, 2)
	s, err := subscriber.New(c.config("billing"))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	out, err := s.Subscribe(ctx, "orders")
	require.NoError(t, err)
	a, b := receive(t, out), receive(t, out)
	if number(a) > number(b) {
		a, b = b, a
	}
	cancel()
	await(t, "drain", func() bool { return len(subscriber.PartitionsForTest(s)) == 0 })
	require.NoError(t, a.Context().Err(), "stopping must not cancel what runs")
	a.Ack()
	await(t, "commit during the drain", func() bool { return c.committed("billing", "orders") == 1 })
	require.NoError(t, b.Context().Err(), "stopping must not cancel what runs")
	b.Ack()
	_, ok := <-out
	require.False(t, ok, "nothing may start any more")
	require.Equal(t, int64(2), c.committed("billing", "orders"))
	require.NoError(t, s.Close())
}

func TestDrainDeadlineCancelsWhatRuns(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 2, 2)
	config := c.config("billing")
	config.Timings.Drain = 300 * time.Millisecond
	s, err := subscriber.New(config)
	require.NoError(t, err)
	out, err := s.Subscribe(context.Background(), "orders")
	require.NoError(t, err)
	heeds, ignores := receive(t, out), receive(t, out)
	go func() { <-heeds.Context().Done(); heeds.Nack() }()
	require.NoError(t, s.Close())
	require.Error(t, ignores.Context().Err())
	ignores.Ack() // too late
	require.Equal(t, int64(0), c.committed("billing", "orders"))
}

func TestCloseWithoutReaderEnds(t *testing.T) {
	c := newCluster(t, 3, "orders")
	c.produce("orders", 0, 100, 10)
	config := c.config("billing")
	config.Timings.Drain = 300 * time.Millisecond
	s, err := subscriber.New(config)
	require.NoError(t, err)
	out, err := s.Subscribe(context.Background(), "orders")
	require.NoError(t, err)
	_ = receive(t, out) // and never answer
	await(t, "joined", func() bool { return s.Ready(context.Background()) == nil })
	var wait sync.WaitGroup
	for range 3 {
		wait.Go(func() { require.NoError(t, s.Close()) })
	}
	wait.Wait()
	_, ok := <-out
	require.False(t, ok)
	_, err = s.Subscribe(context.Background(), "orders")
	require.ErrorIs(t, err, subscriber.ErrClosed)
	require.ErrorIs(t, s.Ready(context.Background()), subscriber.ErrClosed)
}

func TestLostPartitionsAreCancelledAndCommitNothing(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 10, 10)
	config := c.config("billing")
	config.Timings.Commit = time.Hour
	s, out := subscribe(t, config, "orders")
	acked := receive(t, out)
	acked.Ack()
	held := receive(t, out)
	// The coordinator forgets the member.
	c.ControlKey(int16(kmsg.Heartbeat), func(req kmsg.Request) (kmsg.Response, error, bool) {
		resp := req.ResponseKind().(*kmsg.HeartbeatResponse)
		resp.ErrorCode = kerr.UnknownMemberID.Code
		return resp, nil, true
	})
	select {
	case <-held.Context().Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the message of the lost partition was not cancelled")
	}
	held.Nack()
	require.Equal(t, int64(0), c.committed("billing", "orders"))
	// It joins again and begins where the group stands.
	seen := map[int]bool{}
	for len(seen) < 10 {
		m := receive(t, out)
		seen[number(m)] = true
		m.Ack()
	}
	require.NoError(t, s.Close())
	require.Equal(t, int64(10), c.committed("billing", "orders"))
}

// A member is killed when the broker hears nothing of it any more: neither
// commits nor a farewell.
func TestSuccessorOfAKilledMemberLosesNothing(t *testing.T) {
	c := newCluster(t, 3, "orders")
	const total, keys = 900, 30
	c.produce("orders", 0, total, keys)
	config := c.config("billing")
	config.Timings.Session = time.Second
	config.Timings.Drain = 100 * time.Millisecond
	dying, err := subscriber.New(config)
	require.NoError(t, err)
	out, err := dying.Subscribe(context.Background(), "orders")
	require.NoError(t, err)
	l := newLedger(t)
	handle := func(m *message.Message) {
		key := string(delivery.FromContext(m.Context()).Record.Key)
		l.begin(key, number(m))
		l.end(key, number(m), keys, true)
		m.Ack()
	}
	for range 100 {
		handle(receive(t, out))
	}
	await(t, "commit", func() bool { return c.committed("billing", "orders") > 0 })
	var mute atomic.Bool
	mute.Store(true)
	refuse := func(key kmsg.Key, answer func(kmsg.Request) kmsg.Response) {
		c.ControlKey(key.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
			if !mute.Load() {
				return nil, nil, false //nolint:nilnil // kfake: not handled here
			}
			c.KeepControl()
			return answer(req), nil, true
		})
	}
	refuse(kmsg.OffsetCommit, func(req kmsg.Request) kmsg.Response {
		resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, t := range req.(*kmsg.OffsetCommitRequest).Topics {
			rt := kmsg.OffsetCommitResponseTopic{Topic: t.Topic, TopicID: t.TopicID}
			for _, p := range t.Partitions {
				rt.Partitions = append(rt.Partitions, kmsg.OffsetCommitResponseTopicPartition{Partition: p.Partition, ErrorCode: kerr.UnknownServerError.Code})
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp
	})
	refuse(kmsg.LeaveGroup, func(req kmsg.Request) kmsg.Response {
		resp := req.ResponseKind().(*kmsg.LeaveGroupResponse)
		resp.ErrorCode = kerr.UnknownServerError.Code
		return resp
	})
	for range 200 {
		handle(receive(t, out))
	}
	before := c.committed("billing", "orders")
	require.NoError(t, dying.Close())
	require.Equal(t, before, c.committed("billing", "orders"))
	mute.Store(false)

	_, out = subscribe(t, config, "orders")
	repeated := 0
	await(t, "commit", func() bool {
		for {
			select {
			case m := <-out:
				l.mu.Lock()
				repeated += l.seen[number(m)]
				l.mu.Unlock()
				handle(m)
			case <-time.After(50 * time.Millisecond):
				return c.committed("billing", "orders") == total
			}
		}
	})
	require.Len(t, l.seen, total)
	require.LessOrEqual(t, repeated, 300, "only what was finished since the last commit comes again")
	require.Positive(t, repeated)
}

func TestAbortedRecordsNeverArriveAndDoNotHoldTheWatermark(t *testing.T) {
	c := newCluster(t, 1, "orders")
	tx, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.TransactionalID("tx"), kgo.DefaultProduceTopic("orders"))
	require.NoError(t, err)
	defer tx.Close()
	ctx := context.Background()
	write := func(commit kgo.TransactionEndTry, values ...string) {
		require.NoError(t, tx.BeginTransaction())
		for _, v := range values {
			require.NoError(t, tx.ProduceSync(ctx, &kgo.Record{Key: []byte("k"), Value: []byte(v)}).FirstErr())
		}
		require.NoError(t, tx.EndTransaction(ctx, commit))
	}
	write(kgo.TryCommit, "1", "2")
	write(kgo.TryAbort, "13", "14")
	write(kgo.TryCommit, "3")
	write(kgo.TryAbort, "15")
	_, out := subscribe(t, c.config("billing"), "orders")
	for want := 1; want <= 3; want++ {
		m := receive(t, out)
		require.Equal(t, want, number(m))
		m.Ack()
	}
	// 6 records and 4 markers: the group is at the very end.
	await(t, "commit past the markers", func() bool { return c.committed("billing", "orders") == 10 })
}

// The embedded broker rebalances when a static member comes back, for its owned
// partitions are part of what it compares; Kafka compares the protocol only. So
// this shows what the member itself does for it: it does not leave, and nothing
// moves.
func TestStaticMemberComesBackToItsPartition(t *testing.T) {
	c := newCluster(t, 2, "orders")
	member := func(id string) (*subscriber.Subscriber, <-chan *message.Message, *prometheus.Registry) {
		config, registry := c.config("billing"), prometheus.NewRegistry()
		config.InstanceID, config.Metrics = id, registry
		s, err := subscriber.New(config)
		require.NoError(t, err)
		out, err := s.Subscribe(context.Background(), "orders")
		require.NoError(t, err)
		return s, out, registry
	}
	owns := func(s *subscriber.Subscriber, n int) func() bool {
		return func() bool { return len(subscriber.PartitionsForTest(s)) == n }
	}
	first, _, _ := member("billing-0")
	await(t, "all partitions", owns(first, 2))
	other, otherOut, registry := member("billing-1")
	defer other.Close()
	await(t, "half the partitions", owns(other, 1))
	await(t, "half the partitions", owns(first, 1))
	before := counter(t, registry, "tidings_subscriber_rebalances_total", "")
	require.Positive(t, before)
	var farewells atomic.Int64
	c.ControlKey(int16(kmsg.LeaveGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		farewells.Add(1)
		return nil, nil, false //nolint:nilnil // kfake: only looks
	})
	its, others := subscriber.PartitionsForTest(first)[0], subscriber.PartitionsForTest(other)[0]
	c.produceTo("orders", others, 0, 1)
	running := receive(t, otherOut)

	require.NoError(t, first.Close())
	described, err := c.admin.DescribeGroups(context.Background(), "billing")
	require.NoError(t, err)
	require.Len(t, described["billing"].Members, 2)
	c.produceTo("orders", its, 1, 1)
	require.InDelta(t, before, counter(t, registry, "tidings_subscriber_rebalances_total", ""), 0)
	first, out, _ := member("billing-0")
	defer first.Close()
	back := receive(t, out)
	back.Ack()
	require.Equal(t, 1, number(back))
	require.Equal(t, []int32{its}, subscriber.PartitionsForTest(first))
	require.Equal(t, []int32{others}, subscriber.PartitionsForTest(other))
	require.NoError(t, running.Context().Err())
	running.Ack()
	await(t, "commit", func() bool { return c.committed("billing", "orders") == 2 })
	require.NoError(t, first.Close())
	require.NoError(t, other.Close())
	require.Zero(t, farewells.Load())
}

// I8: a handler that stands still stops the reading.
func TestMemoryIsBoundedUnderAStalledHandler(t *testing.T) {
	for name, test := range map[string]struct {
		limits subscriber.Limits
		held   func(*subscriber.Subscriber) int
		bound  int
	}{
		"by messages": {
			subscriber.Limits{Running: 10, Pending: 2000, PartitionPending: 1000, RunAhead: 1500},
			subscriber.PendingForTest,
			2000 + 1000, // one poll
		},
		"by bytes": {
			subscriber.Limits{Running: 10, Bytes: 600_000, PartitionBytes: 300_000},
			func(s *subscriber.Subscriber) int { return int(subscriber.BytesForTest(s)) },
			600_000 + 2*1000*500, // one poll for each partition
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 2, "orders")
			const total = 6000
			c.produce("orders", 0, total, 500)
			config := c.config("billing")
			config.Limits = test.limits
			s, out := subscribe(t, config, "orders")
			held := make([]*message.Message, 10)
			for i := range held {
				held[i] = receive(t, out)
			}
			await(t, "full", func() bool { return subscriber.FullForTest(s) })
			require.LessOrEqual(t, test.held(s), test.bound)
			done := 0
			for _, m := range held {
				m.Ack()
				done++
			}
			for done < total {
				receive(t, out).Ack()
				done++
				require.LessOrEqual(t, test.held(s), test.bound)
			}
			await(t, "commit", func() bool { return c.committed("billing", "orders") == total })
		})
	}
}

func TestUnreadableMessagesArrive(t *testing.T) {
	c := newCluster(t, 1, "orders")
	require.NoError(t, c.client.ProduceSync(context.Background(),
		&kgo.Record{Topic: "orders", Key: []byte{0xff, 0}, Value: []byte{0xfe, '{'}, Headers: []kgo.RecordHeader{{Key: "", Value: nil}, {Key: "ce_id", Value: []byte{0xff}}}},
		&kgo.Record{Topic: "orders"},
	).FirstErr())
	_, out := subscribe(t, c.config("billing"), "orders")
	byOffset := map[int64]*message.Message{}
	for range 2 {
		m := receive(t, out)
		byOffset[delivery.FromContext(m.Context()).Offset] = m
		m.Ack()
	}
	d := delivery.FromContext(byOffset[0].Context())
	require.Equal(t, []byte{0xff, 0}, d.Record.Key)
	require.Equal(t, []byte{0xfe, '{'}, []byte(byOffset[0].Payload))
	require.Nil(t, delivery.FromContext(byOffset[1].Context()).Record.Key)
	require.Empty(t, byOffset[1].Payload)
}
