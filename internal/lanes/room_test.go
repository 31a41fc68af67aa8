package lanes

import (
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestSharedRoomIsHeldUntilTheLastOfItsMessagesIsFinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := []chan struct{}{make(chan struct{}), make(chan struct{}), make(chan struct{})}
		s := New(Config[string]{Limits: roomy, Work: func(it *Item[string]) Outcome {
			<-release[it.Offset()]
			return Finished()
		}})
		p := s.Open(0)
		room := &Room{Bytes: 1000}
		for i := range 3 {
			require.NoError(t, p.Add(Entry[string]{Offset: int64(i), Size: 10, Room: room}))
		}
		bytes := func() int64 { synctest.Wait(); return s.Stats()[0].Bytes }
		require.Equal(t, int64(1030), bytes())
		close(release[2])
		require.Equal(t, int64(1020), bytes())
		close(release[0])
		require.Equal(t, int64(1010), bytes())
		close(release[1])
		require.Zero(t, bytes())
		s.Close()
	})
}

// Nine messages of ten belong to one key, which stands: the others are read, and
// finished, as far as RunAhead lets them (I8 by RunAhead and bytes).
func TestHotKeyDoesNotKeepOthersFromBeingRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := roomy
		limits.PartitionPending, limits.RunAhead = 100, 5000
		stuck := make(chan struct{})
		var others atomic.Int64
		limits.PartitionRunning = 2
		s := New(Config[string]{Limits: limits, Work: func(it *Item[string]) Outcome {
			if it.Value == "hot" {
				<-stuck
			} else {
				others.Add(1)
			}
			return Finished()
		}})
		p := s.Open(0)
		added := 0
		for added < 10_000 && !s.Stats()[0].Paused {
			e := Entry[string]{Offset: int64(added), Key: []byte("hot"), Value: "hot"}
			if added%10 == 9 {
				e.Key, e.Value = nil, "other"
			}
			require.NoError(t, p.Add(e))
			synctest.Wait()
			added++
		}
		require.Equal(t, 5000, added)
		require.Equal(t, int64(500), others.Load())
		close(stuck)
		synctest.Wait()
		require.Equal(t, Stats{Watermark: 5000, Next: 5000}, s.Stats()[0])
		s.Close()
	})
}
