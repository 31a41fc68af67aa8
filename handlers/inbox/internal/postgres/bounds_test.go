package postgres_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/handlers/inbox/internal/postgres"
)

func bounded(b inbox.Bounds) *inbox.Admission {
	return &inbox.Admission{Bounds: b, Message: &inbox.Message{Record: event.KafkaRecord{Value: make([]byte, 100)}}}
}

func TestTotalsAreLookedUpOnceASecondForEachHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			stores postgres.Stores
			mu     sync.Mutex
			looks  = map[int32]int{}
			group  sync.WaitGroup
		)
		ask := func(handler int32) {
			full, err := stores.Full(t.Context(), handler, bounded(inbox.Bounds{Events: 10}), func() (postgres.Total, error) {
				time.Sleep(100 * time.Millisecond) // the others wait for it, and take what it finds
				mu.Lock()
				defer mu.Unlock()
				looks[handler]++
				return postgres.Total{}, nil
			})
			if full != nil || err != nil {
				t.Error(full, err)
			}
		}
		for range 35 { // for 3.5 s
			for handler := range int32(2) {
				for range 20 {
					group.Go(func() { ask(handler) })
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
		group.Wait()
		require.Equal(t, map[int32]int{0: 4, 1: 4}, looks)
	})
}

func TestWhatThisProcessParksCountsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stores postgres.Stores
		total := postgres.Total{Events: 1, Bytes: 50, Age: time.Minute}
		full := func(b inbox.Bounds) error {
			full, err := stores.Full(t.Context(), 1, bounded(b), func() (postgres.Total, error) { return total, nil })
			require.NoError(t, err)
			return full
		}
		all := inbox.Bounds{Events: 3, Bytes: 200, Age: 2 * time.Minute}
		require.NoError(t, full(all))
		stores.Added(1, bounded(all))
		require.NoError(t, full(all))
		require.NoError(t, full(inbox.Bounds{Bytes: 151}))
		require.ErrorIs(t, full(inbox.Bounds{Bytes: 150}), inbox.ErrFull)
		stores.Added(1, bounded(all))
		require.ErrorContains(t, full(all), "3 events are parked, and Bounds.Events is 3")
		require.NoError(t, full(inbox.Bounds{Age: time.Minute}))
		time.Sleep(999 * time.Millisecond)
		require.ErrorContains(t, full(inbox.Bounds{Age: time.Minute}), "the oldest was parked 1m1s ago, and Bounds.Age is 1m0s")
		time.Sleep(time.Millisecond)
		total = postgres.Total{} // retried meanwhile
		require.NoError(t, full(all))
		require.NoError(t, full(inbox.Bounds{Age: 1}), "nothing is parked")
	})
}

func TestALookThatFailsOrIsWaitedForTooLongIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stores postgres.Stores
		away := errors.New("connection refused")
		a := bounded(inbox.Bounds{Events: 1})
		_, err := stores.Full(t.Context(), 1, a, func() (postgres.Total, error) { return postgres.Total{}, away })
		require.ErrorIs(t, err, away)

		release := make(chan struct{})
		var group sync.WaitGroup
		group.Go(func() {
			_, err := stores.Full(t.Context(), 1, a, func() (postgres.Total, error) { <-release; return postgres.Total{Events: 5}, nil })
			if err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		none := func() (postgres.Total, error) { t.Error("two look at once"); return postgres.Total{}, nil }
		_, err = stores.Full(ctx, 1, a, none)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		close(release)
		group.Wait()
		full, err := stores.Full(t.Context(), 1, a, none)
		require.NoError(t, err)
		require.ErrorIs(t, full, inbox.ErrFull)
	})
}
