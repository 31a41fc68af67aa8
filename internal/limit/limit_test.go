package limit_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/tidings-bus/tidings/internal/limit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// database serves capacity tries at a time at full speed; more share it.
type database struct {
	capacity int64
	running  atomic.Int64
	most     atomic.Int64
	served   atomic.Int64
}

func (d *database) serve() {
	n := d.running.Add(1)
	for most := d.most.Load(); n > most && !d.most.CompareAndSwap(most, n); most = d.most.Load() {
	}
	slower := max(1, float64(n)/float64(d.capacity))
	time.Sleep(time.Duration(slower * float64(100*time.Millisecond)))
	d.running.Add(-1)
	d.served.Add(1)
}

// press has n callers at once ask for d, until the time is over.
func press(l limit.Limit, d *database, n int, during time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), during)
	defer cancel()
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for {
				p, err := l.Acquire(ctx)
				if err != nil {
					return
				}
				d.serve()
				p.Record()
			}
		})
	}
	all.Wait()
}

func TestNoMoreThanTheFixedLimitRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &database{capacity: 1000}
		press(limit.Fixed(7), d, 100, 10*time.Second)
		require.EqualValues(t, 7, d.most.Load())
		require.GreaterOrEqual(t, d.served.Load(), int64(690))
	})
}

func TestAnAdaptiveLimitFindsWhatTheDatabaseCanServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told atomic.Int64
		l := limit.Adaptive(1, 150, func(n int) { told.Store(int64(n)) })
		d := &database{capacity: 60}
		press(l, d, 150, 2*time.Minute)
		require.Greater(t, l.Now(), 20, "it rose from where it began")
		require.Less(t, l.Now(), 120, "and stopped rising when the database got slower")
		require.EqualValues(t, l.Now(), told.Load())
		before := l.Now()
		d.capacity = 6 // ten times as slow
		press(l, d, 150, 2*time.Minute)
		require.Less(t, l.Now(), before/2)
	})
}

func TestAnAdaptiveLimitStaysWithinItsBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &database{capacity: 1 << 40}
		l := limit.Adaptive(2, 30, nil)
		press(l, d, 50, time.Minute)
		require.LessOrEqual(t, d.most.Load(), int64(30))
		require.LessOrEqual(t, l.Now(), 30)
		d = &database{capacity: 1}
		press(l, d, 50, time.Minute)
		require.GreaterOrEqual(t, l.Now(), 2)
	})
}

func TestWhoWaitsGivesUpWithItsContext(t *testing.T) {
	for name, l := range map[string]limit.Limit{"fixed": limit.Fixed(1), "adaptive": limit.Adaptive(1, 1, nil)} {
		t.Run(name, func(t *testing.T) {
			p, err := l.Acquire(t.Context())
			require.NoError(t, err)
			ctx, cancel := context.WithCancelCause(t.Context())
			why := errors.New("the partition went")
			waiting := make(chan error, 1)
			go func() {
				_, err := l.Acquire(ctx)
				waiting <- err
			}()
			cancel(why)
			require.ErrorIs(t, <-waiting, why)
			p.Drop()
			p, err = l.Acquire(t.Context())
			require.NoError(t, err, "nothing leaked")
			p.Record()
		})
	}
}
