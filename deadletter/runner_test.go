package deadletter_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

func TestARequestedKeyIsRetriedInOrderUntilDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.line("a", "1", "2", "3")
		s.line("b", "4", "5")
		_, stop := s.start(s.config("m1"))
		time.Sleep(time.Minute)
		require.Empty(t, s.effects(), "nobody asked")
		q := s.ask(deadletter.Filter{Keys: [][]byte{[]byte("a")}}, 0)
		time.Sleep(5 * time.Second)
		require.Equal(t, []string{"a/1", "a/2", "a/3"}, s.effects())
		q = s.request(q.ID)
		require.Equal(t, deadletter.Done, q.State)
		require.Equal(t, deadletter.Progress{KeysDone: 1, Applied: 3}, q.Progress)
		require.EqualValues(t, 1, q.Keys)
		require.Len(t, s.keys(), 1)
		stop()
	})
}

func TestI6AKeyStopsAtItsFirstNewFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.line("a", "1", "2", "3")
		s.line("b", "4")
		s.fail("2")
		_, stop := s.start(s.config("m1"))
		q := s.ask(deadletter.Filter{}, 0)
		time.Sleep(5 * time.Second)
		require.ElementsMatch(t, []string{"a/1", "b/4"}, s.effects())
		q = s.request(q.ID)
		require.Equal(t, deadletter.Done, q.State)
		require.Equal(t, deadletter.Progress{KeysDone: 1, KeysStopped: 1, Applied: 2, Failed: 1}, q.Progress)
		k := s.keys()[0]
		require.Equal(t, inbox.CauseError, k.Cause)
		require.EqualValues(t, 2, k.Events)
		require.Equal(t, 1, k.Tries)
		require.Empty(t, k.Member, "the claim was given back")

		s.mend()
		s.ask(deadletter.Filter{}, 0)
		time.Sleep(5 * time.Second)
		require.ElementsMatch(t, []string{"a/1", "b/4", "a/2", "a/3"}, s.effects())
		stop()
	})
}

func TestADueHeadIsRetriedByItselfAndWhatWaitedBehindItToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.park("a", "1", inbox.Failure{Cause: inbox.CauseLater, Due: time.Now().Add(time.Hour)})
		s.park("a", "2", inbox.Failure{Cause: inbox.CauseBehind})
		s.line("b", "3")
		_, stop := s.start(s.config("m1"))
		time.Sleep(59 * time.Minute)
		require.Empty(t, s.effects())
		time.Sleep(2 * time.Minute)
		require.Equal(t, []string{"a/1", "a/2"}, s.effects())
		stop()
	})
}

func TestAFailedDueHeadIsRetriedAtItsNextDueTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.park("a", "1", inbox.Failure{Cause: inbox.CauseLater, Due: time.Now().Add(time.Minute)})
		s.fail("1")
		c := s.config("m1")
		c.Handlers[charge].(*retrier).due = time.Hour
		_, stop := s.start(c)
		time.Sleep(30 * time.Minute)
		require.Equal(t, 1, s.tried())
		s.mend()
		time.Sleep(32 * time.Minute)
		require.Equal(t, []string{"a/1"}, s.effects())
		stop()
	})
}

func TestAnEventThatIsNotTriedKeepsItsKeyClaimedAndIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.line("a", "1", "2")
		c := s.config("m1")
		var left atomic.Int64
		left.Store(5)
		c.Handlers[charge].(*retrier).before = func(context.Context, deadletter.Letter) (deadletter.Outcome, bool) {
			if left.Add(-1) >= 0 {
				return deadletter.Outcome{Verdict: deadletter.NotTried, Err: errNo, After: 20 * time.Second}, true
			}
			return deadletter.Outcome{}, false
		}
		_, stop := s.start(c)
		s.ask(deadletter.Filter{}, 0)
		time.Sleep(90 * time.Second)
		require.Empty(t, s.effects())
		require.Equal(t, "m1", s.keys()[0].Member, "the claim is renewed past its lease")
		time.Sleep(time.Minute)
		require.Equal(t, []string{"a/1", "a/2"}, s.effects())
		stop()
	})
}

func TestALostClaimStopsTheKeyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.line("a", "1", "2")
		s.takes = time.Hour
		c := s.config("m1")
		away := &awayStore{Store: c.Store}
		c.Store = away
		ended := make(chan time.Time, 1)
		c.Handlers[charge].(*retrier).before = func(ctx context.Context, _ deadletter.Letter) (deadletter.Outcome, bool) {
			away.err.Store(&errAway) // from now on no renewal succeeds
			<-ctx.Done()
			ended <- time.Now()
			return deadletter.Outcome{Verdict: deadletter.NotTried}, true
		}
		began := time.Now()
		r, stop := s.start(c)
		s.ask(deadletter.Filter{}, 0)
		require.LessOrEqual(t, (<-ended).Sub(began), 17*time.Second, "a lease after the claim at the latest")
		require.ErrorContains(t, r.Status(t.Context()), "away")
		require.Empty(t, s.effects())
		stop()
	})
}

