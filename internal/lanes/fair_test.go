package lanes

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// player runs a Set by hand: it starts and finishes messages in turn, and counts
// by tenant.
type player struct {
	t       *testing.T
	s       *Set[string]
	offsets map[*Partition[string]]int64
	out     []*Item[string]
	started []string // tenants, in the order in which their messages started
}

func newPlayer(t *testing.T, limits Limits, f *Fairness) *player {
	s := New(Config[string]{Limits: limits, Fair: f})
	s.started = limits.Running // the test is the workers
	return &player{t: t, s: s, offsets: map[*Partition[string]]int64{}}
}

// add adds n messages of a tenant, each with a key of its own.
func (y *player) add(p *Partition[string], tenant string, n int) {
	for range n {
		o := y.offsets[p]
		y.offsets[p]++
		require.NoError(y.t, p.Add(Entry[string]{Offset: o, Key: fmt.Appendf(nil, "%s%d", tenant, o), Tenant: tenant, Value: tenant}))
	}
}

// start starts what may be started.
func (y *player) start() {
	y.s.mu.Lock()
	defer y.s.mu.Unlock()
	for p := y.s.pick(); p != nil; p = y.s.pick() {
		it := y.s.take(p)
		y.out = append(y.out, it)
		y.started = append(y.started, it.Value)
	}
}

// finish finishes the oldest running message.
func (y *player) finish() {
	it := y.out[0]
	y.out = y.out[1:]
	y.s.mu.Lock()
	y.s.book(it, Finished())
	y.s.mu.Unlock()
}

func (y *player) play(steps int) map[string]int {
	y.started = nil
	for range steps {
		y.start()
		if len(y.out) == 0 {
			break
		}
		y.finish()
	}
	return count(y.started)
}

func count(names []string) map[string]int {
	n := map[string]int{}
	for _, name := range names {
		n[name]++
	}
	return n
}

func (y *player) close() {
	for p := range y.offsets {
		p.Close()
	}
	y.s.Close()
}

// A tenant that floods takes its share: the others start as often as it does.
func TestTenantsShareSlotsByWeight(t *testing.T) {
	limits := roomy
	limits.Running, limits.PartitionRunning = 8, 8
	y := newPlayer(t, limits, &Fairness{Weights: map[string]int{"gold": 3}})
	p := y.s.Open(0)
	y.add(p, "flood", 10_000)
	y.add(p, "small", 400)
	y.add(p, "gold", 1200)
	got := y.play(1000)
	require.InDelta(t, 200, got["flood"], 6)
	require.InDelta(t, 200, got["small"], 6)
	require.InDelta(t, 600, got["gold"], 6)
	y.close()
}

// What a tenant waits is counted in messages of others: at most one of each
// while it has a slot to go on in, however long their queues are.
func TestATenantsMessageWaitsForAHandfulOfAFlood(t *testing.T) {
	limits := roomy
	limits.Running, limits.PartitionRunning = 8, 8
	y := newPlayer(t, limits, &Fairness{})
	p := y.s.Open(0)
	y.add(p, "flood", 50_000)
	y.play(100)
	for range 200 {
		y.add(p, "small", 1)
		before := len(y.started)
		for count(y.started[before:])["small"] == 0 {
			y.start()
			if count(y.started[before:])["small"] == 0 {
				y.finish()
			}
			require.Less(t, len(y.started)-before, 4, "the flood goes first")
		}
		y.play(7)
		y.started = nil
	}
	y.close()
}

// The flood has five partitions of six, the other tenant one: they have half each.
func TestTenantsShareSlotsAcrossPartitions(t *testing.T) {
	limits := roomy
	limits.Running, limits.PartitionRunning = 24, 24
	y := newPlayer(t, limits, &Fairness{})
	for i := range 6 {
		p := y.s.Open(int32(i))
		if i == 5 {
			y.add(p, "small", 2000)
		} else {
			y.add(p, "flood", 2000)
		}
	}
	got := y.play(2000)
	require.InDelta(t, 1000, got["small"], 20)
	y.close()
}

