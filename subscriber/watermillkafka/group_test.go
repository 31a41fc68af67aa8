package watermillkafka_test

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidings-bus/tidings/subscriber/watermillkafka"
)

// join starts a member that handles what it gets; stop is an orderly end.
func (c *cluster) join(group string, l *ledger, keys int, handle func(*message.Message) bool) (stop func()) {
	c.t.Helper()
	s, out := subscribe(c.t, c.config(group), "orders")
	wait := work(l, out, keys, handle)
	return func() {
		require.NoError(c.t, s.Close())
		wait.Wait()
	}
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
	first := c.join("billing", l, keys, handle)
	c.produce("orders", 0, total/3, keys)
	await(t, "first messages", func() bool { return l.count() > 100 })
	second := c.join("billing", l, keys, handle)
	c.produce("orders", total/3, total/3, keys)
	await(t, "a third", func() bool { return l.count() > total/3 })
	third := c.join("billing", l, keys, handle)
	first()
	c.produce("orders", 2*total/3, total/3, keys)
	await(t, "half", func() bool { return l.count() > total/2 })
	second()
	await(t, "all", func() bool { return l.count() == total })
	third()
	require.Equal(t, int64(total), c.committed("billing", "orders"))
	// Only keys that kept failing into a drain may come again.
	require.Less(t, l.repeated(), total/20)
}

// What works repeats nothing when members come and go in good order: what has
// started is finished and committed before the group goes on (I5).
func TestMembersThatComeAndGoInOrderRepeatNothing(t *testing.T) {
	c := newCluster(t, 4, "orders")
	const total, keys = 6000, 40
	l := newLedger(t)
	c.produce("orders", 0, total, keys)
	handle := func(*message.Message) bool { time.Sleep(2 * time.Millisecond); return true }
	var leave []func()
	for i := range 4 {
		leave = append(leave, c.join("billing", l, keys, handle))
		await(t, "a part", func() bool { return l.count() >= min(total, (i+1)*total/5) })
		if i > 0 {
			leave[0]()
			leave = leave[1:]
		}
	}
	await(t, "all", func() bool { return l.count() == total })
	leave[0]()
	require.Zero(t, l.repeated())
	require.Equal(t, int64(total), c.committed("billing", "orders"))
}

// A service is changed over member by member: stock watermill-kafka and the
// drop-in share a group and its partitions meanwhile, and nothing is lost.
func TestDropInSharesAGroupWithStockWatermillKafka(t *testing.T) {
	c := newCluster(t, 4, "orders")
	const total, keys = 3000, 40
	l := newLedger(t)
	c.produce("orders", 0, total/2, keys)
	var byStock, byLanes atomic.Int64
	stock, err := kafka.NewSubscriber(c.config("billing"), watermill.NopLogger{})
	require.NoError(t, err)
	out, err := stock.Subscribe(context.Background(), "orders")
	require.NoError(t, err)
	wait := work(l, out, keys, func(*message.Message) bool { byStock.Add(1); return true })
	await(t, "stock begins", func() bool { return l.count() > 100 })
	stop := c.join("billing", l, keys, func(*message.Message) bool { byLanes.Add(1); return true })
	await(t, "the drop-in takes part", func() bool { c.produce("orders", 0, keys, keys); return byLanes.Load() > 0 })
	require.NoError(t, stock.Close())
	wait.Wait()
	c.produce("orders", total/2, total/2, keys)
	await(t, "all", func() bool { return l.count() == total })
	stop()
	require.Positive(t, byStock.Load())
}

func TestNackingHandlerDoesNotHoldStop(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 50, 10)
	s := newSubscriber(t, c.config("billing"), watermillkafka.LanesConfig{DrainRetry: 100 * time.Millisecond})
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
	s := newSubscriber(t, c.config("billing"), watermillkafka.LanesConfig{})
	ctx, cancel := context.WithCancel(context.Background())
	out, err := s.Subscribe(ctx, "orders")
	require.NoError(t, err)
	a, b := receive(t, out), receive(t, out)
	if number(a) > number(b) {
		a, b = b, a
	}
	cancel()
	time.AfterFunc(100*time.Millisecond, func() { a.Ack() }) // the drain has begun by then, or begins after: both must hold
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
	c.produce("orders", 0, 2, 1)
	s := newSubscriber(t, c.config("billing"), watermillkafka.LanesConfig{Drain: 100 * time.Millisecond})
	out, err := s.Subscribe(context.Background(), "orders")
	require.NoError(t, err)
	m := receive(t, out)
	done := make(chan error, 1)
	go func() { done <- s.Close() }()
	select {
	case <-m.Context().Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the handler was not told to stop")
	}
	require.NoError(t, <-done)
	require.Zero(t, c.committed("billing", "orders"))
}

func TestCloseWithoutReaderEnds(t *testing.T) {
	c := newCluster(t, 2, "orders")
	c.produce("orders", 0, 100, 10)
	s, _ := subscribe(t, c.config("billing"), "orders")
	await(t, "membership", func() bool { return s.Ready(context.Background()) == nil })
	done := make(chan error, 1)
	go func() { done <- s.Close() }()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("Close hangs")
	}
	require.Zero(t, c.committed("billing", "orders"))
}

