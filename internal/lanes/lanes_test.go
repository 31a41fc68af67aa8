package lanes

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var roomy = Limits{
	Running: 100, PartitionRunning: 50, Pending: 1 << 20, PartitionPending: 1 << 20,
	RunAhead: 1 << 20, Bytes: 1 << 40, PartitionBytes: 1 << 40,
}

func entries(keys ...string) []Entry[string] {
	es := make([]Entry[string], len(keys))
	for i, k := range keys {
		es[i] = Entry[string]{Offset: int64(i), Key: []byte(k), Size: 1, Value: fmt.Sprintf("%s%d", k, i)}
	}
	return es
}

func TestHundredThousandKeysSleepWithoutGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const keys = 100_000
		var first, second atomic.Int64
		s := New(Config[string]{Limits: roomy, Work: func(it *Item[string]) Outcome {
			if it.Attempt() == 1 {
				first.Add(1)
				return RetryIn(time.Minute)
			}
			second.Add(1)
			return Finished()
		}})
		p := s.Open(0)
		for i := range keys {
			require.NoError(t, p.Add(Entry[string]{Offset: int64(i), Key: fmt.Appendf(nil, "k%d", i)}))
		}
		synctest.Wait()
		require.Equal(t, int64(keys), first.Load())
		require.Equal(t, keys, s.Stats()[0].Sleeping)
		require.Less(t, runtime.NumGoroutine(), roomy.Running+20)
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		require.Equal(t, int64(keys), second.Load())
		next, ok := p.Watermark()
		require.True(t, ok)
		require.Equal(t, int64(keys), next)
		s.Close()
	})
}

func TestBlockedPartitionDoesNotStopTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := roomy
		limits.Running, limits.PartitionRunning = 8, 8
		release := make(chan struct{})
		var done atomic.Int64
		s := New(Config[string]{Limits: limits, Work: func(it *Item[string]) Outcome {
			if it.Partition().ID() < 3 {
				<-release
			}
			done.Add(1)
			return Finished()
		}})
		parts := make([]*Partition[string], 4)
		for i := range parts {
			parts[i] = s.Open(int32(i))
		}
		for _, p := range parts {
			for i := range 1000 {
				require.NoError(t, p.Add(Entry[string]{Offset: int64(i)}))
			}
		}
		synctest.Wait()
		require.Equal(t, int64(1000), done.Load())
		close(release)
		synctest.Wait()
		require.Equal(t, int64(4000), done.Load())
		s.Close()
	})
}

func TestRetryGivesTheSlotAwayAndKeepsTheLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := roomy
		limits.Running, limits.PartitionRunning = 1, 1
		var order []string
		s := New(Config[string]{Limits: limits, Work: func(it *Item[string]) Outcome {
			order = append(order, it.Value)
			if it.Value == "a0" && it.Attempt() < 3 {
				return RetryIn(time.Second)
			}
			return Finished()
		}})
		p := s.Open(0)
		require.NoError(t, p.Add(entries("a", "a", "b", "b")...))
		synctest.Wait()
		require.Equal(t, []string{"a0", "b2", "b3"}, order)
		next, ok := p.Watermark()
		require.False(t, ok, "%d", next)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		require.Equal(t, []string{"a0", "b2", "b3", "a0", "a0", "a1"}, order)
		next, _ = p.Watermark()
		require.Equal(t, int64(4), next)
		s.Close()
	})
}

func TestDrainingPartitionsGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := roomy
		limits.Running, limits.PartitionRunning = 2, 2
		s := New(Config[string]{Limits: limits, Work: func(*Item[string]) Outcome {
			time.Sleep(time.Second)
			return Finished()
		}})
		p := s.Open(0)
		// x0 and y3 start; x1 and x2 are the gap between them.
		require.NoError(t, p.Add(entries("x", "x", "x", "y", "y")...))
		synctest.Wait()
		for id := range int32(5) { // a crowd that would otherwise have its turns first
			require.NoError(t, s.Open(1+id).Add(entries("", "", "", "")...))
		}
		begin := time.Now()
		require.True(t, p.Drain(context.Background(), time.Minute))
		require.Equal(t, 3*time.Second, time.Since(begin))
		next, _ := p.Watermark()
		require.Equal(t, int64(4), next)
		time.Sleep(time.Minute)
		s.Close()
	})
}

