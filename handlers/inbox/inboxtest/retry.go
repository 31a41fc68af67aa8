package inboxtest

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

func millis(at time.Time) sql.NullInt64 { return sql.NullInt64{Int64: at.UnixMilli(), Valid: true} }

// as returns a as the retry of a letter.
func as(a inbox.Admission, letter int64) inbox.Admission {
	a.Letter = letter
	return a
}

// parkAll parks the first and lets the others go behind it.
func (db *Database[Tx]) parkAll(t *testing.T, m Member[Tx], all ...inbox.Admission) (ids []int64) {
	t.Helper()
	db.park(t, m, all[0], failed(), inbox.Parked)
	for _, a := range all[1:] {
		db.expect(t, m, a, inbox.Parked)
	}
	return db.parked(t, all...)
}

func testRetry[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m, other := db.Member(t), db.Member(t)
	first, a, b, c, d := read("o-1", 1), read("o-1", 2), read("o-1", 3), read("o-1", 4), read("o-1", 5)
	db.expect(t, m, first, inbox.Fresh)
	ids := db.parkAll(t, m, a, b, c)

	db.expect(t, m, as(b, ids[1]), inbox.Gone) // not the first of its key
	db.expect(t, m, as(c, ids[2]), inbox.Gone)
	db.expect(t, m, as(a, ids[2]+100), inbox.Gone)
	db.expect(t, m, as(a, ids[1]), inbox.Gone)
	db.parked(t, a, b, c)

	db.expect(t, m, as(a, ids[0]), inbox.Fresh)
	db.expect(t, other, as(a, ids[0]), inbox.Duplicate) // somebody else was here
	db.expect(t, other, a, inbox.Duplicate)
	head := db.Letters(t)[0]
	require.Equal(t, "behind", head.Cause)
	require.Equal(t, ids[1], head.Head)
	db.expect(t, other, d, inbox.Parked) // what comes meanwhile queues
	db.expect(t, other, as(b, ids[1]), inbox.Fresh)
	db.expect(t, m, as(c, ids[2]), inbox.Fresh)
	last := db.parked(t, d)
	db.expect(t, m, as(d, last[0]), inbox.Fresh)
	db.parked(t)

	// Now the key flows directly again, with all that it knew.
	for _, e := range []inbox.Admission{first, a, b, c, d} {
		db.expect(t, m, e, inbox.Duplicate)
		db.park(t, m, e, failed(), inbox.Duplicate)
	}
	db.expect(t, other, read("o-1", 5), inbox.Late)
	db.expect(t, other, read("o-1", 6), inbox.Fresh)
	effects := db.Effects(t)
	require.Equal(t, []string{first.EventID.String(), a.EventID.String(), b.EventID.String(), c.EventID.String(), d.EventID.String()}, effects[:5])
	require.Len(t, effects, 6)
}

// testRetryLate: a late event is retried whatever its sequence, and moves
// neither sequence nor offset back.
func testRetryLate[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	db.keep(t, m)
	early := read("o-1", 0) // stands before all that follows
	late := read("o-1", 3)
	db.expect(t, m, read("o-1", 5), inbox.Fresh)
	between := read("o-1", 0)
	db.expect(t, m, read("o-1", 6), inbox.Fresh)
	db.expect(t, m, late, inbox.Late)
	db.park(t, m, late, inbox.Failure{Cause: inbox.CauseLate}, inbox.Parked)
	db.expect(t, m, read("o-1", 4), inbox.Parked)
	keys := db.Letters(t)
	fourth := keys[0].Letters[1]
	db.expect(t, m, as(late, keys[0].Head), inbox.Fresh)

	again := read("o-1", 4)
	again.EventID, again.Letter = parseID(t, fourth.Event), fourth.ID
	db.expect(t, m, again, inbox.Fresh)
	db.parked(t)
	db.expect(t, m, read("o-1", 6), inbox.Late)
	db.expect(t, m, read("o-1", 7), inbox.Fresh)
	// Unsequenced ones past retention are judged by the offset: it has not gone back.
	for _, old := range []inbox.Admission{early, between} {
		old.EventID = IDOf(time.Now().Add(-2 * Retention))
		db.expect(t, m, old, inbox.Duplicate)
	}
}

