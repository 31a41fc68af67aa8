package lanes

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPauseRecallsOffersAndLetsHandlersFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		taken, release := make(chan string), make(chan struct{})
		var recalled atomic.Int64
		s := New(Config[string]{Limits: roomy, Offers: true, Work: func(it *Item[string]) Outcome {
			select {
			case taken <- it.Value:
				it.Handed()
			case <-it.Recall():
				recalled.Add(1)
				return Withdrawn()
			}
			<-release
			return Finished()
		}})
		p := s.Open(0)
		require.NoError(t, p.Add(entries("a", "b", "a", "c")...))
		require.Equal(t, "a0", <-taken)
		synctest.Wait()
		s.Pause()
		s.Pause()
		synctest.Wait()
		require.Equal(t, int64(2), recalled.Load(), "b and c were offered")
		pause, _ := s.Flow()
		require.Equal(t, []*Partition[string]{p}, pause)
		close(release)
		synctest.Wait()
		next, ok := p.Watermark()
		require.True(t, ok)
		require.Equal(t, int64(1), next, "what runs is finished and counts")
		select {
		case v := <-taken:
			t.Fatalf("%s was offered in a pause", v)
		case <-time.After(time.Hour):
		}
		s.Resume()
		for range 3 {
			<-taken
		}
		synctest.Wait()
		_, resume := s.Flow()
		require.Equal(t, []*Partition[string]{p}, resume)
		next, _ = p.Watermark()
		require.Equal(t, int64(4), next)
		s.Close()
	})
}

// A drain in a pause waits for nobody but the handlers, and starts nothing.
func TestDrainInAPauseEndsWithWhatHandlersHave(t *testing.T) {
	for _, pausedFirst := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var started atomic.Int64
			release := make(chan struct{})
			limits := roomy
			limits.Running, limits.PartitionRunning = 2, 2
			s := New(Config[string]{Limits: limits, Work: func(it *Item[string]) Outcome {
				started.Add(1)
				if it.Offset() == 0 && it.Attempt() == 1 {
					return RetryIn(10 * time.Second)
				}
				<-release
				return Finished()
			}})
			p := s.Open(0)
			require.NoError(t, p.Add(entries("a", "b", "c", "d")...)) // a fails, b and c run
			synctest.Wait()
			require.Equal(t, int64(3), started.Load())
			if pausedFirst {
				s.Pause()
			}
			drained := make(chan bool)
			go func() { drained <- p.Drain(context.Background(), time.Minute) }()
			synctest.Wait()
			if !pausedFirst {
				s.Pause()
			}
			begin := time.Now()
			close(release)
			require.True(t, <-drained)
			require.Zero(t, time.Since(begin), "it waits for no retry")
			require.Equal(t, int64(3), started.Load())
			_, ok := p.Watermark()
			require.False(t, ok, "a is not finished")
			s.Close()
		})
	}
}
