package storetest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

func testKeys(s *scene) {
	rejected := s.read(remind, "o-2", 1)
	rejected.Place.Topic, rejected.Type = "refunds", "refund.asked"
	s.park(charge, "o-1", 1, 3)
	middle := s.key(charge, "o-1").HeadAt.Add(time.Millisecond)
	require.Eventually(s, func() bool { return time.Now().After(middle) }, time.Second, time.Millisecond)
	s.put(rejected, failure(inbox.CauseRejected))
	undecodable := s.read(charge, "", 0)
	undecodable.EventID, undecodable.Type = inbox.MessageID(orders, 2, 7), ""
	s.put(undecodable, failure(inbox.CauseUndecodable))
	s.put(s.read(inbox.Handler{Group: "shipping", Name: "charge"}, "o-1", 1), failure(inbox.CauseError))
	s.consistent()

	all := s.keys(deadletter.Filter{})
	require.Len(s, all, 4)
	k := all[0]
	require.Equal(s, charge, k.Handler)
	require.Equal(s, orders, k.Topic)
	require.Equal(s, []byte("o-1"), k.Key)
	require.Equal(s, int64(3), k.Events)
	require.Equal(s, inbox.CauseError, k.Cause)
	require.Equal(s, placed, k.Type)
	require.Equal(s, "no answer from the bank", k.Error)
	require.Equal(s, 5, k.Tries)
	require.Zero(s, k.Due)
	require.Zero(s, k.Request)
	require.Empty(s, k.Member)
	require.WithinDuration(s, time.Now(), k.Since, time.Minute)
	require.Equal(s, time.UTC, k.HeadAt.Location())
	require.Nil(s, all[2].Key, "an event without a key")

	for name, c := range map[string]struct {
		filter deadletter.Filter
		want   []int
	}{
		"group":            {deadletter.Filter{Group: billing}, []int{0, 1, 2}},
		"no such group":    {deadletter.Filter{Group: "bill"}, nil},
		"handler":          {deadletter.Filter{Handlers: []string{"charge"}}, []int{0, 2, 3}},
		"handlers":         {deadletter.Filter{Group: billing, Handlers: []string{"remind", "charge"}}, []int{0, 1, 2}},
		"topic":            {deadletter.Filter{Topics: []string{"refunds"}}, []int{1}},
		"key":              {deadletter.Filter{Keys: [][]byte{[]byte("o-1")}}, []int{0, 3}},
		"keys":             {deadletter.Filter{Group: billing, Keys: [][]byte{[]byte("o-1"), []byte("o-2")}}, []int{0, 1}},
		"no key":           {deadletter.Filter{Keys: [][]byte{nil}}, []int{2}},
		"type":             {deadletter.Filter{Types: []string{"refund.asked"}}, []int{1}},
		"undecodable":      {deadletter.Filter{Types: []string{""}}, []int{2}},
		"causes":           {deadletter.Filter{Causes: []inbox.Cause{inbox.CauseRejected, inbox.CauseUndecodable}}, []int{1, 2}},
		"ids":              {deadletter.Filter{IDs: []int64{all[1].ID, all[3].ID}}, []int{1, 3}},
		"from":             {deadletter.Filter{From: all[1].HeadAt}, []int{1, 2, 3}},
		"until":            {deadletter.Filter{Until: all[1].HeadAt}, []int{0}},
		"all of it":        {deadletter.Filter{Group: billing, Topics: []string{orders}, Causes: []inbox.Cause{inbox.CauseError}, Types: []string{placed}}, []int{0}},
		"one of it is off": {deadletter.Filter{Group: billing, Topics: []string{orders}, Causes: []inbox.Cause{inbox.CauseRejected}}, nil},
	} {
		s.Run(name, func(*testing.T) {
			want := field(c.want, func(i int) int64 { return all[i].ID })
			require.Equal(s, want, field(s.keys(c.filter), keyID))
		})
	}
	var paged []int64
	for after := int64(0); ; {
		page, err := s.Second.Keys(s.Context(), deadletter.Filter{}, after, 3)
		require.NoError(s, err)
		if len(page) == 0 {
			break
		}
		after = page[len(page)-1].ID
		paged = append(paged, field(page, keyID)...)
	}
	require.Equal(s, field(all, keyID), paged)

	list, err := s.Store.Handlers(s.Context(), billing)
	require.NoError(s, err)
	require.Equal(s, []inbox.Handler{charge, remind}, list)
}

