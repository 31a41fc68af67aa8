package storetest

import (
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

func testReassign(s *scene) {
	ctx := s.Context()
	s.park(charge, "o-1", 1, 3)
	s.park(remind, "o-1", 4, 2)
	s.park(charge, "o-2", 1, 2)
	long := strings.Repeat("k", 2000)
	s.park(charge, long, 1, 1)
	unordered := s.read(charge, "", 1)
	s.put(unordered, failure(inbox.CauseRejected))
	twice := s.read(charge, "o-1", 9) // both have it
	s.put(twice, failure(inbox.CauseLate))
	twice.Handler = remind
	s.put(twice, failure(inbox.CauseLate))
	own := s.key(remind, "o-1")

	n, err := s.Store.Reassign(ctx, charge, remind, ann)
	require.NoError(s, err)
	require.Equal(s, int64(7), n)
	s.consistent()
	require.Empty(s, s.keys(deadletter.Filter{Handlers: []string{"charge"}}))
	require.Equal(s, own.ID, s.key(remind, "o-1").ID)
	require.Equal(s, own.Head, s.key(remind, "o-1").Head)
	require.Equal(s, []int64{4, 5, 9, 1, 2, 3}, field(s.letters(own.ID), sequence), "its own stay before")
	require.Equal(s, []int64{1, 2}, field(s.letters(s.key(remind, "o-2").ID), sequence))
	require.Len(s, s.letters(s.key(remind, long).ID), 1)
	none := s.keys(deadletter.Filter{Handlers: []string{"remind"}, Keys: [][]byte{nil}})
	require.Len(s, none, 1)
	require.Equal(s, unordered.EventID, s.letters(none[0].ID)[0].EventID)
	require.Equal(s, "reassign", s.audit().Action)

	// The keys of the first are free, and those of the other are not.
	require.Equal(s, inbox.Fresh.String(), s.apply(s.read(charge, "o-2", 3)).String())
	behind := s.read(remind, "o-2", 3)
	got, err := s.Box.Look(ctx, behind)
	require.NoError(s, err)
	require.Equal(s, inbox.Parked.String(), got.String())
	s.put(behind, inbox.Failure{Cause: inbox.CauseBehind})
	moved := s.letters(s.key(remind, "o-2").ID)
	require.Equal(s, []int64{1, 2, 3}, field(moved, sequence))
	require.Equal(s, inbox.Gone.String(), s.retry(&moved[1], nil).String(), "not its turn")
	for i := range moved {
		require.Equal(s, inbox.Fresh.String(), s.retry(&moved[i], nil).String())
	}

	n, err = s.Store.Reassign(ctx, charge, remind, ann)
	require.NoError(s, err)
	require.Zero(s, n, "nothing is left")
	_, err = s.Store.Reassign(ctx, charge, inbox.Handler{Group: "shipping", Name: "charge"}, ann)
	require.ErrorContains(s, err, "group")
	_, err = s.Store.Reassign(ctx, charge, charge, ann)
	require.ErrorContains(s, err, "same")
}

func testReassignBusy(s *scene) {
	ctx := s.Context()
	s.park(charge, "o-1", 1, 1)
	s.park(charge, "o-2", 1, 1)
	s.park(remind, "o-3", 1, 1)
	r := s.ask(deadletter.Filter{Keys: [][]byte{[]byte("o-2")}})
	_, err := s.Store.Reassign(ctx, charge, remind, ann)
	require.ErrorIs(s, err, deadletter.ErrBusy)
	require.Len(s, s.keys(deadletter.Filter{Handlers: []string{"charge"}}), 2, "nothing was moved")
	require.NoError(s, s.Store.End(ctx, r.ID, ann))
	n, err := s.Store.Reassign(ctx, charge, remind, ann)
	require.NoError(s, err)
	require.Equal(s, int64(2), n)
}

// exported is letters after a way through NDJSON.
func (s *scene) exported(list []deadletter.Letter) []deadletter.Letter {
	s.Helper()
	out := make([]deadletter.Letter, 0, len(list))
	for _, l := range list {
		line, err := deadletter.MarshalLetter(l)
		require.NoError(s, err)
		require.NotContains(s, string(line), "\n")
		again, err := deadletter.UnmarshalLetter(line)
		require.NoError(s, err)
		require.Equal(s, l, again)
		out = append(out, again)
	}
	return out
}

func testImport(s *scene) {
	ctx := s.Context()
	f := failure(inbox.CausePanic)
	f.Stack, f.Due = "main.go:7", f.Last.AddDate(90, 0, 0)
	var all []deadletter.Letter
	for _, key := range []string{"o-1", "", "o-2"} {
		for i := range int64(3) {
			s.put(s.read(charge, key, i+1), f)
		}
	}
	for _, k := range s.keys(deadletter.Filter{}) {
		all = append(all, s.letters(k.ID)...)
	}
	require.Len(s, all, 9)
	require.NoError(s, s.Store.Edit(ctx, all[0].ID, deadletter.Edited{Value: []byte("edited")}, ann))
	edited, err := s.Store.Letter(ctx, all[0].ID)
	require.NoError(s, err)
	all[0] = edited
	all = s.exported(all)

	n, err := s.Store.Import(ctx, all, ann)
	require.NoError(s, err)
	require.Zero(s, n, "they are there")

	first := s.letters(s.key(charge, "o-2").ID)
	for i := range first {
		require.Equal(s, inbox.Fresh.String(), s.retry(&first[i], nil).String())
	}
	for _, k := range s.keys(deadletter.Filter{}) {
		for _, l := range s.letters(k.ID) {
			s.remove(&l)
		}
	}
	require.Empty(s, s.keys(deadletter.Filter{}))
	n, err = s.Store.Import(ctx, all, ann)
	require.NoError(s, err)
	if s.Forgets {
		require.Equal(s, int64(9), n)
		return
	}
	require.Zero(s, n, "they were applied or discarded")

	// Another handler has seen none of them.
	s.park(remind, "o-9", 1, 1)
	for i := range all {
		all[i].Handler = remind
	}
	n, err = s.Store.Import(ctx, all, ann)
	require.NoError(s, err)
	require.Equal(s, int64(9), n)
	s.consistent()
	var again []deadletter.Letter
	for _, k := range s.keys(deadletter.Filter{})[1:] {
		again = append(again, s.letters(k.ID)...)
	}
	require.Equal(s, strip(all), strip(again), "all of each comes back, in order")
	require.Equal(s, "import", s.audit().Action)
	require.Empty(s, s.audit().EventID)
}

// strip leaves out what a store gives.
func strip(list []deadletter.Letter) []deadletter.Letter {
	return field(list, func(l deadletter.Letter) deadletter.Letter {
		l.ID = 0
		return l
	})
}

// remove discards a letter.
func (s *scene) remove(l *deadletter.Letter) {
	s.Helper()
	require.NoError(s, s.Store.Discard(s.Context(), l.ID, ann))
}

func testImportBehind(s *scene) {
	ctx := s.Context()
	s.park(charge, "o-1", 1, 2)
	list := s.exported(s.letters(s.key(charge, "o-1").ID))
	s.park(remind, "o-1", 7, 1)
	for i := range list {
		list[i].Handler = remind
	}
	list[0], list[1] = list[1], list[0] // the order given counts
	n, err := s.Store.Import(ctx, list, ann)
	require.NoError(s, err)
	require.Equal(s, int64(2), n)
	require.Equal(s, []int64{7, 2, 1}, field(s.letters(s.key(remind, "o-1").ID), sequence))
	s.consistent()
	got, err := s.Box.Look(ctx, s.read(remind, "o-1", 8))
	require.NoError(s, err)
	require.Equal(s, inbox.Parked.String(), got.String())
	for _, l := range s.letters(s.key(remind, "o-1").ID) {
		require.Equal(s, inbox.Fresh.String(), s.retry(&l, nil).String(), "sequence %d", l.Sequence)
	}
	require.Equal(s, inbox.Fresh.String(), s.apply(s.read(remind, "o-1", 8)).String(), "the key is free")
	_, err = s.Store.Import(ctx, []deadletter.Letter{{Handler: remind}}, ann)
	require.Error(s, err)
}

func testAudit(s *scene) {
	ctx := s.Context()
	list := s.park(charge, "o-1", 1, 2)
	s.park(remind, "o-1", 1, 1)
	s.park(inbox.Handler{Group: "shipping", Name: "pack"}, "o-1", 1, 1)
	require.NoError(s, s.Store.Edit(ctx, list[1].ID, deadletter.Edited{Value: []byte("new")}, ann))
	require.NoError(s, s.Store.Discard(ctx, list[0].ID, ann))
	r := s.ask(deadletter.Filter{})
	require.NoError(s, s.Store.End(ctx, r.ID, deadletter.Act{Who: "bob", Reason: "wrong\x00 \xffone"}))
	_, err := s.Store.Reassign(ctx, charge, remind, ann)
	require.NoError(s, err)

	all, err := s.Second.Audit(ctx, billing, 0, 10)
	require.NoError(s, err)
	require.Equal(s, []string{"reassign", "end", "retry", "discard", "edit"}, field(all, func(e deadletter.Entry) string { return e.Action }))
	for i, e := range all {
		require.Equal(s, billing, e.Group)
		require.Positive(s, e.ID)
		require.False(s, e.At.IsZero())
		require.NotEmpty(s, e.Act.Who)
		require.NotEmpty(s, e.Act.Reason)
		if i > 0 {
			require.Less(s, e.ID, all[i-1].ID)
			require.False(s, e.At.After(all[i-1].At))
		}
	}
	require.Equal(s, "bob", all[1].Act.Who)
	require.Equal(s, r.ID, all[1].Request)
	require.Equal(s, r.ID, all[2].Request)
	require.Contains(s, string(all[2].After), "filter")
	page, err := s.Store.Audit(ctx, billing, all[1].ID, 2)
	require.NoError(s, err)
	require.Equal(s, all[2:4], page)
	none, err := s.Store.Audit(ctx, "shipping", 0, 10)
	require.NoError(s, err)
	require.Empty(s, none)
}