func TestDrainGivesUpOnWhatFailsAndOnlyThat(t *testing.T) {
	for name, delay := range map[string]time.Duration{"fails at once again": 10 * time.Millisecond, "sleeps beyond the patience": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(Config[string]{Limits: roomy, Work: func(it *Item[string]) Outcome {
					if it.Value == "bad1" {
						return RetryIn(delay)
					}
					return Finished()
				}})
				p := s.Open(0)
				require.NoError(t, p.Add(entries("a", "bad", "b", "bad", "c")...))
				synctest.Wait()
				begin := time.Now()
				require.True(t, p.Drain(context.Background(), 2*time.Second))
				if delay == time.Hour {
					require.Zero(t, time.Since(begin))
				} else {
					require.LessOrEqual(t, time.Since(begin), 2*time.Second+delay)
				}
				next, _ := p.Watermark()
				require.Equal(t, int64(1), next)
				p.Close()
				s.Close()
				require.Empty(t, s.sleepers)
			})
		})
	}
}

func TestDrainTriesAgainWhatHasStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config[string]{Limits: roomy, Work: func(it *Item[string]) Outcome {
			if it.Attempt() == 1 {
				return RetryIn(500 * time.Millisecond)
			}
			return Finished()
		}})
		p := s.Open(0)
		require.NoError(t, p.Add(entries("a", "b", "a")...))
		synctest.Wait()
		require.True(t, p.Drain(context.Background(), 2*time.Second))
		next, _ := p.Watermark()
		require.Equal(t, int64(2), next, "a0 and b1 had started, a2 had not")
		s.Close()
	})
}

func TestDrainRecallsWhatNobodyTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, deaf := make(chan string), make(chan string)
		s := New(Config[string]{Limits: roomy, Offers: true, Work: func(it *Item[string]) Outcome {
			to := out
			if it.Value == "a0" {
				to = deaf
			}
			select {
			case to <- it.Value:
				it.Handed()
				return Finished()
			case <-it.Recall():
				return Withdrawn()
			}
		}})
		p := s.Open(0)
		require.NoError(t, p.Add(entries("a", "b")...))
		require.Equal(t, "b1", <-out)
		require.NoError(t, p.Add(Entry[string]{Offset: 2, Value: "c2"}))
		synctest.Wait()
		begin := time.Now()
		require.True(t, p.Drain(context.Background(), 2*time.Second))
		// a0 is below b1: it was offered for as long as retries are; c2 was not.
		require.Equal(t, 2*time.Second, time.Since(begin))
		_, ok := p.Watermark()
		require.False(t, ok)
		s.Close()
	})
}

func TestCancelReachesWhatRunsAndClosingFreesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var canceled, gone atomic.Int64
		s := New(Config[string]{Limits: roomy, Work: func(it *Item[string]) Outcome {
			<-it.Canceled()
			canceled.Add(1)
			if it.Value == "good0" {
				return Finished()
			}
			<-it.Gone()
			gone.Add(1)
			return Finished() // counts no more
		}})
		p := s.Open(0)
		require.NoError(t, p.Add(entries("good", "bad", "bad")...))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		require.False(t, p.Drain(ctx, 100*time.Millisecond))
		p.Cancel()
		ctx, cancel = context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		require.False(t, p.Idle(ctx))
		next, _ := p.Watermark()
		require.Equal(t, int64(1), next)
		p.Close()
		p.Close()
		synctest.Wait()
		require.Equal(t, int64(2), canceled.Load())
		require.Equal(t, int64(1), gone.Load())
		require.NoError(t, p.Add(Entry[string]{Offset: 9}), "taken by nobody")
		require.Empty(t, s.Stats())
		s.Close()
	})
}