func TestRetriesAreBoundedOverKeysAndOneAtATimePerKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		for _, key := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
			s.line(key, "1", "2")
		}
		s.takes = time.Second
		var now, most atomic.Int64
		c := s.config("m1")
		c.Concurrent = 3
		c.Handlers[charge].(*retrier).before = func(context.Context, deadletter.Letter) (deadletter.Outcome, bool) {
			most.Store(max(most.Load(), now.Add(1)))
			time.AfterFunc(time.Second-time.Nanosecond, func() { now.Add(-1) })
			return deadletter.Outcome{}, false
		}
		_, stop := s.start(c)
		s.ask(deadletter.Filter{}, 0)
		time.Sleep(8 * time.Second)
		require.Len(t, s.effects(), 16, "a free place is filled at once")
		require.EqualValues(t, 3, most.Load())
		stop()
	})
}

func TestTheRateOfARequestHoldsOverAllMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		for _, key := range []string{"a", "b", "c", "d"} {
			s.line(key, "1", "2", "3", "4", "5", "6", "7", "8", "9")
		}
		_, stop1 := s.start(s.config("m1"))
		_, stop2 := s.start(s.config("m2"))
		s.ask(deadletter.Filter{}, 2)
		time.Sleep(10 * time.Second)
		require.InDelta(t, 19, len(s.effects()), 3)
		time.Sleep(10 * time.Second)
		require.Len(t, s.effects(), 36)
		stop1()
		stop2()
	})
}

func TestAStoppedRunnerFinishesRunningRetriesAndGivesItsClaimsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.line("a", "1", "2")
		s.takes = 10 * time.Second
		_, stop := s.start(s.config("m1"))
		q := s.ask(deadletter.Filter{}, 0)
		time.Sleep(5 * time.Second)
		stop()
		require.Equal(t, []string{"a/1"}, s.effects(), "what ran has finished, nothing more was begun")
		require.Empty(t, s.keys()[0].Member)
		require.Equal(t, deadletter.Progress{Applied: 1}, s.request(q.ID).Progress)

		_, stop = s.start(s.config("m2"))
		time.Sleep(time.Minute)
		require.Equal(t, []string{"a/1", "a/2"}, s.effects(), "another member goes on")
		require.Equal(t, deadletter.Progress{KeysDone: 1, Applied: 2}, s.request(q.ID).Progress)
		stop()
	})
}

func TestARetryThatDoesNotEndIsCanceledAfterTheStopTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.line("a", "1")
		s.takes = time.Hour
		c := s.config("m1")
		c.StopTimeout = 7 * time.Second
		_, stop := s.start(c)
		s.ask(deadletter.Filter{}, 0)
		time.Sleep(5 * time.Second)
		began := time.Now()
		stop()
		require.Equal(t, 7*time.Second, time.Since(began))
		require.Empty(t, s.keys()[0].Member)
	})
}

func TestAKilledMembersKeysAreRetriedByAnotherAfterTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.line("a", "1", "2")
		dead := s.store()
		q := s.ask(deadletter.Filter{}, 0)
		require.NoError(t, dead.Advance(t.Context(), group))
		keys, err := dead.Claim(t.Context(), group, []string{charge}, "dead", 15*time.Second, 9)
		require.NoError(t, err)
		require.Len(t, keys, 1)
		_, stop := s.start(s.config("m2"))
		time.Sleep(14 * time.Second)
		require.Empty(t, s.effects())
		time.Sleep(3 * time.Second)
		require.Equal(t, []string{"a/1", "a/2"}, s.effects())
		require.Equal(t, deadletter.Done, s.request(q.ID).State)
		stop()
	})
}

func TestPassedLooksAtTheHeadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.line("a", "1", "2")
		c := s.config("m1")
		var once atomic.Bool
		c.Handlers[charge].(*retrier).before = func(ctx context.Context, l deadletter.Letter) (deadletter.Outcome, bool) {
			if once.CompareAndSwap(false, true) { // somebody else applied it
				a := admissionOf(&l)
				require.NoError(t, s.run(ctx, "a", "1"))
				require.NoError(t, s.store().Record(ctx, a))
			}
			return deadletter.Outcome{}, false
		}
		_, stop := s.start(c)
		s.ask(deadletter.Filter{}, 0)
		time.Sleep(5 * time.Second)
		require.Equal(t, []string{"a/1", "a/2"}, s.effects())
		stop()
	})
}

// awayStore is a store whose database is away while err is set.
type awayStore struct {
	deadletter.Store

	err atomic.Pointer[error]
}

var errAway = errors.New("the database is away")

func (s *awayStore) away() error {
	if err := s.err.Load(); err != nil {
		return *err
	}
	return nil
}

func (s *awayStore) Renew(ctx context.Context, member string, keys []int64, lease time.Duration) ([]int64, error) {
	if err := s.away(); err != nil {
		return nil, err
	}
	return s.Store.Renew(ctx, member, keys, lease)
}

func (s *awayStore) Claim(ctx context.Context, group string, handlers []string, member string, lease time.Duration, limit int) ([]deadletter.Key, error) {
	if err := s.away(); err != nil {
		return nil, err
	}
	return s.Store.Claim(ctx, group, handlers, member, lease, limit)
}

func (s *awayStore) Requests(ctx context.Context, group string, open bool, limit int) ([]deadletter.Request, error) {
	if err := s.away(); err != nil {
		return nil, err
	}
	return s.Store.Requests(ctx, group, open, limit)
}
