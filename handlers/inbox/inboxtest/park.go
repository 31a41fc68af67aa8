package inboxtest

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// read returns an admission with its message.
func read(key string, sequence int64) inbox.Admission {
	a := admission(key, sequence)
	a.Type = "order.placed"
	a.Message = &inbox.Message{
		Record: event.KafkaRecord{
			Key: a.Place.Key, Value: []byte(`{"order":"` + a.EventID.String() + `"}`),
			Headers: []event.KafkaHeader{{Key: "ce_id", Value: []byte(a.EventID.String())}},
		},
		Time: time.UnixMilli(1_750_000_000_123),
	}
	return a
}

// failed returns what is told of an event whose tries were spent.
func failed() inbox.Failure {
	return inbox.Failure{
		Cause: inbox.CauseError, Error: "card declined", Stack: "main.go:7", Attempts: 5,
		First: time.UnixMilli(1_760_000_000_001), Last: time.UnixMilli(1_760_000_000_999),
	}
}

// park parks a and demands an answer.
func (db *Database[Tx]) park(t *testing.T, m Member[Tx], a inbox.Admission, f inbox.Failure, want inbox.Answer) {
	t.Helper()
	got, err := m.Park(t.Context(), a, f)
	require.NoError(t, err)
	require.Equal(t, want.String(), got.String())
}

// parked demands that exactly these are parked, in this order within their key,
// all of one key, and returns their IDs.
func (db *Database[Tx]) parked(t *testing.T, want ...inbox.Admission) (ids []int64) {
	t.Helper()
	keys := db.Letters(t)
	if len(want) == 0 {
		require.Empty(t, keys)
		return nil
	}
	require.Len(t, keys, 1)
	events := make([]string, 0, len(want))
	for _, a := range want {
		events = append(events, a.EventID.String())
	}
	found := make([]string, 0, len(want))
	for _, l := range keys[0].Letters {
		found = append(found, l.Event)
		ids = append(ids, l.ID)
	}
	require.Equal(t, events, found)
	return ids
}

func testPark[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m, other := db.Member(t), db.Member(t)
	a := make([]inbox.Admission, 7)
	for i := range a {
		a[i] = read("o-1", int64(i+1))
	}
	db.expect(t, m, a[0], inbox.Fresh)
	db.park(t, m, a[1], failed(), inbox.Parked)
	db.expect(t, other, a[2], inbox.Parked)
	db.expect(t, m, a[3], inbox.Parked)
	db.parked(t, a[1], a[2], a[3])

	// Whatever comes again changes nothing.
	for _, again := range a[1:4] {
		again.Place.Offset += 1000 // published twice
		again.Attempt = 3
		db.expect(t, other, again, inbox.Parked)
		db.park(t, other, again, failed(), inbox.Parked)
		db.park(t, m, again, inbox.Failure{Cause: inbox.CauseBehind}, inbox.Parked)
	}
	before := db.Letters(t)
	db.expect(t, m, a[0], inbox.Duplicate)
	db.park(t, m, a[0], failed(), inbox.Duplicate)

	// Without its message nothing is written, and Park does it.
	bare := a[4]
	bare.Message = nil
	db.expect(t, m, bare, inbox.Parked)
	require.Equal(t, before, db.Letters(t))
	db.park(t, m, a[4], inbox.Failure{Cause: inbox.CauseBehind}, inbox.Parked)

	late := read("o-1", 1) // goes behind them too
	db.expect(t, m, late, inbox.Parked)
	db.park(t, m, a[5], failed(), inbox.Parked) // its tries were spent before a[1] was parked
	db.parked(t, a[1], a[2], a[3], a[4], late, a[5])

	// Other keys, handlers, epochs and groups are untouched.
	db.expect(t, m, read("o-2", 1), inbox.Fresh)
	for _, h := range []inbox.Handler{{Group: "shipping", Name: charge}, {Group: billing, Name: "remind"}, {Group: billing, Name: charge, Epoch: 1}} {
		for _, b := range a[:3] {
			b.Handler = h
			db.expect(t, m, b, inbox.Fresh)
		}
	}
	_, err := m.Park(t.Context(), bare, failed())
	require.ErrorContains(t, err, "Admission.Message is nil; give the message as it was read")
	_, err = m.Park(t.Context(), read("o-2", 2), inbox.Failure{})
	require.ErrorContains(t, err, "Failure.Cause is empty; say why, as by inbox.CauseError")
}

