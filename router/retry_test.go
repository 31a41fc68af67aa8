package router

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// letter is the parked event of a row, as its store tells it.
func (b *bookkeeping) letter(t *testing.T, i int, rec event.KafkaRecord) deadletter.Letter {
	t.Helper()
	row := b.parked(t)[i]
	var id []byte
	require.NoError(t, b.QueryRowContext(t.Context(), `SELECT event_id FROM tidings_dead_letter WHERE id = ?`, row.id).Scan(&id))
	l := deadletter.Letter{
		ID: row.id, Handler: inbox.Handler{Group: "billing", Name: row.handler}, Type: row.typ, EventID: uuid.UUID(id),
		Place:  inbox.Place{Topic: "orders", Partition: int32(row.partition), Offset: row.offset, Key: row.key},
		Record: rec, Failure: inbox.Failure{Cause: inbox.Cause(row.cause), Error: row.err, Attempts: row.attempts},
	}
	if row.first.Valid {
		l.First, l.Last = time.UnixMilli(row.first.Int64), time.UnixMilli(row.last.Int64)
	}
	return l
}

func (g *rig) retrier(i int) *retrier { return &retrier{sub: g.subs[0], handler: g.subs[0].bound[i]} }

// Of a paused group nothing is begun, parked events included.
func TestAPausedGroupRetriesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBookkeeping(t)
		failing := true
		g := newRig(t, Config{}, b.charge("charge", func(context.Context, event.Of[placed]) error {
			if failing {
				return handlers.Reject(errDeclined)
			}
			return nil
		})).start(t)
		rec := record(t, "order.placed", "o-1", 1, placed{})
		g.sub.untilAcked(t, at(1, rec))
		failing = false
		g.sub.pause(true)
		o := g.retrier(0).Retry(t.Context(), b.letter(t, 0, rec))
		require.Equal(t, deadletter.NotTried, o.Verdict)
		require.Positive(t, o.After)
		require.Len(t, b.parked(t), 1)
		g.sub.pause(false)
		require.Equal(t, deadletter.Applied, g.retrier(0).Retry(t.Context(), b.letter(t, 0, rec)).Verdict)
		require.Len(t, b.effects(t), 1)
		require.NoError(t, g.end())
	})
}

// A retried event is applied in the way in which a message is, its attempts
// counted on; then its key flows again.
func TestARetriedEventIsAppliedLikeAMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBookkeeping(t)
		failing, seen := true, 0
		g := newRig(t, Config{}, b.charge("charge", func(ctx context.Context, _ event.Of[placed]) error {
			if failing {
				if handlers.Attempt(ctx) > 1 {
					require.Equal(t, errDeclined, handlers.LastError(ctx))
				} else {
					require.NoError(t, handlers.LastError(ctx))
				}
				return errDeclined
			}
			if seen++; seen == 1 {
				require.Equal(t, 4, handlers.Attempt(ctx))
				require.EqualError(t, handlers.LastError(ctx), "card declined")
				Logger(ctx).Info("charged")
			}
			return nil
		})).start(t)
		first, second, third := record(t, "order.placed", "o-1", 1, placed{}), record(t, "order.placed", "o-1", 2, placed{}), record(t, "order.placed", "o-1", 3, placed{})
		g.sub.untilAcked(t, at(1, first))
		require.True(t, g.sub.offer(at(2, second)))
		failing = false

		r := g.retrier(0)
		require.Equal(t, deadletter.Passed, r.Retry(t.Context(), b.letter(t, 1, second)).Verdict, "not before the first of its key")
		require.Empty(t, b.effects(t))
		head := b.letter(t, 0, first)
		require.Equal(t, deadletter.Outcome{Verdict: deadletter.Applied}, r.Retry(t.Context(), head))
		require.Equal(t, deadletter.Applied, r.Retry(t.Context(), head).Verdict, "it is known as applied")
		require.Equal(t, deadletter.Applied, r.Retry(t.Context(), b.letter(t, 0, second)).Verdict)
		require.Empty(t, b.parked(t))
		require.True(t, g.sub.offer(at(3, third)))
		require.True(t, g.sub.offer(at(1, first)), "redelivered")
		require.Equal(t, []string{"charge o-1/1", "charge o-1/2", "charge o-1/3"}, b.effects(t))
		require.InDelta(t, 3, g.counter(t, "charge", outcomeApplied), 0)
		found := false
		for _, line := range g.logs.lines(slog.LevelInfo) {
			if line["msg"] == "charged" {
				found = true
				require.InDelta(t, head.ID, line["letter"], 0)
			}
		}
		require.True(t, found)
		require.NoError(t, g.end())
	})
}

