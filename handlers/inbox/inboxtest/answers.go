package inboxtest

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/handlers/inbox"
)

func testAnswers[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	require.NoError(t, m.Check(t.Context()))
	first, second := admission("o-1", 1), admission("o-1", 2)
	db.expect(t, m, first, inbox.Fresh)
	db.expect(t, m, first, inbox.Duplicate)
	db.expect(t, m, second, inbox.Fresh)
	db.expect(t, m, first, inbox.Duplicate)
	db.expect(t, m, admission("o-1", 2), inbox.Late)
	db.expect(t, m, admission("o-1", 1), inbox.Late)
	db.expect(t, m, admission("o-1", 0), inbox.Fresh) // has no sequence
	db.expect(t, m, admission("o-1", 2), inbox.Late)
	db.expect(t, m, admission("o-1", 7), inbox.Fresh) // a gap is no disorder
	db.expect(t, m, admission("o-1", 3), inbox.Late)
	db.expect(t, m, admission("o-2", 1), inbox.Fresh) // another key
	again := second
	again.Place.Offset, again.Place.Partition, again.Attempt = 9999, 5, 4 // published twice
	db.expect(t, m, again, inbox.Duplicate)
	again.Place.Topic = "order-copy"
	db.expect(t, m, again, inbox.Duplicate)

	foreign := admission("o-3", 0)
	foreign.EventID = uuid.New() // not a UUIDv7
	db.expect(t, m, foreign, inbox.Fresh)
	db.expect(t, m, foreign, inbox.Duplicate)

	tried := admission("o-4", 1)
	tried.Attempt = 3
	db.expect(t, m, tried, inbox.Fresh)
	require.Equal(t, []int{3}, db.Rows(t, tried.EventID))
	require.Equal(t, []int{1}, db.Rows(t, first.EventID))
}

func testStreams[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	of := func(source, typ, id string, sequence int64) inbox.Admission {
		a := admission("tenant-1", sequence)
		a.Source, a.AggregateType, a.AggregateID = source, typ, id
		return a
	}
	db.expect(t, m, of("/a", order, "1", 5), inbox.Fresh)
	for _, other := range [][3]string{{"/b", order, "1"}, {"/a", "invoice", "1"}, {"/a", order, "2"}, {"", "", ""}} {
		db.expect(t, m, of(other[0], other[1], other[2], 2), inbox.Fresh)
		db.expect(t, m, of(other[0], other[1], other[2], 2), inbox.Late)
		db.expect(t, m, of(other[0], other[1], other[2], 3), inbox.Fresh)
		db.expect(t, m, of(other[0], other[1], other[2], 1), inbox.Late)
	}
	db.expect(t, m, of("/a", order, "1", 5), inbox.Late)
	db.expect(t, m, of("/a", order, "1", 6), inbox.Fresh)
	db.expect(t, m, of("/b", order, "1", 3), inbox.Late)
}

func testIsolation[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	a := admission("o-1", 4)
	db.expect(t, m, a, inbox.Fresh)
	for _, h := range []inbox.Handler{
		{Group: "shipping", Name: charge},
		{Group: billing, Name: "remind"},
		{Group: billing, Name: charge, Epoch: 1},
	} {
		b := a
		b.Handler = h
		db.expect(t, m, b, inbox.Fresh)
		db.expect(t, m, b, inbox.Duplicate)
		late := admission("o-1", 4)
		late.Handler = h
		db.expect(t, m, late, inbox.Late)
	}
	db.expect(t, m, a, inbox.Duplicate)
	require.Len(t, db.Rows(t, a.EventID), 4)
}

func testKeyless[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	for _, key := range [][]byte{nil, {}} {
		first, second := admission("", 2), admission("", 1)
		first.Place.Key, second.Place.Key = key, key
		db.expect(t, m, first, inbox.Fresh)
		db.expect(t, m, first, inbox.Duplicate)
		db.expect(t, m, second, inbox.Fresh) // no order, so nothing is late
	}
}

