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
	effect := func(ctx context.Context, tx Tx) error { return db.Put(ctx, tx, "k", "e") }
	none := func(context.Context, Tx) error { t.Error("the effect ran"); return nil }
	acts := map[string]func(t *testing.T, cut func(after int64)){
		"park": func(t *testing.T, cut func(int64)) {
			a := read("o-1", 1)
			_, err := inDoubt(line, cut, func() (inbox.Answer, error) {
				a = read("o-"+a.EventID.String(), 1)
				return m.Park(t.Context(), a, failed())
			})
			require.ErrorIs(t, err, inbox.ErrCommitUnknown)
			db.park(t, m, a, failed(), inbox.Parked) // asking again settles it
			db.expect(t, m, a, inbox.Parked)
			require.Equal(t, 1, db.letters(t, a))
		},
		"behind": func(t *testing.T, cut func(int64)) {
			key := "o-" + newID().String()
			db.park(t, m, read(key, 1), failed(), inbox.Parked)
			var a inbox.Admission
			_, err := inDoubt(line, cut, func() (inbox.Answer, error) {
				a = read(key, 2)
				return m.Apply(t.Context(), a, none)
			})
			require.ErrorIs(t, err, inbox.ErrCommitUnknown)
			db.expect(t, m, a, inbox.Parked)
			require.Equal(t, 1, db.letters(t, a))
		},
		"retry": func(t *testing.T, cut func(int64)) {
			var a inbox.Admission
			park := func() {
				a = read("o-"+newID().String(), 1)
				db.park(t, m, a, failed(), inbox.Parked)
				keys := db.Letters(t)
				a.Letter = keys[len(keys)-1].Head
			}
			park()
			_, err := inDoubt(line, cut, func() (inbox.Answer, error) {
				answer, err := m.Apply(t.Context(), a, effect)
				if err == nil {
					start := line.Requests()
					park()
					return answer, errNotCounted{line.Requests() - start}
				}
				return answer, err
			})
			require.ErrorIs(t, err, inbox.ErrCommitUnknown)
			want := inbox.Fresh
			if len(db.Rows(t, a.EventID)) == 1 {
				want = inbox.Duplicate
			}
			db.expect(t, m, a, want)
			db.expect(t, m, a, inbox.Duplicate)
			require.Equal(t, 0, db.letters(t, a))
		},
	}
	for name, act := range acts {
		t.Run(name+", before COMMIT arrives", func(t *testing.T) { act(t, line.CutRequest) })
		t.Run(name+", after COMMIT was answered", func(t *testing.T) { act(t, line.CutReply) })
	}
}

// errNotCounted says that an act went well, and made requests beside it.
type errNotCounted struct{ requests int64 }

func (e errNotCounted) Error() string { return "went well" }

// inDoubt does act, which tells how many requests it makes, and again with a cut
// at the last one, until that is what fails: now and then a driver asks first
// whether its connection lives.
func inDoubt(line *Line, cut func(after int64), act func() (inbox.Answer, error)) (answer inbox.Answer, err error) {
	for {
		var requests int64
		for range 2 { // the first one may connect and prepare
			start := line.Requests()
			_, err = act()
			requests = line.Requests() - start
			var beside errNotCounted
			if errors.As(err, &beside) {
				requests, err = requests-beside.requests, nil
			}
			if err != nil {
				return 0, err
			}
		}
		cut(requests - 1)
		answer, err = act()
		if !errors.Is(err, inbox.ErrNotAdmitted) {
			return answer, err
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
