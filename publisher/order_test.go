package publisher

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidings-bus/tidings/event"
)

// I2: for one key, a later event is never acknowledged unless every earlier one
// was; an event refused for good takes the calls queued behind it down.
//
// Records are put into the queues by the test itself, one at a time, so that it
// knows which is earlier also between callers. Meanwhile the broker refuses,
// stutters, loses answers after it appended and before, and callers give up.
func TestI2NoLaterEventIsAcknowledgedBeforeAnEarlierOne(t *testing.T) {
	var on atomic.Bool
	dice := rand.New(rand.NewPCG(1, 2))
	var mu sync.Mutex
	roll := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return dice.IntN(n)
	}
	c := cluster(t, kfake.NumBrokers(2), losing(&on, func() bool { return roll(12) == 0 }))
	config := to(c)
	config.MaxBatchEvents = 40
	p := start(t, config)
	ctx := within(t, 60*time.Second)
	tp := p.topic("order")
	l, err := tp.ready(ctx)
	require.NoError(t, err)

	faults := []*kerr.Error{
		kerr.NotLeaderForPartition, kerr.RequestTimedOut, kerr.NotEnoughReplicasAfterAppend, kerr.NotEnoughReplicas,
		kerr.MessageTooLarge, kerr.TopicAuthorizationFailed, kerr.InvalidRecord, kerr.PolicyViolation, kerr.UnknownServerError,
	}
	for _, f := range faults {
		c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "order", Err: f, Count: -1, When: func(kmsg.Request) bool { return roll(50) == 0 }})
	}
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if roll(40) == 0 {
			return nil, assert.AnError, true // dropped before it was appended
		}
		return asUsual()
	})
	on.Store(true)

	type sent struct {
		call  *call
		index int
		value string
		open  []int // earlier ones of its key that had not failed when it was queued
	}
	failed := func(s sent) *failure {
		s.call.mu.Lock()
		defer s.call.mu.Unlock()
		for i := range s.call.failed {
			if s.call.failed[i].index == s.index {
				return &s.call.failed[i]
			}
		}
		return nil
	}
	const keys, callers, each = 8, 16, 60
	var queue sync.Mutex
	queued := make(map[string][]sent) // by key, in the queue's order
	together(callers, func(caller int) {
		for i := range each {
			n := 1 + roll(4)
			cl := newCall(n)
			touched := make(map[*partition]bool)
			for j := range n {
				key := fmt.Sprintf("k%d", roll(keys))
				value := fmt.Sprintf("%d-%d-%d", caller, i, j)
				r := bodied(ctx, t, p, cl, j, event.KafkaRecord{Key: []byte(key), Value: []byte(value)})
				q := l.choose(tp, r.key, 1)
				touched[q] = true
				queue.Lock()
				now := sent{call: cl, index: j, value: value}
				assert.True(t, q.add(cl, r, r))
				for at, earlier := range queued[key] {
					if failed(earlier) == nil {
						now.open = append(now.open, at)
					}
				}
				queued[key] = append(queued[key], now)
				queue.Unlock()
			}
			if roll(10) == 0 { // this caller does not wait
				gone, cancel := context.WithCancel(ctx)
				cancel()
				for q := range touched {
					q.withdraw(cl, gone)
				}
			}
			<-cl.done
		}
	})
	on.Store(false)
	eventually(t, "what callers left behind is done", func() bool { return buffered(p) == 0 })

	records := log(t, c, "order")
	acknowledged, refused, doubted, total := 0, 0, 0, 0
	for key, order := range queued {
		inLog := valuesOf(records, key)
		place := make(map[string]int, len(inLog))
		for i, v := range inLog {
			place[v] = i
		}
		last := -1
		for _, s := range order {
			total++
			at, there := place[s.value]
			f := failed(s)
			switch {
			case f == nil:
				acknowledged++
				require.True(t, there, "%s of %s was acknowledged and is not in the log", s.value, key)
				require.Greater(t, at, last, "%s of %s was acknowledged and is before an earlier one", s.value, key)
				last = at
				for _, i := range s.open {
					f := failed(order[i])
					if f == nil {
						continue
					}
					// Its caller may have left while it was in flight, and then
					// it was acknowledged.
					before, there := place[order[i].value]
					require.True(t, f.inDoubt && there && before < at, "%s of %s was acknowledged, %s queued before it was not: %v", s.value, key, order[i].value, f.err)
				}
			case f.inDoubt:
				doubted++
			default:
				refused++
				require.False(t, there, "%s of %s failed without doubt (%v) and is in the log", s.value, key, f.err)
			}
		}
	}
	t.Logf("%d events: %d acknowledged, %d failed, %d in doubt, %d records in the log", total, acknowledged, refused, doubted, len(records))
	require.Positive(t, acknowledged)
	require.Positive(t, refused)
	require.Positive(t, doubted)
}

// queueUp publishes one event of each call while the broker holds the first,
// and returns the calls' outcomes in that order.
type waiting struct {
	cancel context.CancelFunc
	done   chan error
}