// testParkedOffset: the last offset is known after a key was drained, and an
// event that may be forgotten does not slip behind parked ones.
func testParkedOffset[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	db.keep(t, m)
	old := func(a inbox.Admission) inbox.Admission {
		a.EventID = IDOf(time.Now().Add(-2 * Retention))
		return a
	}
	forgotten, sequenced := old(read("o-1", 0)), old(read("o-1", 1))
	db.expect(t, m, read("o-1", 1), inbox.Fresh)
	a, b := read("o-1", 0), old(read("o-1", 0))
	ids := db.parkAll(t, m, a, b)
	db.expect(t, m, forgotten, inbox.Duplicate) // applied and forgotten long ago
	db.expect(t, m, sequenced, inbox.Duplicate)
	db.parked(t, a, b)
	db.expect(t, m, as(a, ids[0]), inbox.Fresh)
	db.expect(t, m, as(b, ids[1]), inbox.Fresh)
	db.Forget(t)
	db.expect(t, m, b, inbox.Duplicate)
	db.expect(t, m, old(read("o-1", 0)), inbox.Fresh)
}

func testFailedRetry[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	a, b := read("o-1", 1), read("o-1", 2)
	ids := db.parkAll(t, m, a, b)
	again := as(a, ids[0])

	// The letter stays whatever becomes of the effect.
	before := db.Letters(t)
	_, err := m.Apply(t.Context(), again, func(ctx context.Context, tx Tx) error {
		require.NoError(t, db.Put(ctx, tx, "o-1", "never"))
		return errEffect
	})
	require.ErrorIs(t, err, errEffect)
	for range 20 { // more than a pool has connections
		require.PanicsWithValue(t, "nil map", func() {
			_, _ = m.Apply(t.Context(), again, func(ctx context.Context, tx Tx) error {
				require.NoError(t, db.Put(ctx, tx, "o-1", "never"))
				panic("nil map")
			})
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = m.Apply(ctx, again, func(context.Context, Tx) error { cancel(); return nil })
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, inbox.ErrNotAdmitted)
	if db.Aborts {
		_, err = m.Apply(t.Context(), again, func(ctx context.Context, tx Tx) error {
			require.Error(t, db.Fail(ctx, tx))
			return nil
		})
		require.ErrorContains(t, err, "rolled back: a statement of the handler failed and its error was not returned")
		require.NotErrorIs(t, err, inbox.ErrCommitUnknown)
	}
	require.Empty(t, db.Effects(t))
	require.Equal(t, before, db.Letters(t))

	// What is booked: the first failure stays, its place too.
	f := inbox.Failure{Cause: inbox.CauseTimeout, Error: "too slow", Stack: "", Attempts: 1, First: time.UnixMilli(1_761_000_000_000), Last: time.UnixMilli(1_762_000_000_000), Due: time.UnixMilli(1_770_000_000_000)}
	db.park(t, m, again, f, inbox.Parked)
	l := db.Letters(t)[0].Letters[0]
	require.Equal(t, []any{"timeout", "too slow", "", 6, millis(failed().First), millis(f.Last), millis(f.Due)}, []any{l.Cause, l.Error, l.Stack, l.Attempts, l.First, l.Last, l.Due})
	f.Attempts, f.Due, f.Cause, f.Stack = 9, time.Time{}, inbox.CausePanic, "main.go:9"
	db.park(t, m, again, f, inbox.Parked)
	l = db.Letters(t)[0].Letters[0]
	require.Equal(t, []any{"panic", "main.go:9", 9, sql.NullInt64{}}, []any{l.Cause, l.Stack, l.Attempts, l.Due})
	db.parked(t, a, b)

	db.expect(t, m, again, inbox.Fresh)
	db.park(t, m, again, f, inbox.Duplicate)
	db.park(t, m, as(read("o-1", 9), ids[1]), f, inbox.Gone)
	// One that only waited behind has failed for the first time now.
	db.park(t, m, as(b, ids[1]), inbox.Failure{Cause: inbox.CauseError, Error: "no", Last: f.Last}, inbox.Parked)
	l = db.Letters(t)[0].Letters[0]
	require.Equal(t, []any{"error", "no", 1, millis(f.Last), millis(f.Last)}, []any{l.Cause, l.Error, l.Attempts, l.First, l.Last})
	db.expect(t, m, as(b, ids[1]), inbox.Fresh)
	db.parked(t)
	db.park(t, m, as(read("o-1", 9), 9999), f, inbox.Gone)
}

// testDueBehind: a key whose first event was due by itself goes on by itself,
// also when the member that tried it is gone.
func testDueBehind[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	due := failed()
	due.Cause, due.Due = inbox.CauseLater, time.UnixMilli(1_770_000_000_000)
	a, b, c := read("o-1", 1), read("o-1", 2), read("o-1", 3)
	db.park(t, m, a, due, inbox.Parked)
	db.expect(t, m, b, inbox.Parked)
	db.park(t, m, c, failed(), inbox.Parked)
	ids := db.parked(t, a, b, c)
	db.expect(t, m, as(a, ids[0]), inbox.Fresh)
	require.Equal(t, millis(due.Due), db.Letters(t)[0].Due)
	db.expect(t, m, as(b, ids[1]), inbox.Fresh)
	require.False(t, db.Letters(t)[0].Due.Valid, "one that failed waits for somebody")
}

func testLetterAppliedElsewhere[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	record := func(a inbox.Admission) {
		t.Helper()
		require.NoError(t, m.Record(t.Context(), a))
	}
	a, b, c := read("o-1", 1), read("o-1", 2), read("o-1", 3)
	ids := db.parkAll(t, m, a, b, c)
	record(b) // a slow plain handler, which knows of no letter
	db.parked(t, a, b, c)
	db.expect(t, m, as(b, ids[1]), inbox.Duplicate) // also when it is not its turn
	db.parked(t, a, c)
	record(a)
	db.park(t, m, as(a, ids[0]), failed(), inbox.Duplicate)
	db.parked(t, c)
	record(c)
	got, err := m.Look(t.Context(), as(c, ids[2]))
	require.NoError(t, err)
	require.Equal(t, inbox.Duplicate, got)
	db.parked(t)
}

// testLetterAppliedNow: the same event is being applied under another key, which
// the retry learns only when it writes.
func testLetterAppliedNow[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m, holder := db.Member(t), db.Member(t)
	a, b := read("o-1", 1), read("o-1", 2)
	ids := db.parkAll(t, m, a, b)
	elsewhere := a
	elsewhere.Place.Key = []byte("o-2")
	started, release := make(chan struct{}), make(chan struct{})
	held, retried := make(chan error, 1), make(chan inbox.Answer, 1)
	go func() {
		_, err := holder.Apply(t.Context(), elsewhere, func(ctx context.Context, tx Tx) error {
			close(started)
			<-release
			return db.Put(ctx, tx, "o-2", a.EventID.String())
		})
		held <- err
	}()
	<-started
	go func() {
		answer, err := m.Apply(t.Context(), as(a, ids[0]), func(context.Context, Tx) error {
			t.Error("the effect ran twice")
			return errEffect
		})
		if err != nil {
			t.Error(err)
		}
		retried <- answer
	}()
	select {
	case answer := <-retried:
		t.Errorf("the retry did not wait: %q", answer)
	case <-time.After(100 * time.Millisecond):
	}
	close(release)
	require.NoError(t, <-held)
	require.Equal(t, inbox.Duplicate, <-retried)
	db.parked(t, b)
	require.Equal(t, []string{a.EventID.String()}, db.Effects(t))
}

func testRetryEndedByEffect[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	a, b := read("o-1", 1), read("o-1", 2)
	ids := db.parkAll(t, m, a, b)
	_, err := m.Apply(t.Context(), as(a, ids[0]), func(ctx context.Context, tx Tx) error {
		require.NoError(t, db.Put(ctx, tx, "o-1", a.EventID.String()))
		return db.Commit(ctx, tx)
	})
	require.ErrorContains(t, err, "the handler ended the transaction itself; leave commit and rollback to the inbox")
	db.parked(t, a, b) // and the row went with the effect
	db.expect(t, m, as(a, ids[0]), inbox.Duplicate)
	db.parked(t, b)
	require.Len(t, db.Effects(t), 1)
}

func testLedgerRetry[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	look := func(a inbox.Admission, want inbox.Answer) {
		t.Helper()
		got, err := m.Look(t.Context(), a)
		require.NoError(t, err)
		require.Equal(t, want.String(), got.String())
	}
	a, b, c := read("o-1", 4), read("o-1", 2), read("o-1", 5)
	db.expect(t, m, read("o-1", 3), inbox.Fresh)
	ids := db.parkAll(t, m, a, b)
	before := db.Letters(t)
	look(c, inbox.Parked)
	look(as(a, ids[0]), inbox.Fresh)
	look(as(b, ids[1]), inbox.Gone)
	look(as(a, 9999), inbox.Gone)
	require.Equal(t, before, db.Letters(t), "to look changes nothing")
	for range 2 {
		require.NoError(t, m.Record(t.Context(), as(a, ids[0])))
		db.parked(t, b)
	}
	look(as(a, ids[0]), inbox.Duplicate)
	look(as(b, ids[1]), inbox.Fresh) // whatever its sequence
	require.NoError(t, m.Record(t.Context(), as(b, ids[1])))
	db.parked(t)
	look(b, inbox.Duplicate)
	look(c, inbox.Fresh)
	look(read("o-1", 4), inbox.Late)
	require.Equal(t, []int{1}, db.Rows(t, a.EventID))
}

// testStore reads by the member's store what the member parked, and retries it
// from there.
func testStore[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	store := m.Letters()
	require.Equal(t, m.ID(), store.ID(), "the runner finds the store of a handler's inbox")
	require.Equal(t, m.Letters().ID(), store.ID())
	long := make([]byte, 5000)
	for _, key := range [][]byte{[]byte("o-1"), nil, long} {
		a := read("", 3)
		a.Place.Key, a.Message.Record.Key = key, key
		a.Message.Record.Headers = []event.KafkaHeader{{Key: "a\xff", Value: []byte{0}}, {Key: "b"}}
		a.Handler.Epoch = 2
		f := failed()
		f.Due = time.UnixMilli(1_770_000_000_500)
		db.park(t, m, a, f, inbox.Parked)
		keys, err := store.Keys(t.Context(), deadletter.Filter{Group: billing}, 0, 10)
		require.NoError(t, err)
		require.Len(t, keys, 1)
		require.Equal(t, int64(1), keys[0].Events)
		letters, err := store.Letters(t.Context(), keys[0].ID, 0, 10)
		require.NoError(t, err)
		require.Len(t, letters, 1)
		l := letters[0]
		require.Equal(t, keys[0].Head, l.ID)
		require.Equal(t, a.Handler, l.Handler)
		require.Equal(t, a.Place, l.Place)
		require.Equal(t, a.Message.Record, l.Record)
		require.True(t, a.Message.Time.Equal(l.Time))
		require.Equal(t, []any{a.EventID, a.Type, a.Source, a.AggregateType, a.AggregateID, a.Sequence},
			[]any{l.EventID, l.Type, l.Source, l.AggregateType, l.AggregateID, l.Sequence})
		require.Equal(t, []any{f.Cause, f.Error, f.Stack, f.Attempts}, []any{l.Cause, l.Error, l.Stack, l.Attempts})
		require.True(t, f.First.Equal(l.First) && f.Last.Equal(l.Last) && f.Due.Equal(l.Due))

		again := inbox.Admission{Handler: l.Handler, Place: l.Place, Attempt: l.Attempts + 1, EventID: l.EventID, Letter: l.ID}
		got, err := m.Apply(t.Context(), again, func(ctx context.Context, tx Tx) error { return db.Put(ctx, tx, "raw", "e") })
		require.NoError(t, err)
		require.Equal(t, inbox.Fresh, got)
		db.parked(t)
	}

	// What is discarded is settled, and those behind it are next.
	a, b := read("o-2", 1), read("o-2", 2)
	ids := db.parkAll(t, m, a, b)
	require.NoError(t, store.Discard(t.Context(), ids[0], deadletter.Act{Who: "jo", Reason: "a test order"}))
	db.parked(t, b)
	db.expect(t, m, a, inbox.Duplicate)
	db.park(t, m, a, failed(), inbox.Duplicate)
	db.expect(t, m, as(a, ids[0]), inbox.Duplicate)
	db.expect(t, m, as(b, ids[1]), inbox.Fresh)
	db.expect(t, m, read("o-2", 3), inbox.Fresh)
}
