package storetest

import (
	"encoding/json"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// settled demands that redelivered events are known.
func (s *scene) settled(list ...inbox.Admission) {
	s.Helper()
	if s.Forgets {
		return
	}
	for _, a := range list {
		got, err := s.Box.Look(s.Context(), a)
		require.NoError(s, err)
		require.Equal(s, inbox.Duplicate.String(), got.String(), "event %s", a.EventID)
	}
}

func testDiscard(s *scene) {
	ctx := s.Context()
	require.ErrorContains(s, s.Store.Discard(ctx, 1, deadletter.Act{Who: "ann"}), "reason")
	keyed := make([]inbox.Admission, 0, 4)
	for i := range int64(4) {
		a := s.read(charge, "o-1", i+1)
		keyed = append(keyed, a)
		s.put(a, failure(inbox.CauseError))
	}
	undecodable := s.read(charge, "", 0)
	undecodable.EventID, undecodable.Type, undecodable.Sequence = inbox.MessageID(orders, 2, 7), "", 0
	s.put(undecodable, failure(inbox.CauseUndecodable))
	list := s.letters(s.key(charge, "o-1").ID)

	// From the middle and the end: the others keep their order.
	require.NoError(s, s.Store.Discard(ctx, list[1].ID, ann))
	require.NoError(s, s.Second.Discard(ctx, list[3].ID, ann))
	s.consistent()
	require.Equal(s, []int64{1, 3}, field(s.letters(s.key(charge, "o-1").ID), sequence))
	s.settled(keyed[1], keyed[3])
	require.ErrorIs(s, s.Store.Discard(ctx, list[1].ID, ann), deadletter.ErrNotFound, "again")

	e := s.audit()
	require.Equal(s, "discard", e.Action)
	require.Equal(s, list[3].ID, e.Letter)
	require.Equal(s, keyed[3].EventID.String(), e.EventID)
	require.Equal(s, []byte("o-1"), e.Key)
	lost, err := deadletter.UnmarshalLetter(e.Before)
	require.NoError(s, err)
	require.Equal(s, list[3], lost, "the audit log has what was discarded")

	// What comes now goes behind what is left, until that has been applied.
	s.put(s.read(charge, "o-1", 5), inbox.Failure{Cause: inbox.CauseBehind})
	rest := s.letters(s.key(charge, "o-1").ID)
	for i := range rest {
		require.Equal(s, inbox.Fresh.String(), s.retry(&rest[i], nil).String(), "letter of sequence %d", rest[i].Sequence)
	}
	require.Equal(s, inbox.Fresh.String(), s.apply(s.read(charge, "o-1", 6)).String())

	// An event without a key, and with an ID that tells no time.
	unordered := s.keys(deadletter.Filter{Keys: [][]byte{nil}})
	require.Len(s, unordered, 1)
	require.NoError(s, s.Store.Discard(ctx, unordered[0].Head, ann))
	s.settled(undecodable)
	require.Empty(s, s.keys(deadletter.Filter{}))
}

func testDiscardFirst(s *scene) {
	ctx := s.Context()
	parked := make([]inbox.Admission, 0, 3)
	for i, cause := range []inbox.Cause{inbox.CauseRejected, inbox.CauseTimeout, inbox.CauseBehind} {
		a := s.read(charge, "o-1", int64(i+1))
		parked = append(parked, a)
		s.put(a, failure(cause))
	}
	k := s.key(charge, "o-1")
	require.Equal(s, inbox.CauseRejected, k.Cause)
	require.NoError(s, s.Store.Discard(ctx, k.Head, ann))
	next := s.key(charge, "o-1")
	require.Equal(s, k.ID, next.ID)
	require.Equal(s, inbox.CauseTimeout, next.Cause)
	require.Equal(s, int64(2), next.Events)
	s.consistent()
	require.NoError(s, s.Store.Discard(ctx, next.Head, ann))
	last := s.key(charge, "o-1")
	require.Equal(s, inbox.CauseBehind, last.Cause)
	require.Empty(s, s.claim(member, 10), "nobody asked for it")
	require.NoError(s, s.Store.Discard(ctx, last.Head, ann))
	require.Empty(s, s.keys(deadletter.Filter{}))
	s.settled(parked...)
	got, err := s.Box.Park(ctx, s.read(charge, "o-1", 4), inbox.Failure{Cause: inbox.CauseBehind})
	require.NoError(s, err)
	require.Equal(s, inbox.Fresh.String(), got.String(), "the key is free")
	require.Equal(s, inbox.Fresh.String(), s.apply(s.read(charge, "o-1", 5)).String())
}

func testEdit(s *scene) {
	ctx := s.Context()
	list := s.park(charge, "o-1", 1, 2)
	first := list[0].Record
	bytes := s.key(charge, "o-1").Bytes
	require.NoError(s, s.Store.Edit(ctx, list[0].ID, deadletter.Edited{Value: []byte(`{"amount":1}`)}, ann))
	e := s.audit()
	require.Equal(s, "edit", e.Action)
	var before, after struct {
		Value string `json:"value"`
	}
	require.NoError(s, json.Unmarshal(e.Before, &before))
	require.NoError(s, json.Unmarshal(e.After, &after))
	require.Equal(s, string(first.Value), before.Value)
	require.Equal(s, `{"amount":1}`, after.Value)
	require.NoError(s, s.Store.Edit(ctx, list[0].ID, deadletter.Edited{Value: []byte{0xff, 0}}, ann))

	edited, err := s.Store.Letter(ctx, list[0].ID)
	require.NoError(s, err)
	require.Equal(s, []byte{0xff, 0}, edited.Record.Value)
	require.Equal(s, first.Headers, edited.Record.Headers)
	require.Equal(s, first.Key, edited.Record.Key)
	require.NotNil(s, edited.Original)
	require.Equal(s, first, *edited.Original, "the first one")
	edited.Record, edited.Original = list[0].Record, nil
	require.Equal(s, list[0], edited, "nothing else changes")
	require.Equal(s, bytes-int64(len(first.Value))+2, s.key(charge, "o-1").Bytes)
	s.consistent()

	require.NoError(s, s.Store.Edit(ctx, list[1].ID, deadletter.Edited{}, ann))
	null, err := s.Store.Letter(ctx, list[1].ID)
	require.NoError(s, err)
	require.Nil(s, null.Record.Value)
	require.NoError(s, s.Store.Edit(ctx, list[1].ID, deadletter.Edited{Value: []byte{}}, ann))
	empty, err := s.Store.Letter(ctx, list[1].ID)
	require.NoError(s, err)
	require.Equal(s, []byte{}, empty.Record.Value)
	require.Equal(s, list[1].Record, *empty.Original)
}

func testEditRequest(s *scene) {
	ctx := s.Context()
	list := s.park(charge, "o-1", 1, 1)
	ask := deadletter.Request{Group: billing, Kind: deadletter.RequestEdit, Letter: list[0].ID, Value: []byte{}}
	r, err := s.Store.Ask(ctx, ask, ann)
	require.NoError(s, err)
	require.Equal(s, deadletter.Open, r.State)
	require.Equal(s, list[0].ID, r.Letter)
	require.Equal(s, []byte{}, r.Value)
	require.Equal(s, ann.Who, r.Act.Who)
	require.Empty(s, s.claim(member, 10), "it is no retry")
	s.advance()
	require.Equal(s, deadletter.Open, s.request(r.ID).State)

	act := ann
	act.Request = r.ID
	require.NoError(s, s.Store.Edit(ctx, list[0].ID, deadletter.Edited{Value: r.Value}, act))
	done := s.request(r.ID)
	require.Equal(s, deadletter.Done, done.State)
	require.NotZero(s, done.Ended)
	require.ErrorIs(s, s.Second.Edit(ctx, list[0].ID, deadletter.Edited{Value: []byte("again")}, act), deadletter.ErrNotFound)
	l, err := s.Store.Letter(ctx, list[0].ID)
	require.NoError(s, err)
	require.Equal(s, []byte{}, l.Record.Value)
	require.Equal(s, r.ID, s.audit().Request)

	refused, err := s.Store.Ask(ctx, ask, ann)
	require.NoError(s, err)
	require.NoError(s, s.Store.Settle(ctx, refused.ID, deadletter.Refused, "line 3: no comma"))
	require.ErrorIs(s, s.Store.Settle(ctx, refused.ID, deadletter.Refused, "again"), deadletter.ErrNotFound)
	refused = s.request(refused.ID)
	require.Equal(s, deadletter.Refused, refused.State)
	require.Equal(s, "line 3: no comma", refused.Error)
	told := s.audit()
	require.Equal(s, deadletter.ActionRefuse, told.Action)
	require.Equal(s, refused.ID, told.Request)
	require.Equal(s, list[0].ID, told.Letter)
	require.Equal(s, ann.Who, told.Act.Who)
	require.Contains(s, string(told.After), "line 3: no comma")
}

func testEditBusy(s *scene) {
	ctx := s.Context()
	list := s.park(charge, "o-1", 1, 1)
	s.ask(deadletter.Filter{})
	edit := func() error { return s.Store.Edit(ctx, list[0].ID, deadletter.Edited{Value: []byte("new")}, ann) }
	claimed := s.claim(member, 1)
	require.Len(s, claimed, 1)
	require.ErrorIs(s, edit(), deadletter.ErrBusy)
	l, err := s.Store.Letter(ctx, list[0].ID)
	require.NoError(s, err)
	require.Nil(s, l.Original)
	require.NoError(s, s.Store.Release(ctx, member, claimed[0], false, deadletter.Progress{}))
	require.NoError(s, edit())
}
