package kafkastore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// effects are what a handler of all members did.
type effects struct {
	t *testing.T

	mu      sync.Mutex
	by      map[string][]int // key -> numbers, in order
	running map[string]bool
	poison  func(key string, n int) bool
	count   int
	parks   atomic.Int64
	seen    atomic.Int64 // read to their end: applied or parked
}

var errPoison = errors.New("poison")

func (e *effects) handle(key string, n int) error {
	e.mu.Lock()
	if e.running[key] {
		e.t.Errorf("I3: two events of key %s at once", key)
	}
	e.running[key] = true
	bad := e.poison(key, n)
	e.mu.Unlock()
	time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running[key] = false
	if bad {
		return errPoison
	}
	e.by[key] = append(e.by[key], n)
	e.count++
	return nil
}

func (e *effects) mend() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.poison = func(string, int) bool { return false }
}

func (e *effects) done() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.count
}

// exact demands each of n events of each key once, in order.
func (e *effects) exact(keys, n int) {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	var want []int
	for i := range n {
		want = append(want, i)
	}
	for k := range keys {
		require.Equal(e.t, want, e.by[name(k)], "key %s: lost, doubled or out of order", name(k))
	}
}

// process is a member that a kill -9 ends: it reads one event at a time, and its
// offsets are committed one by one.
type process struct {
	t      *testing.T
	store  *member
	client *kgo.Client
	sight  *effects
	stop   context.CancelFunc
	ended  chan struct{}
	die    chan struct{} // closed: vanish after the next park, before its commit
}

func newProcess(t *testing.T, c *kfake.Cluster, e *effects, id string) *process {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.Balancers(kgo.CooperativeStickyBalancer()), kgo.HeartbeatInterval(20*time.Millisecond))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{t: t, store: newMember(t, c), client: client, sight: e, stop: cancel, ended: make(chan struct{}), die: make(chan struct{})}
	runner, err := deadletter.NewRunner(deadletter.Config{
		Store: p.store.Letters(), Group: group, Member: id, Handlers: map[string]deadletter.Retrier{charge: p},
		Poll: 20 * time.Millisecond, Lease: time.Second, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	retries := make(chan error, 1)
	go func() { retries <- runner.Run(ctx) }()
	go func() {
		defer close(p.ended)
		p.read(ctx)
		client.CloseAllowingRebalance()
		cancel()
		if err := <-retries; err != nil {
			t.Error(err)
		}
		p.store.stop()
	}()
	t.Cleanup(func() { cancel(); <-p.ended })
	return p
}

func (p *process) read(ctx context.Context) {
	for {
		fetches := p.client.PollRecords(ctx, 20)
		if ctx.Err() != nil {
			return
		}
		for r := range fetches.RecordsAll() {
			parked, err := p.one(ctx, r)
			if err != nil {
				p.t.Errorf("%v", err)
				return
			}
			p.sight.seen.Add(1)
			if parked {
				p.sight.parks.Add(1)
			}
			select {
			case <-p.die:
				if parked {
					return
				}
			default:
			}
			if err := p.client.CommitRecords(context.WithoutCancel(ctx), r); err != nil {
				p.t.Errorf("commit: %v", err)
			}
		}
		p.client.AllowRebalance()
	}
}

// one is what a plain handler that is bound does with an event.
func (p *process) one(ctx context.Context, r *kgo.Record) (parked bool, err error) {
	n, _ := strconv.Atoi(string(r.Value))
	a := inbox.Admission{
		Handler: handler, Place: inbox.Place{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Key: r.Key}, Type: "order.placed",
		EventID: uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, string(r.Key), n)), Attempt: 1,
		Message: &inbox.Message{Record: event.KafkaRecord{Key: r.Key, Value: r.Value}, Time: r.Timestamp},
	}
	ctx = context.WithoutCancel(ctx)
	for {
		answer, err := p.store.Look(ctx, a)
		if err != nil {
			return false, err
		}
		f := behind
		if answer == inbox.Fresh {
			if p.sight.handle(string(r.Key), n) == nil {
				return false, nil
			}
			f = failed("poison")
		}
		if answer != inbox.Duplicate {
			answer, err = p.store.Park(ctx, a, f)
		}
		if err != nil || answer != inbox.Fresh { // Fresh: drained meanwhile
			return answer == inbox.Parked, err
		}
	}
}