func TestAFailedRetryIsBooked(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		cause inbox.Cause
		due   time.Duration
	}{
		"again":    {errors.New("another reason"), inbox.CauseError, 0},
		"rejected": {handlers.Reject(errors.New("another reason")), inbox.CauseRejected, 0},
		"later":    {handlers.RetryAfter(20 * time.Second).Because(errors.New("another reason")), inbox.CauseLater, 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBookkeeping(t)
				err := errDeclined
				g := newRig(t, Config{}, b.charge("charge", func(context.Context, event.Of[placed]) error { return err })).start(t)
				rec := placedRecord(t)
				g.sub.untilAcked(t, at(1, rec))
				before := b.parked(t)[0]
				time.Sleep(time.Minute)
				err = c.err
				o := g.retrier(0).Retry(t.Context(), b.letter(t, 0, rec))
				require.Equal(t, deadletter.Failed, o.Verdict)
				require.ErrorIs(t, o.Err, c.err)
				row := b.parked(t)[0]
				require.Equal(t, string(c.cause), row.cause)
				require.Equal(t, 4, row.attempts)
				require.Contains(t, row.err, "another reason")
				require.Equal(t, before.first, row.first)
				require.Equal(t, time.Now().UnixMilli(), row.last.Int64)
				require.Equal(t, c.due > 0, row.due.Valid)
				if c.due > 0 {
					require.Equal(t, time.Now().Add(c.due).UnixMilli(), row.due.Int64)
				}
				require.Empty(t, b.effects(t))
				require.NoError(t, g.end())
			})
		})
	}
}

// I7: a message that could not be decoded is retried for each handler of its
// subscription: applied by the one whose type it turns out to be, passed over by
// the others. The message coming again is known to both.
func TestI7AMessageThatDecodesNowIsAppliedByItsHandlerAndSkippedByOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBookkeeping(t)
		refunded := 0
		refund := handlers.On("refund", func(context.Context, event.Of[canceled]) error { refunded++; return nil }).Remember(b.box)
		g := newRig(t, Config{}, b.charge("charge", nil), refund, b.charge("notify", nil)).start(t)
		bad := event.KafkaRecord{Key: []byte("o-1"), Value: []byte("{")}
		require.True(t, g.sub.offer(at(1, bad)))
		require.Len(t, b.parked(t), 3)

		still := g.retrier(0).Retry(t.Context(), b.letter(t, 0, bad))
		require.Equal(t, deadletter.Failed, still.Verdict)
		require.Equal(t, "undecodable", b.parked(t)[0].cause)

		good := placedRecord(t)
		charge, skipped, notify := b.letter(t, 0, good), b.letter(t, 1, good), b.letter(t, 2, good)
		require.Equal(t, deadletter.Applied, g.retrier(0).Retry(t.Context(), charge).Verdict)
		require.Equal(t, deadletter.Applied, g.retrier(1).Retry(t.Context(), skipped).Verdict)
		require.Equal(t, deadletter.Applied, g.retrier(2).Retry(t.Context(), notify).Verdict)
		require.Empty(t, b.parked(t))
		require.Zero(t, refunded)
		require.Equal(t, []string{"charge o-1/1", "notify o-1/1"}, b.effects(t))
		require.InDelta(t, 1, g.counter(t, "", outcomeSkipped), 0)

		require.True(t, g.sub.offer(at(1, bad)), "redelivered")
		require.Empty(t, b.parked(t), "it is settled")
		require.NoError(t, g.end())
	})
}

func TestAnUnknownTypeIsRetriedWhenItIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBookkeeping(t)
		g := newRig(t, Config{UnknownTypes: Refuse}, b.charge("charge", nil)).start(t)
		rec := record(t, "order.shipped", "o-1", 1, shipped{})
		require.True(t, g.sub.offer(at(1, rec)))
		l := b.letter(t, 0, rec)
		o := g.retrier(0).Retry(t.Context(), l)
		require.Equal(t, deadletter.Failed, o.Verdict)
		require.ErrorIs(t, o.Err, event.ErrUnknownType)
		require.Equal(t, "unknown_type", b.parked(t)[0].cause)
		require.NoError(t, event.Register[shipped](g.cfg.Catalog, "order.shipped", 1))
		require.Equal(t, deadletter.Applied, g.retrier(0).Retry(t.Context(), l).Verdict, "known, and none of this handler's")
		require.Empty(t, b.parked(t))
		require.NoError(t, g.end())
	})
}

