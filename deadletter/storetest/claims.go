package storetest

import (
	"strconv"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

func testDue(s *scene) {
	ctx := s.Context()
	now := time.Now()
	for key, due := range map[string]time.Time{"late": now.Add(-time.Hour), "later": now.Add(-2 * time.Hour), "not yet": now.Add(time.Hour), "never": {}} {
		f := failure(inbox.CauseLater)
		f.Due = due
		s.put(s.read(charge, key, 1), f)
	}
	s.put(s.read(charge, "late", 2), inbox.Failure{Cause: inbox.CauseBehind})
	got := s.claim(member, 10)
	require.Equal(s, []string{"later", "late"}, field(got, keyText), "the longest due first")
	require.Zero(s, got[0].Request)
	require.Equal(s, member, got[0].Member)
	require.Empty(s, s.claim(second, 10))

	// One that fails again waits for its new time.
	head := s.letters(got[0].ID)[0]
	a, f := admission(&head), failure(inbox.CauseLater)
	f.Due = now.Add(time.Hour)
	answer, err := s.Box.Park(ctx, a, f)
	require.NoError(s, err)
	require.Equal(s, inbox.Parked.String(), answer.String())
	require.NoError(s, s.Store.Release(ctx, member, got[0], true, deadletter.Progress{}))
	require.Empty(s, s.claim(second, 10))
	s.consistent()

	// What waited behind one that was due goes on by itself, also when the
	// member died after it.
	head = s.letters(got[1].ID)[0]
	require.Equal(s, inbox.Fresh.String(), s.retry(&head, nil).String())
	require.NoError(s, s.Store.Release(ctx, member, got[1], false, deadletter.Progress{}))
	got = s.claim(second, 10)
	require.Equal(s, []string{"late"}, field(got, keyText))

	// So it does when the first is discarded.
	s.put(s.read(charge, "late", 3), inbox.Failure{Cause: inbox.CauseBehind})
	require.NoError(s, s.Store.Release(ctx, second, got[0], false, deadletter.Progress{}))
	s.remove(&s.letters(got[0].ID)[0])
	require.Equal(s, []string{"late"}, field(s.claim(second, 10), keyText))
}

func testClaim(s *scene) {
	ctx := s.Context()
	for i := range 4 {
		s.park(charge, "o-"+strconv.Itoa(i), 1, 1)
	}
	s.park(remind, "o-1", 1, 1)
	s.park(inbox.Handler{Group: "shipping", Name: "charge"}, "o-1", 1, 1)
	require.Empty(s, s.claim(member, 10), "nobody asked")
	one := s.ask(deadletter.Filter{Keys: [][]byte{[]byte("o-3")}})
	two := s.ask(deadletter.Filter{})
	s.advance()
	first, err := s.Store.Claim(ctx, billing, []string{"charge"}, member, lease, 2)
	require.NoError(s, err)
	require.Len(s, first, 2)
	require.Equal(s, []int64{one.ID, two.ID}, field(first, func(k deadletter.Key) int64 { return k.Request }), "the oldest request first")
	require.Equal(s, "o-3", string(first[0].Key))
	for _, k := range first {
		require.Equal(s, member, k.Member)
		require.Equal(s, member, s.key(charge, string(k.Key)).Member)
	}
	rest, err := s.Second.Claim(ctx, billing, []string{"charge"}, second, lease, 10)
	require.NoError(s, err)
	require.Len(s, rest, 2)
	for _, k := range rest {
		require.Equal(s, charge, k.Handler)
		require.NotContains(s, field(first, keyID), k.ID)
	}
	none, err := s.Store.Claim(ctx, billing, nil, second, lease, 10)
	require.NoError(s, err)
	require.Empty(s, none)

	ids := field(first, keyID)
	kept, err := s.Store.Renew(ctx, second, ids, lease)
	require.NoError(s, err)
	require.Empty(s, kept)
	kept, err = s.Store.Renew(ctx, member, append(ids, rest[0].ID), lease)
	require.NoError(s, err)
	require.ElementsMatch(s, ids, kept)
	require.ErrorIs(s, s.Store.Release(ctx, second, first[0], true, deadletter.Progress{KeysDone: 1}), deadletter.ErrNotFound)
	require.Zero(s, s.request(one.ID).KeysDone)
	require.NoError(s, s.Store.Release(ctx, member, first[0], false, deadletter.Progress{}))
	require.ErrorIs(s, s.Store.Release(ctx, member, first[0], false, deadletter.Progress{}), deadletter.ErrNotFound)
	require.Equal(s, []string{"o-3", "o-1"}, field(s.claim(second, 10), keyText))
}

func testLease(s *scene) {
	ctx := s.Context()
	s.park(charge, "o-1", 1, 1)
	r := s.ask(deadletter.Filter{})
	s.advance()
	got, err := s.Store.Claim(ctx, billing, both, member, 200*time.Millisecond, 10)
	require.NoError(s, err)
	require.Len(s, got, 1)
	var taken []deadletter.Key
	require.Eventually(s, func() bool {
		taken = s.claim(second, 10)
		return len(taken) > 0
	}, 10*time.Second, 10*time.Millisecond)
	require.Equal(s, field(got, keyID), field(taken, keyID))
	require.Equal(s, r.ID, taken[0].Request)
	kept, err := s.Store.Renew(ctx, member, field(got, keyID), lease)
	require.NoError(s, err)
	require.Empty(s, kept)
	require.ErrorIs(s, s.Store.Release(ctx, member, got[0], true, deadletter.Progress{KeysDone: 1}), deadletter.ErrNotFound)
	require.Equal(s, second, s.key(charge, "o-1").Member)
	require.Zero(s, s.request(r.ID).KeysDone)
}