// A member that the group takes for dead stops its handlers and commits nothing:
// another one may have its partitions (I5).
func TestLostPartitionsAreCancelledAndCommitNothing(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 2, 2)
	s := newSubscriber(t, c.config("billing"), watermillkafka.LanesConfig{Drain: 100 * time.Millisecond})
	out, err := s.Subscribe(context.Background(), "orders")
	require.NoError(t, err)
	a, b := receive(t, out), receive(t, out)
	var refused, commits atomic.Int64
	c.ControlKey(int16(kmsg.Heartbeat), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if refused.Add(1) > 1 {
			return nil, nil, false //nolint:nilnil // kfake: go on as ever
		}
		resp := req.ResponseKind().(*kmsg.HeartbeatResponse)
		resp.ErrorCode = kerr.UnknownMemberID.Code
		return resp, nil, true
	})
	c.ControlKey(int16(kmsg.OffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		commits.Add(1)
		return nil, nil, false //nolint:nilnil // kfake: go on as ever
	})
	for _, m := range []*message.Message{a, b} {
		select {
		case <-m.Context().Done():
		case <-time.After(20 * time.Second):
			t.Fatal("the handler was not told to stop")
		}
	}
	// The member joins again and gets both anew.
	again := map[int]bool{number(receive(t, out)): true, number(receive(t, out)): true}
	require.Equal(t, map[int]bool{0: true, 1: true}, again)
	require.Zero(t, commits.Load())
	require.NoError(t, s.Close())
}

// The last commit of a session is repeated while its coordinator moves.
func TestLastCommitIsTriedUntilItIsStored(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 10, 10)
	config := c.config("billing")
	config.OverwriteSaramaConfig.Consumer.Offsets.AutoCommit.Interval = time.Hour
	s, out := subscribe(t, config, "orders")
	for range 10 {
		receive(t, out).Ack()
	}
	var refused atomic.Int64
	c.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if refused.Add(1) > 3 {
			return nil, nil, false //nolint:nilnil // kfake: go on as ever
		}
		commit, resp := req.(*kmsg.OffsetCommitRequest), req.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, topic := range commit.Topics {
			answer := kmsg.NewOffsetCommitResponseTopic()
			answer.Topic = topic.Topic
			for _, p := range topic.Partitions {
				one := kmsg.NewOffsetCommitResponseTopicPartition()
				one.Partition, one.ErrorCode = p.Partition, kerr.NotCoordinator.Code
				answer.Partitions = append(answer.Partitions, one)
			}
			resp.Topics = append(resp.Topics, answer)
		}
		return resp, nil, true
	})
	require.NoError(t, s.Close())
	require.Equal(t, int64(10), c.committed("billing", "orders"))
	require.Greater(t, refused.Load(), int64(3))
}

// A group that begins at the newest message keeps what it has not finished, also
// when its session ends before anything was.
func TestGroupThatBeginsAtTheNewestMessageLosesNothingAfterwards(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 5, 1) // history, which is skipped
	config := c.config("billing")
	config.OverwriteSaramaConfig.Consumer.Offsets.Initial = sarama.OffsetNewest
	s := newSubscriber(t, config, watermillkafka.LanesConfig{Drain: 100 * time.Millisecond})
	out, err := s.Subscribe(context.Background(), "orders")
	require.NoError(t, err)
	await(t, "membership", func() bool { return s.Ready(context.Background()) == nil })
	c.produce("orders", 5, 2, 2)
	require.GreaterOrEqual(t, number(receive(t, out)), 5) // never answered
	require.NoError(t, s.Close())
	c.produce("orders", 7, 1, 7)

	_, out = subscribe(t, config, "orders")
	seen := map[int]bool{}
	for range 3 {
		m := receive(t, out)
		seen[number(m)] = true
		m.Ack()
	}
	require.Equal(t, map[int]bool{5: true, 6: true, 7: true}, seen)
}

// A connection that breaks is made anew, and the lanes go on.
func TestBrokerThatRestartsIsJoinedAgain(t *testing.T) {
	c := newCluster(t, 2, "orders")
	c.produce("orders", 0, 500, 20)
	l := newLedger(t)
	config := c.config("billing")
	config.ReconnectRetrySleep = 50 * time.Millisecond
	config.OverwriteSaramaConfig.Metadata.Retry.Backoff = 50 * time.Millisecond
	s, out := subscribe(t, config, "orders")
	wait := work(l, out, 20, func(*message.Message) bool { time.Sleep(time.Millisecond); return true })
	await(t, "a part", func() bool { return l.count() > 100 })
	var away atomic.Bool
	away.Store(true)
	for _, key := range []kmsg.Key{kmsg.Heartbeat, kmsg.JoinGroup, kmsg.OffsetCommit, kmsg.FindCoordinator} {
		c.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			if away.Load() {
				return nil, context.DeadlineExceeded, true // hangs up
			}
			return nil, nil, false //nolint:nilnil // kfake: go on as ever
		})
	}
	await(t, "the loss", func() bool { return s.Ready(context.Background()) != nil })
	away.Store(false)
	c.produce("orders", 500, 500, 20)
	await(t, "all", func() bool { return l.count() == 1000 })
	await(t, "commit", func() bool { return c.committed("billing", "orders") == 1000 })
	await(t, "membership", func() bool { return s.Ready(context.Background()) == nil })
	require.NoError(t, s.Close())
	wait.Wait()
}
