package integration

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/internal/testenv"
)

// While members run, somebody edits a parked event, first so that it does not
// decode, and discards another. Members carry the edits out; the event that was
// discarded is known when it comes again; and the audit log has it all: who, when,
// why, before and after.
func TestEditsAndDiscardsAreCarriedOutWhileMembersRunAndAudited(t *testing.T) {
	s := newScene(t, stage{partitions: 2})
	group := testenv.Name("billing")
	events := plan("o", shape{keys: 12, perKey: 8})
	at := func(aggregate string, sequence int64) int {
		return slices.IndexFunc(events, func(p planned) bool { return p.Aggregate == aggregate && p.Sequence == sequence })
	}
	garbled, poison := events[at("o1", 4)], events[at("o2", 4)]
	hs := []handlerSpec{{Name: "open", Type: placed}, {Name: "book", Type: changed, Tries: 2, Poison: []uuid.UUID{poison.ID}}, {Name: "settle", Type: closed}}
	s.takes(group, hs)
	// What is discarded has no effect.
	s.expect(slices.DeleteFunc(slices.Clone(events), func(p planned) bool { return p.ID == poison.ID }))
	catalog, err := newCatalog()
	require.NoError(t, err)
	s.produceRaw(events, func(p planned) *kgo.Record {
		r := s.record(catalog, p)
		if p.ID == garbled.ID {
			r.Value = []byte(`{"amount":"four"}`)
		}
		return r
	})
	crew := s.crew(member{Group: group, Handlers: hs, Port: true}, newRandom(t))
	crew.join()
	crew.join()
	s.awaitAcknowledged(group)
	store := s.letters()
	head := func(key string) deadletter.Letter {
		keys, err := store.Keys(s.ctx, deadletter.Filter{Group: group, Handlers: []string{"book"}, Keys: [][]byte{[]byte(key)}}, 0, 2)
		require.NoError(t, err)
		require.Len(t, keys, 1)
		l, err := store.Letter(s.ctx, keys[0].Head)
		require.NoError(t, err)
		return l
	}

	// Edits: one that is refused, with the line, and one that is carried out.
	l := head("o1")
	require.Equal(t, inbox.CauseUndecodable, l.Cause)
	edit := func(value string, act deadletter.Act) (q deadletter.Request) {
		q, err := store.Ask(s.ctx, deadletter.Request{Group: group, Kind: deadletter.RequestEdit, Letter: l.ID, Value: []byte(value)}, act)
		require.NoError(t, err)
		s.await("a member has dealt with the edit", func(ctx context.Context) (bool, string, error) {
			q, err = store.Request(ctx, q.ID)
			return q.State != deadletter.Open, string(q.State), err
		})
		return q
	}
	const wrong, right = "{\n  \"amount\": 4,\n  \"note\":\n}", `{"amount":4}`
	refused := edit(wrong, deadletter.Act{Who: "ann", Reason: "a first guess"})
	require.Equal(t, deadletter.Refused, refused.State)
	require.Contains(t, refused.Error, "line 4")
	require.Equal(t, l.Record.Value, head("o1").Record.Value, "a refused edit changes nothing")
	edited := edit(right, deadletter.Act{Who: "ann", Reason: "the amount was a word"})
	require.Equal(t, deadletter.Done, edited.State, edited.Error)
	now := head("o1")
	require.Equal(t, right, string(now.Record.Value))
	require.NotNil(t, now.Original)
	require.Equal(t, l.Record, *now.Original, "the original is kept")
	require.Equal(t, garbled.ID, now.EventID)

	// A discard, which needs a reason.
	l = head("o2")
	require.Equal(t, poison.ID, l.EventID)
	require.ErrorContains(t, store.Discard(s.ctx, l.ID, deadletter.Act{Who: "bob"}), "reason")
	require.Equal(t, l.ID, head("o2").ID, "a discard without a reason changes nothing")
	require.NoError(t, store.Discard(s.ctx, l.ID, deadletter.Act{Who: "bob", Reason: "a test order"}))
	require.Equal(t, events[at("o2", 5)].ID, head("o2").EventID, "what waited behind is still parked")
	s.retryParked(store, group)
	s.awaitDrained(group)

	// It comes again, and its key goes on.
	duplicates := func() (n float64) {
		for _, p := range crew.at {
			n += s.metric(p, "tidings_router_events_total", `handler="book"`, `outcome="duplicate"`)
		}
		return n
	}
	before := duplicates()
	more := newPlanned("o2", changed, 9)
	s.expect([]planned{more})
	s.produceRaw([]planned{poison, more}, func(p planned) *kgo.Record { return s.record(catalog, p) })
	s.awaitDrained(group)
	require.InDelta(t, before+1, duplicates(), 0, "the discarded event is a duplicate")
	parked, err := store.Count(s.ctx, deadletter.Filter{Group: group})
	require.NoError(t, err)
	require.Zero(t, total(parked))
	crew.stop(t)
	s.requireEffectsOnce(group, effectless{"open", garbled.ID}, effectless{"settle", garbled.ID}, effectless{"book", poison.ID})
	s.requireAudited(store, group, refused, edited, garbled, poison)
}

// requireAudited demands the lines of the audit log, the oldest first.
func (s *scene) requireAudited(store deadletter.Store, group string, refused, edited deadletter.Request, garbled, poison planned) {
	t := s.t
	t.Helper()
	log, err := store.Audit(s.ctx, group, 0, 100)
	require.NoError(t, err)
	slices.Reverse(log)
	value := func(of string) string { return fmt.Sprintf(`{"value":%q}`, of) }
	const original = `{"amount":"four"}`
	want := []struct {
		action, who, why string
		event            string
		request          int64
		before, after    string
	}{
		{deadletter.ActionAskEdit, "ann", "a first guess", garbled.ID.String(), refused.ID, value(original), value(string(refused.Value))},
		{deadletter.ActionRefuse, "ann", "a first guess", "", refused.ID, "", "line 4"},
		{deadletter.ActionAskEdit, "ann", "the amount was a word", garbled.ID.String(), edited.ID, value(original), value(string(edited.Value))},
		{deadletter.ActionEdit, "ann", "the amount was a word", garbled.ID.String(), edited.ID, value(original), value(string(edited.Value))},
		{deadletter.ActionDiscard, "bob", "a test order", poison.ID.String(), 0, "", ""},
		{deadletter.ActionRetry, "suite", "it is fixed", "", 0, "", ""},
	}
	require.Len(t, log, len(want), "%+v", log)
	for i, w := range want {
		e := log[i]
		require.Equal(t, w.action, e.Action, "line %d", i)
		require.Equal(t, w.who, e.Act.Who, w.action)
		require.Equal(t, w.why, e.Act.Reason, w.action)
		require.WithinRange(t, e.At, s.begun.Add(-time.Second), time.Now().Add(time.Second), w.action)
		if w.event != "" {
			require.Equal(t, w.event, e.EventID, w.action)
			require.Equal(t, "book", e.Handler, w.action)
		}
		if w.request != 0 {
			require.Equal(t, w.request, e.Request, w.action)
		}
		switch w.action {
		case deadletter.ActionRefuse:
			require.Contains(t, string(e.After), w.after)
		case deadletter.ActionDiscard:
			letter, err := deadletter.UnmarshalLetter(e.Before)
			require.NoError(t, err)
			require.Equal(t, poison.ID, letter.EventID)
		case deadletter.ActionRetry:
			require.NotEmpty(t, e.After)
		default:
			require.JSONEq(t, w.before, string(e.Before), w.action)
			require.JSONEq(t, w.after, string(e.After), w.action)
		}
	}
}