// What is no fault of the event is not booked: its key waits.
func TestARetryWithoutADatabaseIsNotTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tried := 0
		box := &memParker{park: away(100, inbox.ErrNotAdmitted)}
		answer := inbox.ErrNotAdmitted
		box.answer = func(a inbox.Admission) (inbox.Answer, error) {
			require.EqualValues(t, 7, a.Letter)
			return inbox.Fresh, answer
		}
		g := newRig(t, Config{}, parking(box, &tried, always(errDeclined))).start(t)
		l := deadletter.Letter{ID: 7, EventID: uuid.New(), Record: placedRecord(t), Place: inbox.Place{Topic: "orders"}}
		for _, answer = range []error{inbox.ErrNotAdmitted, inbox.ErrCommitUnknown} {
			o := g.retrier(0).Retry(t.Context(), l)
			require.Equal(t, deadletter.NotTried, o.Verdict)
			require.ErrorIs(t, o.Err, answer)
			require.Positive(t, o.After)
		}
		require.Empty(t, box.wishes)
		answer = nil
		o := g.retrier(0).Retry(t.Context(), l)
		require.Equal(t, deadletter.NotTried, o.Verdict, "a failure that cannot be booked")
		require.ErrorIs(t, o.Err, errDeclined)
		require.Len(t, box.wishes, 1)

		ended, cancel := context.WithCancel(t.Context())
		answer = context.Canceled
		cancel()
		require.Equal(t, deadletter.NotTried, g.retrier(0).Retry(ended, l).Verdict)
		require.Len(t, box.wishes, 1)
		require.InDelta(t, 1, testutil.ToFloat64(g.met.retries.WithLabelValues("charge", "canceled")), 0)
		require.NoError(t, g.end())
	})
}

func TestCheckSaysWhereAnEditIsWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBookkeeping(t)
		g := newRig(t, Config{}, b.charge("charge", fails)).start(t)
		rec := placedRecord(t)
		g.sub.untilAcked(t, at(1, rec))
		l := b.letter(t, 0, rec)
		e, err := event.FromKafka(rec)
		require.NoError(t, err)
		l.Type, l.Source, l.AggregateType, l.AggregateID, l.Sequence = e.Type(), e.Source(), "order", "o-1", 1
		structured, err := event.MarshalCloudEvent(e)
		require.NoError(t, err)
		s := l
		s.Record = event.KafkaRecord{Key: rec.Key, Value: structured, Headers: []event.KafkaHeader{{Key: "content-type", Value: []byte(event.MediaTypeCloudEvent)}}}
		for _, c := range []struct {
			name   string
			letter deadletter.Letter
			value  string
			want   string
		}{
			{"good", l, `{"Total": 8}`, ""},
			{"syntax", l, "{\n  \"Total\": 8,,\n}", "line 2, column 14: "},
			{"cut off", l, "{\n  \"Total\": ", "line 2, column 11: "},
			{"type of a field", l, "{\n\n \"Total\": \"eight\"\n}", "line 3, column "},
			{"good, structured", s, string(structured), ""},
			{"structured syntax", s, "{\n\"id\"::\n}", "line 2, column 6"},
			{"another ID", s, string(replaced(t, structured, e.ID().String(), uuid.NewString())), "its ID would be "},
			{"another type", s, string(replaced(t, structured, "order.placed", "order.canceled")), `it would be an event of type "order.canceled", not "order.placed"`},
			{"another aggregate", s, string(replaced(t, structured, "o-1", "o-2")), "would be"},
		} {
			err := g.retrier(0).Check(c.letter, deadletter.Edited{Value: []byte(c.value)})
			if c.want == "" {
				require.NoError(t, err, c.name)
			} else {
				require.ErrorContains(t, err, c.want, c.name)
			}
		}
		require.NoError(t, g.end())
	})
}

func replaced(t *testing.T, b []byte, from, to string) []byte {
	t.Helper()
	require.Contains(t, string(b), from)
	return bytes.ReplaceAll(b, []byte(from), []byte(to))
}