// A tenant whose handlers hang leaves room for the others, in its partition and
// in all.
func TestATenantThatHangsLeavesSlotsToTheOthers(t *testing.T) {
	for _, partitions := range []int{1, 4} {
		limits := roomy
		limits.Running, limits.PartitionRunning = 16, 16
		y := newPlayer(t, limits, &Fairness{})
		for i := range partitions {
			y.add(y.s.Open(int32(i)), "hangs", 1000)
		}
		y.start()
		require.Len(t, y.out, 12, "three quarters of the slots, over all partitions")
		hung := y.out
		y.out = nil
		for p := range y.offsets {
			y.add(p, "small", 300)
		}
		require.Equal(t, map[string]int{"small": 300 * partitions}, y.play(300*partitions+1))
		y.out = hung
		require.Equal(t, 1000*partitions, y.play(2000 * partitions)["hangs"]+len(hung), "and has them again")
		y.close()
	}
}

// A tenant that was away has its share from now on, no more.
func TestATenantDoesNotCatchUp(t *testing.T) {
	limits := roomy
	limits.Running, limits.PartitionRunning = 4, 4
	y := newPlayer(t, limits, &Fairness{})
	p := y.s.Open(0)
	y.add(p, "busy", 5000)
	y.play(2000)
	y.add(p, "late", 1000)
	require.InDelta(t, 100, y.play(200)["late"], 4)
	y.close()
}

// The flood's messages, which stand, do not hide the others: what comes behind
// them is read within RunAhead.
func TestFloodOfATenantDoesNotKeepOthersFromBeingRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := roomy
		limits.Running, limits.PartitionRunning = 8, 8
		limits.PartitionPending, limits.RunAhead = 100, 5000
		stuck := make(chan struct{})
		var others atomic.Int64
		s := New(Config[string]{Limits: limits, Fair: &Fairness{}, Work: func(it *Item[string]) Outcome {
			if it.Value == "flood" {
				<-stuck
			} else {
				others.Add(1)
			}
			return Finished()
		}})
		p := s.Open(0)
		added := 0
		for !s.Stats()[0].Paused {
			e := Entry[string]{Offset: int64(added), Tenant: "flood", Value: "flood"}
			if added%10 == 9 {
				e.Tenant, e.Value = "small", "small"
			}
			require.NoError(t, p.Add(e))
			synctest.Wait()
			added++
		}
		require.Equal(t, 5000, added)
		require.Equal(t, int64(500), others.Load())
		close(stuck)
		synctest.Wait()
		s.Close()
	})
}

// Sleeping, pausing and draining find all tenants' messages again.
func TestTenantsAreDrainedAlike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := roomy
		limits.Running, limits.PartitionRunning = 4, 4
		var done atomic.Int64
		s := New(Config[string]{Limits: limits, Fair: &Fairness{}, Work: func(it *Item[string]) Outcome {
			time.Sleep(10 * time.Millisecond)
			if it.Value == "b" && it.Attempt() == 1 {
				return RetryIn(50 * time.Millisecond)
			}
			done.Add(1)
			return Finished()
		}})
		p := s.Open(0)
		for i := range 40 {
			tenant := string(rune('a' + i%4))
			require.NoError(t, p.Add(Entry[string]{Offset: int64(i), Tenant: tenant, Value: tenant}))
		}
		time.Sleep(55 * time.Millisecond)
		require.True(t, p.Drain(t.Context(), time.Second))
		next, ok := p.Watermark()
		require.True(t, ok)
		require.Equal(t, done.Load(), next, "all below the highest that had started, nothing above it")
		s.Close()
	})
}

func BenchmarkTenants(b *testing.B) {
	for _, tenants := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("tenants=%d", tenants), func(b *testing.B) {
			s := New(Config[int]{Limits: benchLimits, Fair: &Fairness{}})
			s.started = benchLimits.Running
			p := s.Open(0)
			names := make([]string, tenants)
			for i := range names {
				names[i] = fmt.Sprintf("t%d", i)
			}
			entries := make([]Entry[int], 500)
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += len(entries) {
				for i := range entries {
					entries[i] = Entry[int]{Offset: int64(n + i), Tenant: names[(n+i)*7919%tenants], Size: 300}
				}
				if err := p.Add(entries...); err != nil {
					b.Fatal(err)
				}
				it := s.step(nil, Outcome{})
				for i := range entries {
					s.mu.Lock()
					s.book(it, Finished())
					if i < len(entries)-1 {
						it = s.take(s.pick())
					}
					s.mu.Unlock()
				}
			}
		})
	}
}