func queueUp(t *testing.T, p *Publisher, calls ...[]event.Event) []waiting {
	t.Helper()
	var ws []waiting
	n, _ := held(p)
	for _, events := range calls {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		t.Cleanup(cancel)
		w := waiting{cancel, make(chan error, 1)}
		go func() { w.done <- p.Publish(ctx, events...) }()
		n += len(events)
		eventually(t, "the call is in the queue", func() bool {
			there, inFlight := held(p)
			return there == n && inFlight
		})
		ws = append(ws, w)
	}
	return ws
}

// held counts the records in the queues and in batches, and says whether a batch
// is in flight.
func held(p *Publisher) (n int, inFlight bool) {
	p.topicsMu.RLock()
	defer p.topicsMu.RUnlock()
	for _, tp := range p.topics {
		for _, q := range tp.now.Load().partitions {
			q.mu.Lock()
			n += len(q.batch)
			for r := q.head; r != nil; r = r.next {
				n++
			}
			inFlight = inFlight || q.inFlight
			q.mu.Unlock()
		}
	}
	return n, inFlight
}

func TestI2ARefusedEventTakesDownWhatIsQueuedBehindItsKeyOnly(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "one"))
	config := to(c)
	config.TopicFor = func(event.Event) string { return "one" }
	p := start(t, config)
	require.NoError(t, p.Publish(within(t, 5*time.Second), ev(t, "a", "a0")))
	release := hold(c)
	ws := queueUp(t, p,
		[]event.Event{ev(t, "a", "a1")}, // in flight
		[]event.Event{ev(t, "a", "a2"), ev(t, "b", "b1"), ev(t, "a", "a3")},
		[]event.Event{ev(t, "b", "b2")},
		[]event.Event{ev(t, "a", "a4"), ev(t, "b", "b3")},
	)
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "one", Err: kerr.TopicAuthorizationFailed})
	release()

	require.ErrorIs(t, <-ws[0].done, ErrNotAuthorized)
	second := failures(t, <-ws[1].done)
	require.Len(t, second.Failed, 2)
	for _, f := range second.Failed {
		require.ErrorIs(t, f.Err, ErrHeldBack)
		require.NotErrorIs(t, f.Err, ErrNotAuthorized, "it was not refused itself")
		require.False(t, f.InDoubt)
	}
	assert.Equal(t, []int{0, 2}, []int{second.Failed[0].Index, second.Failed[1].Index})
	require.NoError(t, <-ws[2].done)
	fourth := failures(t, <-ws[3].done)
	require.Len(t, fourth.Failed, 1)
	assert.Equal(t, "a", fourth.Failed[0].Event.Aggregate().ID)

	require.NoError(t, p.Publish(within(t, 5*time.Second), ev(t, "a", "a5")), "later calls proceed")
	records := log(t, c, "one")
	assert.Equal(t, []string{"a0", "a5"}, valuesOf(records, "a"))
	assert.Equal(t, []string{"b1", "b2", "b3"}, valuesOf(records, "b"))
}

func TestI2AWithdrawnEventTakesDownWhatIsQueuedBehindIt(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "one"))
	config := to(c)
	config.TopicFor = func(event.Event) string { return "one" }
	p := start(t, config)
	require.NoError(t, p.Publish(within(t, 5*time.Second), ev(t, "a", "a0")))
	release := hold(c)
	ws := queueUp(t, p,
		[]event.Event{ev(t, "x", "in flight")},
		[]event.Event{ev(t, "a", "a1")},
		[]event.Event{ev(t, "a", "a2"), ev(t, "b", "b1")},
	)
	ws[1].cancel()
	first := failures(t, <-ws[1].done)
	require.ErrorIs(t, first, context.Canceled)
	assert.False(t, first.Failed[0].InDoubt, "it was never sent")
	later := queueUp(t, p, []event.Event{ev(t, "a", "a3")})
	release()
	second := failures(t, <-ws[2].done)
	require.Len(t, second.Failed, 1)
	require.ErrorIs(t, second, ErrHeldBack)
	require.NoError(t, <-ws[0].done)
	require.NoError(t, <-later[0].done, "a call made after the withdrawal proceeds")
	records := log(t, c, "one")
	assert.Equal(t, []string{"a0", "a3"}, valuesOf(records, "a"))
	assert.Equal(t, []string{"b1"}, valuesOf(records, "b"))
}

