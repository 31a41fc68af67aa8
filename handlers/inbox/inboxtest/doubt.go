package inboxtest

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/handlers/inbox"
)

// testParkingInDoubt cuts the line at the COMMIT of each act, which is the last
// request that the act makes.
func testParkingInDoubt[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	if db.LossyMember == nil {
		t.Skip("a commit in this process has no reply to lose")
	}
	m, line := db.LossyMember(t)
	var a inbox.Admission
	none := func(context.Context, Tx) error { t.Error("the effect ran"); return errEffect }
	put := func(ctx context.Context, tx Tx) error { return db.Put(ctx, tx, "k", a.EventID.String()) }
	for _, act := range []struct {
		name    string
		prepare func()
		act     func() (inbox.Answer, error)
		settle  func(t *testing.T)
	}{{
		name:    "park",
		prepare: func() { a = read("o-"+newID().String(), 1) },
		act:     func() (inbox.Answer, error) { return m.Park(t.Context(), a, failed()) },
		settle: func(t *testing.T) {
			t.Helper()
			db.park(t, m, a, failed(), inbox.Parked)
			db.expect(t, m, a, inbox.Parked)
			require.Equal(t, 1, db.letters(t, a))
		},
	}, {
		name: "behind",
		prepare: func() {
			a = read("o-"+newID().String(), 2)
			db.park(t, m, read(string(a.Place.Key), 1), failed(), inbox.Parked)
		},
		act: func() (inbox.Answer, error) { return m.Apply(t.Context(), a, none) },
		settle: func(t *testing.T) {
			t.Helper()
			db.expect(t, m, a, inbox.Parked)
			require.Equal(t, 1, db.letters(t, a))
		},
	}, {
		name: "retry",
		prepare: func() {
			a = read("o-"+newID().String(), 1)
			db.park(t, m, a, failed(), inbox.Parked)
			keys := db.Letters(t)
			a.Letter = keys[len(keys)-1].Head
		},
		act: func() (inbox.Answer, error) { return m.Apply(t.Context(), a, put) },
		settle: func(t *testing.T) {
			t.Helper()
			want := inbox.Fresh
			if len(db.Rows(t, a.EventID)) == 1 {
				want = inbox.Duplicate
			}
			db.expect(t, m, a, want)
			db.expect(t, m, a, inbox.Duplicate)
			require.Equal(t, 0, db.letters(t, a))
		},
	}} {
		for name, cut := range map[string]func(after int64){
			", before COMMIT arrives":     line.CutRequest,
			", after COMMIT was answered": line.CutReply,
		} {
			t.Run(act.name+name, func(t *testing.T) {
				require.ErrorIs(t, inDoubt(line, cut, act.prepare, act.act), inbox.ErrCommitUnknown)
				act.settle(t) // asking again does
			})
		}
	}
}

// inDoubt does act, to count its requests, and again with a cut at the last one,
// until that is what fails: now and then a driver asks first whether its
// connection lives.
func inDoubt(line *Line, cut func(after int64), prepare func(), act func() (inbox.Answer, error)) error {
	for {
		var requests int64
		for range 2 { // the first one may connect and prepare
			prepare()
			start := line.Requests()
			if _, err := act(); err != nil {
				return err
			}
			requests = line.Requests() - start
		}
		prepare()
		cut(requests - 1)
		_, err := act()
		line.Spare() // where it asked less often than before
		if err != nil && !errors.Is(err, inbox.ErrNotAdmitted) {
			return err
		}
	}
}

// letters returns how often a is parked.
func (db *Database[Tx]) letters(t *testing.T, a inbox.Admission) (n int) {
	t.Helper()
	for _, k := range db.Letters(t) {
		for _, l := range k.Letters {
			if l.Event == a.EventID.String() {
				n++
			}
		}
	}
	return n
}
