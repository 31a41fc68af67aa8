package storetest

import (
	"strconv"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

func testAsk(s *scene) {
	ctx := s.Context()
	s.park(charge, "o-1", 1, 2)
	s.park(charge, "o-2", 1, 1)
	s.park(remind, "o-1", 1, 1)
	rejected := s.read(charge, "o-3", 1)
	s.put(rejected, failure(inbox.CauseRejected))

	f := deadletter.Filter{Handlers: []string{"charge"}, Causes: []inbox.Cause{inbox.CauseError}, From: time.Now().Add(-time.Hour).UTC().Truncate(time.Millisecond)}
	r, err := s.Store.Ask(ctx, deadletter.Request{Group: billing, Kind: deadletter.RequestRetry, Filter: f, Rate: 2.5}, ann)
	require.NoError(s, err)
	s.park(charge, "o-4", 1, 1) // later than asked
	s.advance()
	r = s.request(r.ID)
	f.Group = billing
	require.Equal(s, f, r.Filter)
	require.InDelta(s, 2.5, r.Rate, 0)
	require.Equal(s, deadletter.Open, r.State)
	require.Equal(s, deadletter.RequestRetry, r.Kind)
	require.Equal(s, int64(2), r.Keys)
	require.Zero(s, r.Busy)
	require.Equal(s, ann.Who, r.Act.Who)
	require.Equal(s, ann.Reason, r.Act.Reason)
	require.WithinDuration(s, time.Now(), r.Asked, time.Minute)
	require.Zero(s, r.Ended)
	require.Equal(s, r.ID, s.key(charge, "o-1").Request)
	require.Zero(s, s.key(charge, "o-3").Request)
	require.Zero(s, s.key(charge, "o-4").Request)
	require.Equal(s, []string{"o-1", "o-2"}, field(s.claim(member, 10), keyText))

	second := s.ask(deadletter.Filter{Keys: [][]byte{[]byte("o-3")}})
	for _, open := range []bool{true, false} {
		list, err := s.Second.Requests(ctx, billing, open, 10)
		require.NoError(s, err)
		require.Equal(s, []int64{second.ID, r.ID}, field(list, func(r deadletter.Request) int64 { return r.ID }))
	}
	list, err := s.Store.Requests(ctx, "shipping", false, 10)
	require.NoError(s, err)
	require.Empty(s, list)
	list, err = s.Store.Requests(ctx, billing, false, 1)
	require.NoError(s, err)
	require.Len(s, list, 1)
}

func testAskBusy(s *scene) {
	ctx := s.Context()
	s.park(charge, "o-1", 1, 1)
	s.park(charge, "o-2", 1, 1)
	one := s.ask(deadletter.Filter{Keys: [][]byte{[]byte("o-1")}})
	s.advance()
	_, err := s.Store.Ask(ctx, deadletter.Request{Group: billing, Kind: deadletter.RequestRetry, Filter: one.Filter}, ann)
	require.ErrorIs(s, err, deadletter.ErrBusy)
	require.ErrorContains(s, err, "request "+strconv.FormatInt(one.ID, 10))
	all := s.ask(deadletter.Filter{})
	s.advance()
	all = s.request(all.ID)
	require.Equal(s, int64(1), all.Keys)
	require.Equal(s, int64(1), all.Busy)
	require.Equal(s, one.ID, s.key(charge, "o-1").Request)
	require.Equal(s, all.ID, s.key(charge, "o-2").Request)
	require.NoError(s, s.Store.End(ctx, one.ID, ann))
	s.ask(one.Filter)
}

func testEnd(s *scene) {
	ctx := s.Context()
	s.park(charge, "o-1", 1, 3)
	s.park(charge, "o-2", 1, 1)
	r := s.ask(deadletter.Filter{})
	s.advance()
	claimed := s.claim(member, 1)
	require.Len(s, claimed, 1)
	require.NoError(s, s.Store.End(ctx, r.ID, ann))
	ended := s.request(r.ID)
	require.Equal(s, deadletter.Ended, ended.State)
	require.NotZero(s, ended.Ended)
	require.ErrorIs(s, s.Store.End(ctx, r.ID, ann), deadletter.ErrNotFound)
	_, err := s.Store.Permit(ctx, r.ID)
	require.ErrorIs(s, err, deadletter.ErrNotFound, "what runs ends")
	require.Empty(s, s.claim(second, 10))
	require.NoError(s, s.Store.Release(ctx, member, claimed[0], true, deadletter.Progress{Applied: 1}))
	require.Equal(s, int64(1), s.request(r.ID).Applied)
	require.Zero(s, s.key(charge, "o-1").Request)
	open, err := s.Store.Requests(ctx, billing, true, 10)
	require.NoError(s, err)
	require.Empty(s, open)

	s.ask(deadletter.Filter{})
	s.advance()
	require.Len(s, s.claim(member, 10), 2, "they can be asked for again")
}

func testFinish(s *scene) {
	ctx := s.Context()
	for i := range 5 {
		s.park(charge, "o-"+strconv.Itoa(i), 1, 2)
	}
	r := s.ask(deadletter.Filter{})
	s.advance()
	claimed := s.claim(member, 10)
	require.Len(s, claimed, 5)
	drain := func(k deadletter.Key) {
		for _, l := range s.letters(k.ID) {
			require.Equal(s, inbox.Fresh.String(), s.retry(&l, nil).String())
		}
	}
	release := func(k deadletter.Key, done bool, p deadletter.Progress) {
		require.NoError(s, s.Store.Release(ctx, member, k, done, p))
	}
	drain(claimed[0])
	require.Equal(s, deadletter.ActionRetry, s.audit().Action, "retries of single events are not in the audit log")
	release(claimed[0], true, deadletter.Progress{KeysDone: 1, Applied: 2})
	drain(claimed[1]) // its member dies before it says so
	release(claimed[2], true, deadletter.Progress{KeysStopped: 1, Failed: 1})
	s.advance()
	open := s.request(r.ID)
	require.Equal(s, deadletter.Open, open.State)
	require.Equal(s, deadletter.Progress{KeysDone: 1, KeysStopped: 1, Applied: 2, Failed: 1}, open.Progress)
	require.Empty(s, s.claim(second, 10), "what stopped is not tried again")

	release(claimed[3], false, deadletter.Progress{Applied: 1})
	again := s.claim(second, 10)
	require.Equal(s, []int64{claimed[3].ID}, field(again, keyID), "another one goes on")
	require.Equal(s, r.ID, again[0].Request)
	require.NoError(s, s.Store.Release(ctx, second, again[0], true, deadletter.Progress{KeysStopped: 1, Failed: 1}))
	if s.Forgets { // it has no lock that a discard could wait for: ErrBusy
		drain(claimed[4])
	} else {
		s.remove(&s.letters(claimed[4].ID)[0])
		s.remove(&s.letters(claimed[4].ID)[0])
	}
	release(claimed[4], true, deadletter.Progress{KeysDone: 1})
	s.advance()
	done := s.request(r.ID)
	require.Equal(s, deadletter.Done, done.State)
	require.NotZero(s, done.Ended)
	require.Equal(s, int64(5), done.Keys)
	require.Equal(s, deadletter.Progress{KeysDone: 3, KeysStopped: 2, Applied: 3, Failed: 2}, done.Progress)
	s.advance()
	require.Equal(s, done, s.request(r.ID))
	release(claimed[1], true, deadletter.Progress{KeysDone: 1}) // it lives after all
	require.Equal(s, int64(3), s.request(r.ID).KeysDone, "counted once")
}

func testPermit(s *scene) {
	ctx := s.Context()
	s.park(charge, "o-1", 1, 1)
	s.park(charge, "o-2", 1, 1)
	free := s.ask(deadletter.Filter{Keys: [][]byte{[]byte("o-1")}})
	for range 3 {
		wait, err := s.Store.Permit(ctx, free.ID)
		require.NoError(s, err)
		require.Zero(s, wait)
	}
	const perSecond = 4
	bound, err := s.Store.Ask(ctx, deadletter.Request{Group: billing, Kind: deadletter.RequestRetry, Filter: deadletter.Filter{Keys: [][]byte{[]byte("o-2")}}, Rate: perSecond}, ann)
	require.NoError(s, err)
	began := time.Now()
	for i, store := range []deadletter.Store{s.Store, s.Second, s.Second, s.Store, s.Store} {
		wait, err := store.Permit(ctx, bound.ID)
		require.NoError(s, err)
		// Its turn is i steps after the first one, whoever asks and how long it took.
		turn := time.Duration(i) * time.Second / perSecond
		require.LessOrEqual(s, wait, turn+time.Millisecond)
		require.GreaterOrEqual(s, wait, turn-time.Since(began)-2*time.Millisecond)
	}
}