func testParked[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	applied := admission("o-1", 1)
	db.expect(t, m, applied, inbox.Fresh)
	db.Park(t, 2)
	db.expect(t, m, admission("o-1", 2), inbox.Parked)
	db.expect(t, m, admission("o-1", 1), inbox.Parked) // also what is late goes behind them
	db.expect(t, m, applied, inbox.Duplicate)
	db.expect(t, m, admission("o-2", 1), inbox.Fresh)
	db.Park(t, 0)
	db.expect(t, m, admission("o-1", 2), inbox.Fresh)
}

func testPastRetention[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	db.keep(t, m)
	aged := func(a inbox.Admission, age time.Duration) inbox.Admission {
		a.EventID = IDOf(time.Now().Add(-age))
		return a
	}
	const young, old, past = Retention / 4, Retention * 3 / 4, Retention * 5 / 4

	// Known IDs are duplicates at any age, from the past and the future.
	for i, age := range []time.Duration{young, old, past, 20 * Retention, -Retention, -100 * Retention} {
		a := aged(admission("o-1", int64(i+1)), age)
		db.expect(t, m, a, inbox.Fresh)
		db.expect(t, m, a, inbox.Duplicate)
	}
	// Unknown ones that are sequenced: within retention that is disorder, past
	// it the row is gone and the sequence judges.
	db.expect(t, m, aged(admission("o-1", 3), young), inbox.Late)
	db.expect(t, m, aged(admission("o-1", 3), old), inbox.Late)
	db.expect(t, m, aged(admission("o-1", 3), past), inbox.Duplicate)
	db.expect(t, m, aged(admission("o-1", 9), past), inbox.Fresh)
	foreign := admission("o-1", 3)
	foreign.EventID = uuid.New()
	db.expect(t, m, foreign, inbox.Late) // its age is unknown: never dropped

	// Unsequenced: the offset judges, per partition.
	early, late := admission("o-2", 0), admission("o-2", 0)
	db.expect(t, m, late, inbox.Fresh)
	db.expect(t, m, aged(early, past), inbox.Duplicate)
	elsewhere := early
	elsewhere.Place.Partition++
	db.expect(t, m, aged(elsewhere, past), inbox.Fresh)
	db.expect(t, m, aged(admission("o-2", 0), past), inbox.Fresh)
	db.expect(t, m, aged(early, young), inbox.Fresh) // its ID would still be known
	db.expect(t, m, aged(early, past), inbox.Duplicate)

	// What was pruned is judged the same way.
	pruned := aged(admission("o-3", 1), past)
	db.expect(t, m, pruned, inbox.Fresh)
	db.Forget(t)
	db.expect(t, m, pruned, inbox.Duplicate)
}

func testLedger[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	look := func(a inbox.Admission, want inbox.Answer) {
		t.Helper()
		got, err := m.Look(t.Context(), a)
		require.NoError(t, err)
		require.Equal(t, want.String(), got.String())
	}
	record := func(a inbox.Admission) {
		t.Helper()
		require.NoError(t, m.Record(t.Context(), a))
	}
	a, b := admission("o-1", 5), admission("o-1", 3)
	look(a, inbox.Fresh)
	look(a, inbox.Fresh)
	require.Empty(t, db.Rows(t, a.EventID), "to look changes nothing")
	record(a)
	record(a)
	look(a, inbox.Duplicate)
	db.expect(t, m, a, inbox.Duplicate)
	require.Equal(t, []int{1}, db.Rows(t, a.EventID))

	look(b, inbox.Late)
	record(b) // its effect happened: that is known, and moves no sequence back
	look(b, inbox.Duplicate)
	look(admission("o-1", 4), inbox.Late)
	look(admission("o-1", 6), inbox.Fresh)

	db.Park(t, 1)
	c := admission("o-1", 6)
	look(c, inbox.Parked)
	record(c)
	look(c, inbox.Duplicate)

	keyless := admission("", 0)
	look(keyless, inbox.Fresh)
	record(keyless)
	look(keyless, inbox.Duplicate)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := m.Look(ctx, admission("o-2", 1))
	require.ErrorIs(t, err, inbox.ErrNotAdmitted)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, m.Record(ctx, admission("o-2", 1)), context.Canceled)
}