func testCount(s *scene) {
	empty, err := s.Store.Count(s.Context(), deadletter.Filter{})
	require.NoError(s, err)
	require.Len(s, empty, 1)
	require.Zero(s, empty[0].Keys+empty[0].Events+empty[0].Bytes)
	require.Zero(s, empty[0].Oldest)

	s.park(charge, "o-1", 1, 3)
	s.park(charge, "o-2", 1, 1)
	s.put(s.read(remind, "o-1", 1), failure(inbox.CauseRejected))
	s.put(s.read(remind, "", 1), failure(inbox.CauseRejected))
	s.consistent()

	for _, c := range []struct {
		by   []deadletter.By
		want []string
	}{
		{nil, []string{": 4 keys, 6 events"}},
		{[]deadletter.By{deadletter.ByCause}, []string{"error: 2 keys, 4 events", "rejected: 2 keys, 2 events"}},
		{[]deadletter.By{deadletter.ByHandler}, []string{"charge: 2 keys, 4 events", "remind: 2 keys, 2 events"}},
		{[]deadletter.By{deadletter.ByTopic, deadletter.ByType}, []string{"orders order.placed: 4 keys, 6 events"}},
		{[]deadletter.By{deadletter.ByKey}, []string{": 1 keys, 1 events", "o-1: 2 keys, 4 events", "o-2: 1 keys, 1 events"}},
		{[]deadletter.By{deadletter.ByHandler, deadletter.ByKey}, []string{
			"charge o-1: 1 keys, 3 events", "charge o-2: 1 keys, 1 events", "remind : 1 keys, 1 events", "remind o-1: 1 keys, 1 events",
		}},
	} {
		list, err := s.Store.Count(s.Context(), deadletter.Filter{Group: billing}, c.by...)
		require.NoError(s, err)
		require.True(s, slices.IsSortedFunc(list, func(a, b deadletter.Count) int { return cmp.Compare(b.Keys, a.Keys) }), "the largest first: %v", list)
		got := field(list, func(n deadletter.Count) string {
			require.Len(s, n.Group, len(c.by))
			require.NotZero(s, n.Bytes)
			require.False(s, n.Newest.Before(n.Oldest))
			return fmt.Sprintf("%s: %d keys, %d events", strings.Join(field(c.by, func(b deadletter.By) string { return n.Group[b] }), " "), n.Keys, n.Events)
		})
		slices.Sort(got)
		require.Equal(s, c.want, got, "by %v", c.by)
	}
	list, err := s.Store.Count(s.Context(), deadletter.Filter{Group: billing, Causes: []inbox.Cause{inbox.CauseRejected}}, deadletter.ByHandler)
	require.NoError(s, err)
	require.Len(s, list, 1)
	_, err = s.Store.Count(s.Context(), deadletter.Filter{}, "color")
	require.ErrorContains(s, err, `"color"`)
}

func testLetters(s *scene) {
	long := strings.Repeat("k", 3000)
	exact := s.read(charge, "o-1", 7)
	exact.Message.Record.Headers = []event.KafkaHeader{
		{Key: "null"},
		{Key: "empty", Value: []byte{}},
		{Key: "twice", Value: []byte("1")},
		{Key: "twice", Value: []byte("2")},
		{Key: "bytes", Value: []byte{0, 0xff}},
		{Key: "not\x00text\xff", Value: []byte("v")},
		{Key: ""},
	}
	f := failure(inbox.CausePanic)
	f.Stack, f.Due = "main.go:7", time.UnixMilli(4_000_000_000_123).UTC()
	null, empty, unordered, hashed := s.read(charge, "o-2", 1), s.read(charge, "o-3", 1), s.read(charge, "", 1), s.read(charge, long, 1)
	null.Message.Record.Value, null.Message.Record.Headers = nil, nil
	empty.Message.Record.Value = []byte{}
	for _, a := range []inbox.Admission{exact, null, empty, unordered, hashed} {
		s.put(a, f)
	}
	s.consistent()
	keys := s.keys(deadletter.Filter{})
	require.Len(s, keys, 5)
	for i, a := range []inbox.Admission{exact, null, empty, unordered, hashed} {
		list := s.letters(keys[i].ID)
		require.Len(s, list, 1)
		l := list[0]
		require.Equal(s, a.Handler, l.Handler)
		require.Equal(s, a.Place, l.Place)
		require.Equal(s, a.EventID, l.EventID)
		require.Equal(s, a.Type, l.Type)
		require.Equal(s, []string{a.Source, a.AggregateType, a.AggregateID}, []string{l.Source, l.AggregateType, l.AggregateID})
		require.Equal(s, a.Sequence, l.Sequence)
		require.Equal(s, a.Message.Record, l.Record)
		require.Nil(s, l.Original)
		require.Equal(s, a.Message.Time, l.Time)
		require.Equal(s, f, l.Failure)
		require.WithinDuration(s, time.Now(), l.Parked, time.Minute)
		same, err := s.Second.Letter(s.Context(), l.ID)
		require.NoError(s, err)
		require.Equal(s, l, same)
		require.Equal(s, a.Place.Key, keys[i].Key)
		require.Equal(s, f.Due, keys[i].Due)
	}
	require.Equal(s, keys[4].ID, s.key(charge, long).ID, "a long key is found by its bytes")

	list := s.park(charge, "o-9", 1, 5)
	page, err := s.Store.Letters(s.Context(), s.key(charge, "o-9").ID, list[1].ID, 2)
	require.NoError(s, err)
	require.Equal(s, list[2:4], page)
	page, err = s.Store.Letters(s.Context(), s.key(charge, "o-9").ID, list[4].ID, 2)
	require.NoError(s, err)
	require.Empty(s, page)
}

