package inboxtest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/handlers/inbox"
)

// refused demands that a is neither parked nor appended, for the reason given.
func (db *Database[Tx]) refused(t *testing.T, m Member[Tx], a inbox.Admission, why string) {
	t.Helper()
	before := db.Letters(t)
	answer, err := m.Park(t.Context(), a, failed())
	require.ErrorIs(t, err, inbox.ErrFull)
	require.NotErrorIs(t, err, inbox.ErrNotAdmitted)
	require.ErrorContains(t, err, why)
	require.ErrorContains(t, err, "`tidings dlq")
	require.Zero(t, answer)
	require.Equal(t, before, db.Letters(t))
}

func testBounds[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	none := func(context.Context, Tx) error { t.Error("the effect ran"); return nil }
	of := func(bounds inbox.Bounds, key string) inbox.Admission {
		a := read(key, 0)
		a.Bounds = bounds
		return a
	}
	three := inbox.Bounds{Events: 3}
	a, b := of(three, "o-1"), of(three, "o-2")
	db.park(t, m, a, failed(), inbox.Parked)
	db.park(t, m, b, failed(), inbox.Parked)
	db.expect(t, m, of(three, "o-1"), inbox.Parked)
	db.refused(t, m, of(three, "o-1"), `handler "charge" of group "billing": 3 events are parked, and Bounds.Events is 3`)
	db.refused(t, m, of(three, "o-3"), "3 events are parked")
	before := db.Letters(t)
	_, err := m.Apply(t.Context(), of(three, "o-1"), none)
	require.ErrorIs(t, err, inbox.ErrFull)
	require.Equal(t, before, db.Letters(t))

	// Full is no reason for what writes nothing.
	db.park(t, m, a, failed(), inbox.Parked)
	db.expect(t, m, a, inbox.Parked)
	db.expect(t, m, of(three, "o-4"), inbox.Fresh)
	db.park(t, m, of(three, "o-4"), inbox.Failure{Cause: inbox.CauseBehind}, inbox.Fresh)
	// Nor are another handler's letters, or a bound of another's.
	other := of(three, "o-1")
	other.Handler.Name = "remind"
	db.park(t, m, other, failed(), inbox.Parked)
	db.park(t, m, of(inbox.Bounds{}, "o-5"), failed(), inbox.Parked)

	kept := inbox.Bounds{Bytes: before[0].Bytes}
	db.refused(t, m, of(kept, "o-3"), "bytes are parked, and Bounds.Bytes is ")
	db.park(t, m, of(inbox.Bounds{Bytes: 1 << 20, Events: 100, Age: time.Hour}, "o-6"), failed(), inbox.Parked)

	// Room is found within moments of somebody making it, by any member.
	for _, k := range db.Letters(t) {
		for _, l := range k.Letters {
			if l.Handler == charge {
				again := of(three, string(l.Key))
				again.EventID, again.Letter = parseID(t, l.Event), l.ID
				db.expect(t, m, again, inbox.Fresh)
			}
		}
	}
	c := of(three, "o-7")
	require.Eventually(t, func() bool {
		answer, err := m.Park(t.Context(), c, failed())
		return err == nil && answer == inbox.Parked
	}, 10*time.Second, 20*time.Millisecond)
}

func testBoundOfAge[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	young := func(key string) inbox.Admission {
		a := read(key, 0)
		a.Bounds.Age = time.Hour
		return a
	}
	db.park(t, m, young("o-1"), failed(), inbox.Parked)
	db.park(t, m, young("o-2"), failed(), inbox.Parked)
	db.Age(t, 2*time.Hour)
	// Another member has not looked yet, and does so first.
	db.refused(t, db.Member(t), young("o-1"), "s ago, and Bounds.Age is 1h0m0s")
}