func testParkedRecord[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	a, f := read("o-1", 7), failed()
	f.Due = time.UnixMilli(1_770_000_000_500)
	a.Message.Record.Headers = []event.KafkaHeader{{Key: "a", Value: []byte{0, 255}}, {Key: "a"}, {Key: "b", Value: []byte{}}, {Key: "c\x00\xff", Value: []byte("x")}}
	db.park(t, m, a, f, inbox.Parked)
	k := db.Letters(t)[0]
	require.Equal(t, []byte("o-1"), k.Raw)
	l := k.Letters[0]
	require.JSONEq(t, `[["a","AP8="],["a",null],["b",""],["c\ufffd\ufffd","eA==","YwD/"]]`, l.Headers)
	l.Headers, l.parent = "", 0
	require.Equal(t, Letter{
		ID: l.ID, Group: billing, Handler: charge, Event: a.EventID.String(), Type: "order.placed", Topic: order, Offset: a.Place.Offset,
		Key: a.Place.Key, Value: a.Message.Record.Value, Bytes: int64(len("o-1") + len(a.Message.Record.Value) + 9),
		Cause: "error", Error: "card declined", Stack: "main.go:7", Attempts: 5,
		First: millis(f.First), Last: millis(f.Last), Due: millis(f.Due),
	}, l)

	// What no column of text takes is parked all the same: nothing is dropped.
	odd := read("o-2", 1)
	odd.Message.Record.Value = nil
	odd.AggregateID, odd.Source, odd.Type = "o\x00", "/\xff", "t\x00"
	db.park(t, m, odd, inbox.Failure{Cause: inbox.CauseError, Error: "bad \x00\xff", Stack: "\x00"}, inbox.Parked)
	l = db.Letters(t)[1].Letters[0]
	require.Nil(t, l.Value)
	require.Equal(t, "bad \uFFFD\uFFFD", l.Error)
	require.False(t, l.First.Valid || l.Last.Valid || l.Due.Valid)
}

func testParkRace[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m, successor := db.Member(t), db.Member(t)
	a, next := read("o-1", 1), read("o-1", 2)
	// The old owner's tries are spent while its successor applies the event.
	db.expect(t, successor, a, inbox.Fresh)
	db.park(t, m, a, failed(), inbox.Duplicate)
	db.park(t, m, next, inbox.Failure{Cause: inbox.CauseBehind}, inbox.Fresh)
	db.parked(t)
	db.expect(t, m, next, inbox.Fresh)

	// Parking waits for the key, and judges by what was committed meanwhile.
	third := read("o-1", 3)
	started, release := make(chan struct{}), make(chan struct{})
	held := make(chan error, 1)
	go func() {
		_, err := successor.Apply(t.Context(), third, func(ctx context.Context, tx Tx) error {
			close(started)
			<-release
			return db.Put(ctx, tx, "o-1", third.EventID.String())
		})
		held <- err
	}()
	<-started
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := m.Park(ctx, third, failed())
	require.ErrorIs(t, err, inbox.ErrNotAdmitted)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	answer := make(chan inbox.Answer, 1)
	go func() {
		got, err := m.Park(t.Context(), third, failed())
		if err != nil {
			t.Error(err)
		}
		answer <- got
	}()
	close(release)
	require.NoError(t, <-held)
	require.Equal(t, inbox.Duplicate, <-answer)
	db.parked(t)
}

func testParkedKeyless[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	for _, key := range [][]byte{nil, {}} {
		a, b, c := read("", 1), read("", 2), read("", 3)
		for _, e := range []*inbox.Admission{&a, &b, &c} {
			e.Place.Key, e.Message.Record.Key = key, key
		}
		db.park(t, m, a, failed(), inbox.Parked)
		db.park(t, m, b, failed(), inbox.Parked)
		db.expect(t, m, c, inbox.Fresh) // nothing waits for an event without a key
		for _, again := range []inbox.Admission{a, b} {
			db.expect(t, m, again, inbox.Parked)
			db.park(t, m, again, failed(), inbox.Parked)
			got, err := m.Look(t.Context(), again)
			require.NoError(t, err)
			require.Equal(t, inbox.Parked, got)
		}
		db.park(t, m, c, failed(), inbox.Duplicate)
		db.park(t, m, c, inbox.Failure{Cause: inbox.CauseBehind}, inbox.Duplicate)
		keys := db.Letters(t)
		require.Len(t, keys, 2)
		require.True(t, keys[0].Keyless && keys[1].Keyless)
		require.Nil(t, keys[0].Raw)

		second := b // each is the first of its own
		second.Letter = keys[1].Head
		db.expect(t, m, second, inbox.Fresh)
		db.expect(t, m, b, inbox.Duplicate)
		db.expect(t, m, a, inbox.Parked)
		a.Letter = keys[0].Head
		db.expect(t, m, a, inbox.Fresh)
		db.parked(t)
	}
	db.park(t, m, func() inbox.Admission { a := read("", 1); a.Place.Key = nil; return a }(), inbox.Failure{Cause: inbox.CauseBehind}, inbox.Fresh)
}