func testNotFound(s *scene) {
	const none = 1 << 40
	ctx := s.Context()
	_, err := s.Store.Letter(ctx, none)
	require.ErrorIs(s, err, deadletter.ErrNotFound)
	_, err = s.Store.Letters(ctx, none, 0, 1)
	require.ErrorIs(s, err, deadletter.ErrNotFound)
	_, err = s.Store.Request(ctx, none)
	require.ErrorIs(s, err, deadletter.ErrNotFound)
	require.ErrorIs(s, s.Store.Discard(ctx, none, ann), deadletter.ErrNotFound)
	require.ErrorIs(s, s.Store.Edit(ctx, none, deadletter.Edited{}, ann), deadletter.ErrNotFound)
	require.ErrorIs(s, s.Store.End(ctx, none, ann), deadletter.ErrNotFound)
	require.ErrorIs(s, s.Store.Settle(ctx, none, deadletter.Done, ""), deadletter.ErrNotFound)
	_, err = s.Store.Permit(ctx, none)
	require.ErrorIs(s, err, deadletter.ErrNotFound)
	s.park(charge, "o-1", 1, 1)
	_, err = s.Store.Ask(ctx, deadletter.Request{Group: billing, Kind: deadletter.RequestEdit, Letter: none, Value: []byte("{}")}, ann)
	require.ErrorIs(s, err, deadletter.ErrNotFound)
	_, err = s.Store.Ask(ctx, deadletter.Request{Group: billing, Kind: deadletter.RequestRetry, Filter: deadletter.Filter{Types: []string{"none"}}}, ann)
	require.ErrorIs(s, err, deadletter.ErrNotFound)
	kept, err := s.Store.Renew(ctx, member, []int64{none}, lease)
	require.NoError(s, err)
	require.Empty(s, kept)
	entries, err := s.Store.Audit(ctx, billing, 0, 10)
	require.NoError(s, err)
	require.Empty(s, entries, "nothing was done")
}

func testLimits(s *scene) {
	ctx := s.Context()
	s.park(charge, "o-1", 1, 1)
	for _, limit := range []int{-1, 0, deadletter.MaxPage + 1} {
		_, err := s.Store.Keys(ctx, deadletter.Filter{}, 0, limit)
		require.ErrorContains(s, err, "limit")
		_, err = s.Store.Letters(ctx, s.key(charge, "o-1").ID, 0, limit)
		require.ErrorContains(s, err, "limit")
		_, err = s.Store.Audit(ctx, billing, 0, limit)
		require.ErrorContains(s, err, "limit")
		_, err = s.Store.Requests(ctx, billing, false, limit)
		require.ErrorContains(s, err, "limit")
		_, err = s.Store.Claim(ctx, billing, both, member, lease, limit)
		require.ErrorContains(s, err, "limit")
	}
	for _, r := range []deadletter.Request{
		{Kind: deadletter.RequestRetry},
		{Group: billing},
		{Group: billing, Kind: deadletter.RequestRetry, Rate: -1},
	} {
		_, err := s.Store.Ask(ctx, r, ann)
		require.Error(s, err)
	}
	_, err := s.Store.Ask(ctx, deadletter.Request{Group: billing, Kind: deadletter.RequestRetry}, deadletter.Act{})
	require.ErrorContains(s, err, "who")
}