func TestPausesAtTheBoundAndResumesAtHalf(t *testing.T) {
	for name, bound := range map[string]func(*Limits){
		"count":     func(l *Limits) { l.PartitionPending = 10 },
		"bytes":     func(l *Limits) { l.PartitionBytes = 10 },
		"run ahead": func(l *Limits) { l.RunAhead = 10 },
	} {
		t.Run(name, func(t *testing.T) {
			limits := roomy
			bound(&limits)
			s := New(Config[string]{Limits: limits})
			s.started = limits.Running // the test is the worker
			p := s.Open(7)
			flow := func() (paused, resumed int) {
				a, b := s.Flow()
				return len(a), len(b)
			}
			var out []*Item[string]
			for i := range 10 {
				a, b := flow()
				require.Zero(t, a+b)
				require.NoError(t, p.Add(Entry[string]{Offset: int64(i), Size: 1}))
				out = append(out, s.step(nil, Outcome{}))
			}
			<-s.Changed()
			a, b := flow()
			require.Equal(t, []int{1, 0}, []int{a, b})
			finish := func(it *Item[string]) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.book(it, Finished())
			}
			for i := range 5 {
				a, b = flow()
				require.Zero(t, a+b, "after %d", i)
				finish(out[i])
			}
			<-s.Changed()
			a, b = flow()
			require.Equal(t, []int{0, 1}, []int{a, b})
			for _, it := range out[5:] {
				finish(it)
			}
			p.Close()
		})
	}
}

func TestFinishedAheadKeepsItsPlaceUntilTheWatermarkPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := roomy
		limits.RunAhead = 100
		stuck := make(chan struct{})
		s := New(Config[string]{Limits: limits, Place: 2, Work: func(it *Item[string]) Outcome {
			if it.Offset() == 0 {
				<-stuck
			}
			return Finished()
		}})
		p := s.Open(0)
		for i := range 100 {
			require.NoError(t, p.Add(Entry[string]{Offset: int64(i), Size: 3}))
		}
		synctest.Wait()
		st := s.Stats()[0]
		require.Equal(t, 1, st.Pending)
		require.Equal(t, 100, st.Held)
		require.Equal(t, int64(3+100*2), st.Bytes)
		require.True(t, st.Paused)
		close(stuck)
		synctest.Wait()
		require.Equal(t, Stats{Watermark: 100, Next: 100}, s.Stats()[0])
		s.Close()
	})
}

func TestLogThatGoesBackIsAnError(t *testing.T) {
	s := New(Config[string]{Limits: roomy, Work: func(*Item[string]) Outcome { return Finished() }})
	p := s.Open(0)
	require.NoError(t, p.Add(Entry[string]{Offset: 5}, Entry[string]{Offset: 9, Skip: true}))
	err := p.Add(Entry[string]{Offset: 10}, Entry[string]{Offset: 3})
	var order *OrderError
	require.ErrorAs(t, err, &order)
	require.Equal(t, OrderError{Offset: 3, Next: 11}, *order)
	require.EqualError(t, err, "offset 3 added where 11 or above was due: close the partition and open it anew")
	s.Close()
}

// Real workers and a real clock, for the race detector.
func TestOrderUnderManyWorkers(t *testing.T) {
	const total, keys = 20_000, 97
	var mu sync.Mutex
	last := map[string]int64{}
	var finished sync.WaitGroup
	s := New(Config[string]{Limits: roomy, Work: func(it *Item[string]) Outcome {
		if (it.Offset()+int64(it.Attempt()))%13 == 0 {
			return RetryIn(time.Duration(it.Offset()%3) * 100 * time.Microsecond)
		}
		mu.Lock()
		key := fmt.Sprintf("%d/%s", it.Partition().ID(), it.Value)
		if last[key] > it.Offset() {
			t.Errorf("key %s: %d after %d", key, it.Offset(), last[key])
		}
		last[key] = it.Offset()
		mu.Unlock()
		finished.Done()
		return Finished()
	}})
	parts := []*Partition[string]{s.Open(0), s.Open(1), s.Open(2)}
	finished.Add(total * len(parts))
	for i := range total {
		for _, p := range parts {
			key := fmt.Sprintf("k%d", i%keys)
			if err := p.Add(Entry[string]{Offset: int64(i), Key: []byte(key), Value: key, Size: 10}); err != nil {
				t.Fatal(err)
			}
		}
	}
	finished.Wait()
	for _, p := range parts {
		require.True(t, p.Drain(context.Background(), time.Second))
		next, _ := p.Watermark()
		require.Equal(t, int64(total), next)
	}
	s.Close()
}
