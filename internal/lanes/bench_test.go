package lanes

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
)

var benchLimits = Limits{
	Running: 1000, PartitionRunning: 1000, Pending: 1 << 30, PartitionPending: 1 << 30,
	RunAhead: 1 << 30, Bytes: 1 << 50, PartitionBytes: 1 << 50,
}

// BenchmarkItem is one message through the core: added, taken, finished; no
// workers.
func BenchmarkItem(b *testing.B) {
	for _, keys := range []int{1, 1000, 100_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			s := New(Config[int]{Limits: benchLimits})
			s.started = benchLimits.Running
			p := s.Open(0)
			names := make([][]byte, keys)
			for i := range names {
				names[i] = []byte("order-" + strconv.Itoa(i))
			}
			entries := make([]Entry[int], 500)
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += len(entries) {
				for i := range entries {
					entries[i] = Entry[int]{Offset: int64(n + i), Key: names[(n+i)*7919%keys], Size: 300}
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

// BenchmarkWorkers is the same with real workers and handlers that do nothing.
func BenchmarkWorkers(b *testing.B) {
	var wait sync.WaitGroup
	limits := benchLimits
	limits.PartitionPending, limits.Pending = 10_000, 10_000
	s := New(Config[int]{Limits: limits, Work: func(*Item[int]) Outcome {
		wait.Done()
		return Finished()
	}})
	p := s.Open(0)
	names := make([][]byte, 1000)
	for i := range names {
		names[i] = []byte("order-" + strconv.Itoa(i))
	}
	entries := make([]Entry[int], 500)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += len(entries) {
		for i := range entries {
			entries[i] = Entry[int]{Offset: int64(n + i), Key: names[(n+i)*7919%1000], Size: 300}
		}
		wait.Add(len(entries))
		if err := p.Add(entries...); err != nil {
			b.Fatal(err)
		}
		if n%10_000 == 0 {
			wait.Wait()
		}
	}
	wait.Wait()
	p.Close()
	s.Close()
}