// Retry implements deadletter.Retrier.
func (p *process) Retry(ctx context.Context, l deadletter.Letter) deadletter.Outcome {
	a := retry(&l)
	switch answer, err := p.store.Look(ctx, a); {
	case err != nil:
		return deadletter.Outcome{Verdict: deadletter.NotTried, Err: err}
	case answer == inbox.Gone:
		return deadletter.Outcome{Verdict: deadletter.Passed}
	}
	n, _ := strconv.Atoi(string(l.Record.Value))
	if err := p.sight.handle(string(l.Place.Key), n); err != nil {
		if _, err := p.store.Park(ctx, a, failed("poison")); err != nil {
			return deadletter.Outcome{Verdict: deadletter.NotTried, Err: err}
		}
		return deadletter.Outcome{Verdict: deadletter.Failed, Err: err}
	}
	if err := p.store.Record(context.WithoutCancel(ctx), a); err != nil {
		p.t.Errorf("record: %v", err)
	}
	return deadletter.Outcome{Verdict: deadletter.Applied}
}

// Check implements deadletter.Retrier.
func (p *process) Check(deadletter.Letter, deadletter.Edited) error { return nil }

// Members come, go and are killed between a park and its commit, while keys
// fail, are asked for again and are mended: every event of every key has its
// effect once and in order.
func TestI3I6MembersThatAreKilledBetweenParkAndCommit(t *testing.T) {
	const keys, each = 60, 14
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(6, topic), kfake.GroupMinSessionTimeout(time.Second))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	e := &effects{t: t, by: map[string][]int{}, running: map[string]bool{}, poison: func(key string, n int) bool { return len(key)%2 == 0 && n%5 == 2 }}
	writer, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	require.NoError(t, err)
	t.Cleanup(writer.Close)

	members := []*process{newProcess(t, c, e, "m0")}
	ask := func() {
		_, err := members[len(members)-1].store.Letters().Ask(t.Context(), deadletter.Request{Group: group, Kind: deadletter.RequestRetry}, ann)
		if err != nil && !errors.Is(err, deadletter.ErrNotFound) && !errors.Is(err, deadletter.ErrBusy) {
			t.Error(err)
		}
	}
	for i := range each {
		for k := range keys {
			writer.Produce(t.Context(), &kgo.Record{Topic: topic, Key: []byte(name(k)), Value: []byte(strconv.Itoa(i))}, nil)
		}
		require.NoError(t, writer.Flush(t.Context()))
		switch i % 6 {
		case 1:
			members = append(members, newProcess(t, c, e, fmt.Sprintf("m%d", i)))
		case 3:
			ask()
		case 4:
			m := members[0]
			members = append(members[1:], newProcess(t, c, e, fmt.Sprintf("m%d", i)))
			close(m.die)
		}
		require.Eventually(t, func() bool { return e.seen.Load() >= int64(i*keys/2) }, 30*time.Second, time.Millisecond)
	}
	e.mend()
	deadline := time.Now().Add(40 * time.Second)
	for e.done() < keys*each && time.Now().Before(deadline) {
		ask()
		time.Sleep(50 * time.Millisecond)
	}
	e.exact(keys, each)
	last := newMember(t, c)
	require.Eventually(t, func() bool { return len(last.parked()) == 0 }, 5*time.Second, 10*time.Millisecond)
	require.Greater(t, e.parks.Load(), int64(keys/3), "events were parked")
}