func testUndecodable[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	place := func(key []byte) inbox.Admission {
		p := inbox.Place{Topic: order, Partition: 3, Offset: offsets.Add(1), Key: key}
		return inbox.Admission{
			Handler: owner, Place: p, Attempt: 1, EventID: inbox.MessageID(p.Topic, p.Partition, p.Offset),
			Message: &inbox.Message{Record: event.KafkaRecord{Key: key, Value: []byte{0xff, 0}}, Time: time.UnixMilli(1)},
		}
	}
	broken := inbox.Failure{Cause: inbox.CauseUndecodable, Error: "no ce_id"}
	a := place([]byte("o-1"))
	db.expect(t, m, read("o-1", 1), inbox.Fresh)
	db.park(t, m, a, broken, inbox.Parked)
	db.park(t, m, a, broken, inbox.Parked)
	b := read("o-1", 2)
	db.expect(t, m, b, inbox.Parked) // its raw key holds back what follows
	db.parked(t, a, b)
	db.park(t, m, place(nil), broken, inbox.Parked)
	require.Len(t, db.Letters(t), 2)
	a.Letter = db.Letters(t)[0].Head
	db.expect(t, m, a, inbox.Fresh)
	db.expect(t, m, b, inbox.Parked)
}

func testLongParkedKeys[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	key := make([]byte, 16<<10)
	for i := range key {
		key[i] = byte(i * 7)
	}
	apply := func(a inbox.Admission, want inbox.Answer) {
		t.Helper()
		got, err := m.Apply(t.Context(), a, func(ctx context.Context, tx Tx) error { return db.Put(ctx, tx, "raw", a.EventID.String()) })
		require.NoError(t, err)
		require.Equal(t, want.String(), got.String())
	}
	long := func(sequence int64) inbox.Admission {
		a := read("", sequence)
		a.Place.Key, a.Message.Record.Key = key, key
		a.AggregateID = string(make([]byte, 0, 5000))
		return a
	}
	a, b, c := long(1), long(2), long(3)
	db.park(t, m, a, failed(), inbox.Parked)
	apply(b, inbox.Parked)
	apply(a, inbox.Parked)
	ids := db.parked(t, a, b)
	k := db.Letters(t)[0]
	require.Equal(t, key, k.Raw)
	require.Equal(t, key, k.Letters[1].Key)
	for i, e := range []inbox.Admission{a, b} {
		e.Letter = ids[i]
		apply(e, inbox.Fresh)
	}
	apply(c, inbox.Fresh)
	db.parked(t)
}

func testIndependentLetters[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	a := read("o-1", 1)
	handlers := []inbox.Handler{owner, {Group: billing, Name: "remind"}, {Group: billing, Name: charge, Epoch: 1}, {Group: "shipping", Name: charge}}
	for _, h := range handlers {
		a.Handler = h
		db.park(t, m, a, failed(), inbox.Parked)
	}
	keys := db.Letters(t)
	require.Len(t, keys, len(handlers))
	a.Handler, a.Letter = handlers[0], keys[1].Head // the letter of another handler
	db.expect(t, m, a, inbox.Gone)
	a.Letter = keys[0].Head
	db.expect(t, m, a, inbox.Fresh)
	require.Len(t, db.Letters(t), len(handlers)-1)
	next := read("o-1", 2)
	for i, h := range handlers {
		next.Handler = h
		want := inbox.Parked
		if i == 0 {
			want = inbox.Fresh
		}
		db.expect(t, m, next, want)
	}
	other := a
	other.EventID, other.Letter, other.Handler = uuid.Must(uuid.NewV7()), keys[1].Head, handlers[1]
	db.expect(t, m, other, inbox.Gone) // the letter of another event
	other = a
	other.Place.Key, other.Letter, other.Handler = []byte("o-2"), keys[1].Head, handlers[1]
	db.expect(t, m, other, inbox.Gone) // under another key: its lock is not held
	before := db.Letters(t)
	db.park(t, m, other, failed(), inbox.Gone)
	require.Equal(t, before, db.Letters(t))
}
