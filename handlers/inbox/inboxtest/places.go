package inboxtest

import (
	"context"
	"crypto/rand"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/handlers/inbox"
)

// testUnknownPlace: other subscribers than ours may not know partition and
// offset, and say -1 for both.
func testUnknownPlace[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	db.keep(t, m)
	old := func(partition int32, offset int64) inbox.Admission {
		a := admission("o-1", 0)
		a.EventID = IDOf(time.Now().Add(-2 * Retention))
		a.Place.Partition, a.Place.Offset = partition, offset
		return a
	}
	for range 3 {
		a := old(-1, -1)
		db.expect(t, m, a, inbox.Fresh)
		db.expect(t, m, a, inbox.Duplicate)
	}
	// A driver of another's may know the partition only.
	db.expect(t, m, old(3, -1), inbox.Fresh)
	db.expect(t, m, old(3, 7), inbox.Fresh)
	db.expect(t, m, old(3, -1), inbox.Fresh)
	db.expect(t, m, old(3, 7), inbox.Duplicate)
	db.expect(t, m, old(3, 0), inbox.Duplicate)
	db.Forget(t)
	foreign := old(-1, -1)
	foreign.EventID = uuid.New()
	db.expect(t, m, foreign, inbox.Fresh)
}

// testTopicMadeAnew: a topic that was deleted and made again starts at offset 0.
func testTopicMadeAnew[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	db.keep(t, m)
	at := func(offset int64, age time.Duration) inbox.Admission {
		a := admission("o-1", 0)
		a.Place.Offset, a.EventID = offset, IDOf(time.Now().Add(-age))
		return a
	}
	db.expect(t, m, at(1000, 0), inbox.Fresh)
	db.expect(t, m, at(3, 0), inbox.Fresh) // its ID would be known: so offsets began anew
	db.expect(t, m, at(4, 2*Retention), inbox.Fresh)
	db.expect(t, m, at(2, 2*Retention), inbox.Duplicate)
}

// testNoTime: an ID that is no UUIDv7 may be one that was forgotten, as soon as
// its key is older than retention. Then its offset judges.
func testNoTime[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	db.keep(t, m)
	foreign := func(key string, sequence int64) inbox.Admission {
		a := admission(key, sequence)
		a.EventID = uuid.New()
		return a
	}
	early := foreign("o-1", 0)
	db.expect(t, m, foreign("o-1", 0), inbox.Fresh)
	db.expect(t, m, early, inbox.Fresh) // nothing of a young key is forgotten

	first, second := foreign("o-2", 0), foreign("o-3", 4)
	db.expect(t, m, first, inbox.Fresh)
	db.expect(t, m, second, inbox.Fresh)
	db.Forget(t)
	db.expect(t, m, first, inbox.Duplicate)
	db.expect(t, m, second, inbox.Duplicate)
	db.expect(t, m, foreign("o-2", 0), inbox.Fresh)
	db.expect(t, m, foreign("o-3", 4), inbox.Late) // further on in the log: disorder
	db.expect(t, m, foreign("o-3", 5), inbox.Fresh)
}

// testLongKeys: Kafka's keys and the names in an event have no bound of ours,
// and an index has.
func testLongKeys[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	expect := func(a inbox.Admission, want inbox.Answer) {
		t.Helper()
		got, err := m.Apply(t.Context(), a, func(ctx context.Context, tx Tx) error {
			return db.Put(ctx, tx, "raw", a.EventID.String()) // the effects' keys are text
		})
		require.NoError(t, err)
		require.Equal(t, want.String(), got.String())
	}
	long := func(n int) string {
		b := make([]byte, n)
		_, _ = rand.Read(b) // nothing that compresses
		for i := range b {
			b[i] = 'a' + b[i]%26
		}
		return string(b)
	}
	for _, n := range []int{999, 1000, 1001, 2704, 16 << 10} {
		key := make([]byte, n)
		_, _ = rand.Read(key)
		first, second := admission("o-1", 2), admission("o-1", 1)
		first.Place.Key, second.Place.Key = key, key
		expect(first, inbox.Fresh)
		expect(first, inbox.Duplicate)
		expect(second, inbox.Late)
		other := admission("o-1", 1)
		other.Place.Key = append([]byte{^key[0]}, key[1:]...)
		expect(other, inbox.Fresh)

		source, typ, id := long(n), long(n), long(n) // a further stream of the key
		for i, want := range []inbox.Answer{inbox.Fresh, inbox.Late} {
			a := admission("", int64(3-i))
			a.Place.Key, a.Source, a.AggregateType, a.AggregateID = key, source, typ, id
			expect(a, want)
		}
	}
}

// testRefused: what the database refuses for the event's own sake is no outage,
// which would be waited out for ever.
func testRefused[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	if db.Invalid == "" {
		t.Skip("the database takes every event")
	}
	m := db.Member(t)
	a := admission("o-1", 1)
	a.AggregateID = db.Invalid
	none := func(context.Context, Tx) error { t.Error("the effect ran"); return nil }
	_, err := m.Apply(t.Context(), a, none)
	require.Error(t, err)
	require.NotErrorIs(t, err, inbox.ErrNotAdmitted)
	_, err = m.Look(t.Context(), a)
	require.Error(t, err)
	require.NotErrorIs(t, err, inbox.ErrNotAdmitted)
	db.expect(t, m, admission("o-1", 1), inbox.Fresh)
}