func TestI2WhatIsBehindAnEventLeftInFlightWaitsForItsOutcome(t *testing.T) {
	for name, c := range map[string]struct {
		fault *kerr.Error
		want  []string // values of key a in the log
		held  bool     // what is behind fails
	}{
		"acknowledged":                 {nil, []string{"a0", "a1", "a2", "a3"}, false},
		"failed, may pass":             {kerr.NotEnoughReplicas, []string{"a0", "a4"}, true},
		"failed after it was appended": {kerr.RequestTimedOut, []string{"a0", "a1", "a4"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			k := cluster(t, kfake.SeedTopics(1, "one"))
			config := to(k)
			config.TopicFor = func(event.Event) string { return "one" }
			p := start(t, config)
			require.NoError(t, p.Publish(within(t, 5*time.Second), ev(t, "a", "a0"), ev(t, "c", "c0")))
			release := hold(k)
			ws := queueUp(t, p,
				[]event.Event{ev(t, "a", "a1"), ev(t, "c", "c1")},
				[]event.Event{ev(t, "a", "a2"), ev(t, "b", "b1")},
			)
			ws[0].cancel()
			left := failures(t, <-ws[0].done)
			require.ErrorIs(t, left, context.Canceled)
			require.True(t, left.Failed[0].InDoubt, "it was in flight")
			require.ErrorContains(t, left, "may be in the log")
			later := queueUp(t, p, []event.Event{ev(t, "a", "a3")}, []event.Event{ev(t, "c", "c2")})
			if c.fault != nil {
				k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "one", Err: c.fault})
			}
			release()
			behind, behindThat := <-ws[1].done, <-later[0].done
			if c.held {
				require.ErrorIs(t, behind, ErrHeldBack)
				require.Len(t, failures(t, behind).Failed, 1)
				require.ErrorIs(t, behindThat, ErrHeldBack, "it stands behind one that is held back")
				require.NoError(t, p.Publish(within(t, 5*time.Second), ev(t, "a", "a4")))
			} else {
				require.NoError(t, behind)
				require.NoError(t, behindThat)
			}
			require.NoError(t, <-later[1].done, "only one who knew of the failure stands behind it")
			records := log(t, k, "one")
			assert.Equal(t, c.want, valuesOf(records, "a"))
			assert.Contains(t, valuesOf(records, "c"), "c2")
		})
	}
}

// I2: a caller that leaves at the moment of the answer learns of an acknowledged
// event, or that it is in doubt; never that it is not in the log.
func TestI2AnAnswerSettlesItsEventsBeforeTheirCallerCanLeave(t *testing.T) {
	for name, alone := range map[string]bool{"in a shared request": false, "sent again alone": true} {
		t.Run(name, func(t *testing.T) {
			c := cluster(t, kfake.SeedTopics(1, "one"))
			config := to(c)
			config.TopicFor = func(event.Event) string { return "one" }
			p := start(t, config)
			ctx := within(t, 10*time.Second)
			require.NoError(t, p.Publish(ctx, ev(t, "a", "0")))
			q := p.topic("one").now.Load().partitions[0]
			cl := newCall(1)
			r := bodied(ctx, t, p, cl, 0, recordOf(ev(t, "a", "1")))
			q.mu.Lock() // as add does, but that the test sends
			q.busy = true
			q.seq++
			r.seq, q.head, q.tail = q.seq, r, r
			q.mu.Unlock()
			require.True(t, q.load())
			var a answer
			if alone {
				a = q.attempt()
			} else {
				req := newRequest(p)
				req.add(q)
				req.send(q.leader.Load().address)
				a = req.answers[0]
			}
			require.Equal(t, acked, a.verdict)
			q.end(a)
			gone, cancel := context.WithCancel(ctx)
			cancel()
			q.withdraw(cl, gone)
			q.next()
			<-cl.done
			for _, f := range cl.failed {
				assert.True(t, f.inDoubt, "it is in the log")
			}
			assert.Equal(t, []string{"0", "1"}, valuesOf(log(t, c, "one"), "a"))
		})
	}
}

func TestI2HoldsForConcurrentCallersThroughLostAnswers(t *testing.T) {
	var on atomic.Bool
	var n atomic.Int64
	c := cluster(t, losing(&on, func() bool { return n.Add(1)%9 == 0 }))
	p := start(t, to(c))
	ctx := within(t, 60*time.Second)
	require.NoError(t, p.Publish(ctx, ev(t, "warm", "up")))
	on.Store(true)
	const callers, calls = 12, 40
	together(callers, func(caller int) {
		for i := range calls {
			// Each caller has a key of its own, and shares one with all.
			err := p.Publish(ctx, ev(t, fmt.Sprintf("own-%d", caller), text(2*i)), ev(t, "shared", fmt.Sprintf("%d-%04d", caller, i)),
				ev(t, fmt.Sprintf("own-%d", caller), text(2*i+1)))
			assert.NoError(t, err)
		}
	})
	on.Store(false)
	records := log(t, c, "order")
	for caller := range callers {
		values := valuesOf(records, fmt.Sprintf("own-%d", caller))
		assert.Len(t, values, 2*calls)
		assert.True(t, slices.IsSorted(values))
		var mine []string
		for _, v := range valuesOf(records, "shared") {
			if v[:len(v)-5] == strconv.Itoa(caller) {
				mine = append(mine, v)
			}
		}
		assert.Len(t, mine, calls)
		assert.True(t, slices.IsSorted(mine))
	}
	assert.Greater(t, len(records), callers*calls*3, "lost answers make duplicates, which consumers tell by ID")
}
