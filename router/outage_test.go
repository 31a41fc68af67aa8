package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/internal/delivery"
)

// drive brings ds until each is acknowledged, sleeping as lanes do.
func drive(g *rig, ds ...*delivery.Delivery) *sync.WaitGroup {
	var all sync.WaitGroup
	for _, d := range ds {
		all.Go(func() {
			for d.Attempt = 1; !g.sub.offer(d); d.Attempt++ {
				time.Sleep(d.RetryIn)
			}
		})
	}
	return &all
}

// keyed makes n deliveries of as many keys.
func keyed(t *testing.T, n int) []*delivery.Delivery {
	t.Helper()
	ds := make([]*delivery.Delivery, n)
	for i := range ds {
		ds[i] = at(int64(i+1), record(t, "order.placed", fmt.Sprintf("o-%d", i), 1, placed{}))
	}
	return ds
}

// surroundings are what a handler depends on.
type surroundings struct {
	mu     sync.Mutex
	down   error
	poison map[string]bool
	tries  int
}

func (s *surroundings) set(down error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

func (s *surroundings) try(key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries++
	if s.poison[key] {
		return errDeclined
	}
	return s.down
}

func (s *surroundings) tried() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tries
}

func chargeIn(box *memParker, s *surroundings) handlers.Handler {
	box.id, box.answer = "db", fresh
	return handlers.InTx("charge", box, func(_ context.Context, _ struct{}, e event.Of[placed]) error {
		return s.try(e.Aggregate().ID)
	})
}

func parkAll(inbox.Admission, inbox.Failure) (inbox.Answer, error) { return inbox.Parked, nil }

// Nothing is parked for an hour's outage, and few events are tried; then all are
// applied, but for the one that fails by itself.
func TestAnOutageParksNothingAndEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &surroundings{down: errors.New("bank is away"), poison: map[string]bool{"o-17": true}}
		box := &memParker{park: parkAll}
		g := newRig(t, Config{}, chargeIn(box, s)).start(t)
		began := time.Now()
		all := drive(g, keyed(t, 100)...)
		time.Sleep(time.Hour)
		require.Empty(t, box.wishes)
		require.Less(t, s.tried(), 250, "100 first tries and probes at growing intervals")
		require.Len(t, g.logs.lines(slog.LevelError), 1, "it is said once, not per event")
		warnings := g.Warnings(t.Context())
		require.Len(t, warnings, 1)
		require.Contains(t, warnings[0], `handler "charge" of topic "orders" is in an outage since `)
		require.Contains(t, warnings[0], "bank is away")
		since := testutil.ToFloat64(g.met.outage.WithLabelValues("orders", "charge"))
		require.InDelta(t, float64(began.Unix()), since, 1)
		require.NoError(t, g.Ready(t.Context()), "the process is well")

		s.set(nil)
		all.Wait()
		require.InDelta(t, 99, g.counter(t, "charge", outcomeApplied), 0)
		require.Len(t, box.wishes, 1, "beside successes, what fails is parked")
		require.InDelta(t, 1, g.counter(t, "charge", outcomeParked), 0)
		require.Empty(t, g.Warnings(t.Context()))
		require.Zero(t, testutil.ToFloat64(g.met.outage.WithLabelValues("orders", "charge")))
		require.Len(t, g.logs.lines(slog.LevelError), 1)
		require.NoError(t, g.end())
	})
}

// Where half of the keys are poisonous the others are applied and these parked.
func TestManyPoisonousKeysAreParkedAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &surroundings{poison: map[string]bool{}}
		for i := range 60 {
			s.poison[fmt.Sprintf("o-%d", i)] = true
		}
		box := &memParker{park: parkAll}
		g := newRig(t, Config{}, chargeIn(box, s)).start(t)
		began := time.Now()
		drive(g, keyed(t, 100)...).Wait()
		require.InDelta(t, 40, g.counter(t, "charge", outcomeApplied), 0)
		require.InDelta(t, 60, g.counter(t, "charge", outcomeParked), 0)
		require.Less(t, time.Since(began), 3*time.Minute)
		require.NoError(t, g.end())
	})
}

func TestADatabaseThatAdmitsNothingIsProbedAndCountsNoTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &surroundings{}
		box := &memParker{park: parkAll}
		h := chargeIn(box, s)
		var mu sync.Mutex
		asked, up := 0, false
		box.answer = func(inbox.Admission) (inbox.Answer, error) {
			mu.Lock()
			defer mu.Unlock()
			asked++
			if !up {
				return 0, fmt.Errorf("connection refused: %w", inbox.ErrNotAdmitted)
			}
			return inbox.Fresh, nil
		}
		g := newRig(t, Config{}, h).start(t)
		all := drive(g, keyed(t, 100)...)
		time.Sleep(time.Minute)
		mu.Lock()
		require.Less(t, asked, 150)
		up = true
		mu.Unlock()
		require.Len(t, g.logs.lines(slog.LevelError), 1)
		all.Wait()
		require.Empty(t, box.wishes)
		require.InDelta(t, 100, g.counter(t, "charge", outcomeApplied), 0)
		require.NoError(t, g.end())
	})
}

// Events behind parked ones, and repeated ones, are answered by the database: the
// bank is not back for that, and nothing more is parked.
func TestWhatTheDatabaseAnswersEndsNoOutageOfTheHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &surroundings{down: errors.New("bank is away")}
		box := &memParker{park: parkAll}
		h := chargeIn(box, s)
		box.answer = func(a inbox.Admission) (inbox.Answer, error) {
			switch {
			case a.Place.Offset <= 50:
				return inbox.Fresh, nil
			case a.Place.Offset%2 == 0:
				return inbox.Parked, nil
			}
			return inbox.Duplicate, nil
		}
		g := newRig(t, Config{}, h).start(t)
		ds := keyed(t, 100)
		all := drive(g, ds[:50]...)
		time.Sleep(time.Minute)
		drive(g, ds[50:]...).Wait()
		time.Sleep(time.Minute)
		require.Empty(t, box.wishes)
		require.Len(t, g.Warnings(t.Context()), 1)
		s.set(nil)
		all.Wait()
		require.Empty(t, box.wishes)
		require.InDelta(t, 50, g.counter(t, "charge", outcomeApplied), 0)
		require.NoError(t, g.end())
	})
}

func TestWithoutOutagesEveryEventIsJudgedByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &surroundings{down: errors.New("bank is away")}
		box := &memParker{park: parkAll}
		g := newRig(t, Config{Outage: Outage{Off: true}}, chargeIn(box, s)).start(t)
		drive(g, keyed(t, 50)...).Wait()
		require.InDelta(t, 50, g.counter(t, "charge", outcomeParked), 0)
		require.NoError(t, g.end())
	})
}
