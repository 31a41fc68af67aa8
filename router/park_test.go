package router

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/handlers/inbox/sqlinbox"
	"github.com/tidings-bus/tidings/internal/delivery"
	"github.com/tidings-bus/tidings/schema"
)

// bookkeeping is a service's database in a file, with an inbox and its dead
// letters.
type bookkeeping struct {
	*sql.DB

	box *sqlinbox.Inbox
}

func newBookkeeping(t *testing.T) *bookkeeping {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "billing.db")+"?_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)")
	require.NoError(t, err)
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, schema.MigrateSQLite(t.Context(), db))
	_, err = db.ExecContext(t.Context(), `CREATE TABLE effect (n INTEGER PRIMARY KEY AUTOINCREMENT, handler TEXT, key TEXT, sequence INTEGER)`)
	require.NoError(t, err)
	box, err := sqlinbox.New(sqlinbox.Config{DB: db, Dialect: sqlinbox.SQLite, AcceptPowerLoss: true})
	require.NoError(t, err)
	return &bookkeeping{DB: db, box: box}
}

// charge is a handler that writes its effect, unless do says otherwise.
func (b *bookkeeping) charge(name string, do func(ctx context.Context, e event.Of[placed]) error) handlers.Transactional[*sql.Tx, placed] {
	return handlers.InTx(name, b.box, func(ctx context.Context, tx *sql.Tx, e event.Of[placed]) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO effect (handler, key, sequence) VALUES (?, ?, ?)`, name, e.Aggregate().ID, e.Sequence())
		if err != nil || do == nil {
			return err
		}
		return do(ctx, e)
	}).With(handlers.Settings{Tries: 3, MinBackoff: time.Second, MaxBackoff: time.Second})
}

// effects lists what was applied, in order, as "handler key/sequence".
func (b *bookkeeping) effects(t *testing.T) (list []string) {
	t.Helper()
	rows, err := b.QueryContext(t.Context(), `SELECT handler, key, sequence FROM effect ORDER BY n`)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var handler, key string
		var sequence int64
		require.NoError(t, rows.Scan(&handler, &key, &sequence))
		list = append(list, fmt.Sprintf("%s %s/%d", handler, key, sequence))
	}
	require.NoError(t, rows.Err())
	return list
}

// parkedRow is a line of the dead letters.
type parkedRow struct {
	id                            int64
	handler, typ                  string
	cause, err, stack             string
	attempts                      int
	first, last, due              sql.NullInt64
	key, value                    []byte
	partition, offset, recordTime int64
}

func (b *bookkeeping) parked(t *testing.T) (list []parkedRow) {
	t.Helper()
	rows, err := b.QueryContext(t.Context(), `SELECT l.id, h.name, event_type, cause, error, stack, attempts, first_failed, last_failed, due,
		record_key, value, partition, "offset", record_time
		FROM tidings_dead_letter l JOIN tidings_handler h ON h.id = l.handler_id ORDER BY l.id`)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var r parkedRow
		require.NoError(t, rows.Scan(&r.id, &r.handler, &r.typ, &r.cause, &r.err, &r.stack, &r.attempts, &r.first, &r.last, &r.due,
			&r.key, &r.value, &r.partition, &r.offset, &r.recordTime))
		list = append(list, r)
	}
	require.NoError(t, rows.Err())
	return list
}

// summary is handler and cause of what is parked, in order.
func (b *bookkeeping) summary(t *testing.T) (list []string) {
	t.Helper()
	for _, r := range b.parked(t) {
		list = append(list, r.handler+" "+r.cause)
	}
	return list
}

var errDeclined = errors.New("card declined")

func fails(context.Context, event.Of[placed]) error { return errDeclined }

// brokenRecord is an event whose payload is not its type's.
func brokenRecord(t *testing.T, key string, sequence int64) event.KafkaRecord {
	t.Helper()
	r := record(t, "order.placed", key, sequence, placed{})
	r.Value = []byte(`{"Total": "seven"}`)
	return r
}

// I6, I7: each cause, and what is written of it. Another handler of the event has
// applied it, and the same message coming again changes nothing.
func TestI6WhatAHandlerCannotApplyIsParkedWithItsCause(t *testing.T) {
	type parkCase struct {
		cause    inbox.Cause
		do       func(ctx context.Context, e event.Of[placed]) error
		settings handlers.Settings
		config   Config
		record   func(t *testing.T) event.KafkaRecord
		before   func(t *testing.T, b *bookkeeping, g *rig)
		attempts int
		took     time.Duration
		due      time.Duration
		err      string
		stack    string
		whole    bool
	}
	settings := handlers.Settings{Tries: 3, MinBackoff: time.Second, MaxBackoff: time.Second, Timeout: 10 * time.Second}
	for name, c := range map[string]parkCase{
		"tries spent": {cause: inbox.CauseError, do: fails, attempts: 3, took: 2 * time.Second, err: "card declined"},
		"patience": {
			cause: inbox.CauseError, do: fails, attempts: 3, took: 2 * time.Second, err: "card declined",
			settings: handlers.Settings{Tries: 100, MinBackoff: time.Second, MaxBackoff: time.Second, Patience: 2400 * time.Millisecond},
		},
		"timeout": {
			cause: inbox.CauseTimeout, attempts: 3, took: 32 * time.Second, err: "attempt 3 took longer than its timeout of 10s",
			do: func(ctx context.Context, _ event.Of[placed]) error { <-ctx.Done(); return context.Cause(ctx) },
		},
		"panic": {
			cause: inbox.CausePanic, attempts: 3, took: 2 * time.Second, err: "panic: nil map", stack: "TestI6WhatAHandlerCannotApply",
			do: func(context.Context, event.Of[placed]) error { panic("nil map") },
		},
		"rejected": {
			cause: inbox.CauseRejected, attempts: 1, err: "rejected: card declined",
			do: func(context.Context, event.Of[placed]) error { return handlers.Reject(errDeclined) },
		},
		"asked for later": {
			cause: inbox.CauseLater, due: 26 * time.Hour, err: "retry after 26h0m0s: card declined",
			do: func(context.Context, event.Of[placed]) error {
				return handlers.RetryAfter(26 * time.Hour).Because(errDeclined)
			},
		},
		"asked for soon, too often": {
			cause: inbox.CauseLater, took: 40 * time.Second, due: 40 * time.Second, err: "retry after 40s",
			do:       func(context.Context, event.Of[placed]) error { return handlers.RetryAfter(40 * time.Second) },
			settings: handlers.Settings{Patience: time.Minute},
		},
		"deadline passed": {
			cause: inbox.CauseDeadline, err: `handler "charge" takes events until 1h0m0s after their time, and that was at 2000-01-01T01:00:00Z`,
			settings: handlers.Settings{Deadline: time.Hour},
			before:   func(*testing.T, *bookkeeping, *rig) { time.Sleep(time.Hour) },
		},
		"late": {
			cause: inbox.CauseLate, attempts: 1, err: "its ID is unknown, but its sequence is not above the last one applied",
			before: func(t *testing.T, _ *bookkeeping, g *rig) {
				require.True(t, g.sub.offer(at(1, record(t, "order.placed", "o-1", 9, placed{}))))
			},
		},
		"no event at all": {
			cause: inbox.CauseUndecodable, whole: true, err: "reading the event: ",
			record: func(*testing.T) event.KafkaRecord {
				return event.KafkaRecord{Key: []byte("o-1"), Value: []byte("garbage\x00\xff"), Headers: []event.KafkaHeader{{Key: "h", Value: []byte("v")}}}
			},
		},
		"payload of another type": {
			cause: inbox.CauseUndecodable, whole: true, err: "cannot unmarshal string",
			record: func(t *testing.T) event.KafkaRecord { return brokenRecord(t, "o-1", 1) },
		},
		"unknown type": {
			cause: inbox.CauseUnknownType, whole: true, err: `unknown event type "order.shipped", version 1`,
			config: Config{UnknownTypes: Refuse},
			record: func(t *testing.T) event.KafkaRecord { return record(t, "order.shipped", "o-1", 1, shipped{}) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBookkeeping(t)
				s := settings
				if c.settings != (handlers.Settings{}) {
					s = c.settings
				}
				rec := placedRecord(t)
				if c.record != nil {
					rec = c.record(t)
				}
				g := newRig(t, c.config, b.charge("notify", nil), b.charge("charge", c.do).With(s)).start(t)
				if c.before != nil {
					c.before(t, b, g)
				}
				applied := len(b.effects(t))
				began := time.Now()
				d := at(41, rec)
				d.Time = began.Add(-time.Minute)
				g.sub.untilAcked(t, d)
				took := time.Since(began)
				require.InDelta(t, c.took, took, float64(c.took)*0.3+float64(10*time.Millisecond))
				require.Nil(t, d.State)
				require.Empty(t, g.Held())

				rows := b.parked(t)
				want := []string{"charge"}
				switch {
				case c.whole:
					want = []string{"notify", "charge"}
				case c.cause == inbox.CauseLate:
					want = []string{"notify", "charge"}
				default:
					require.Equal(t, []string{"notify o-1/1"}, b.effects(t), "the other handler applied it, once")
				}
				require.Len(t, rows, len(want))
				for i, r := range rows {
					require.Equal(t, want[i], r.handler)
					require.Equal(t, string(c.cause), r.cause)
					require.Equal(t, c.attempts, r.attempts)
					require.Contains(t, r.err, c.err)
					require.Contains(t, r.stack, c.stack)
					require.Equal(t, rec.Key, r.key)
					require.Equal(t, rec.Value, r.value)
					require.EqualValues(t, 3, r.partition)
					require.EqualValues(t, 41, r.offset)
					require.Equal(t, d.Time.UnixMilli(), r.recordTime)
					if c.cause != inbox.CauseDeadline {
						require.InDelta(t, began.UnixMilli(), r.first.Int64, float64(c.took.Milliseconds())/2+10)
						require.InDelta(t, time.Now().UnixMilli(), r.last.Int64, 10)
					}
					require.Equal(t, c.due > 0, r.due.Valid)
					if c.due > 0 {
						require.InDelta(t, time.Now().Add(c.due).UnixMilli(), r.due.Int64, 10)
					}
				}
				require.InDelta(t, 1, g.counter(t, "charge", outcomeParked), 0)
				var said []map[string]any
				for _, line := range g.logs.lines(slog.LevelWarn) {
					if strings.HasPrefix(line["msg"].(string), "event is parked") && line["handler"] == "charge" {
						said = append(said, line)
					}
				}
				require.Len(t, said, 1)
				require.Equal(t, string(c.cause), said[0]["class"])
				require.InDelta(t, 41, said[0]["offset"], 0)
				require.Contains(t, said[0]["msg"], "tidings dlq show")

				again := at(41, rec)
				require.True(t, g.sub.offer(again), "the same message again is known")
				require.Len(t, b.parked(t), len(rows))
				require.Len(t, b.effects(t), max(applied, len(b.effects(t))))
				require.NoError(t, g.Ready(t.Context()))
				require.NoError(t, g.end())
			})
		})
	}
}

// I6: what follows a parked event under its key waits behind it, for its handler
// only, untried; other keys go on.
func TestI6LaterEventsOfAParkedKeyGoBehindIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBookkeeping(t)
		tried := 0
		g := newRig(t, Config{}, b.charge("charge", func(_ context.Context, e event.Of[placed]) error {
			if e.Aggregate().ID == "o-1" {
				tried++
				return errDeclined
			}
			return nil
		}), b.charge("notify", nil)).start(t)
		for n := range int64(3) {
			g.sub.untilAcked(t, at(2*n, record(t, "order.placed", "o-1", n+1, placed{})))
			require.True(t, g.sub.offer(at(2*n+1, record(t, "order.placed", "o-2", n+1, placed{}))))
		}
		require.Equal(t, 3, tried, "those behind are not tried")
		require.Equal(t, []string{"charge error", "charge behind", "charge behind"}, b.summary(t))
		require.Equal(t, []string{
			"notify o-1/1", "charge o-2/1", "notify o-2/1", "notify o-1/2", "charge o-2/2", "notify o-2/2", "notify o-1/3", "charge o-2/3", "notify o-2/3",
		}, b.effects(t))
		require.InDelta(t, 1, g.counter(t, "charge", outcomeParked), 0)
		require.InDelta(t, 2, g.counter(t, "charge", outcomeParkedBehind), 0)
		require.InDelta(t, 1, testutil.ToFloat64(g.met.events.WithLabelValues("orders", "notify", outcomeApplied))-5, 0)
		require.NoError(t, g.end())
	})
}

// I7: a message that cannot be decoded holds back its key for every handler,
// whatever type they take; one without a key holds back nothing.
func TestI7UndecodableMessageHoldsBackItsKeyForAllHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBookkeeping(t)
		var refunded []string
		refund := handlers.On("refund", func(_ context.Context, e event.Of[canceled]) error {
			refunded = append(refunded, e.Aggregate().ID)
			return nil
		}).Remember(b.box)
		g := newRig(t, Config{}, b.charge("charge", nil), refund).start(t)
		require.True(t, g.sub.offer(at(1, event.KafkaRecord{Key: []byte("o-1"), Value: []byte("{")})))
		require.True(t, g.sub.offer(at(2, event.KafkaRecord{Value: []byte("{")})))
		require.True(t, g.sub.offer(at(3, record(t, "order.placed", "o-1", 1, placed{}))))
		require.True(t, g.sub.offer(at(4, record(t, "order.canceled", "o-1", 2, canceled{}))))
		require.True(t, g.sub.offer(at(5, record(t, "order.placed", "o-2", 1, placed{}))))
		require.True(t, g.sub.offer(at(6, record(t, "order.canceled", "o-2", 2, canceled{}))))
		require.Equal(t, []string{
			"charge undecodable", "refund undecodable", "charge undecodable", "refund undecodable", "charge behind", "refund behind",
		}, b.summary(t))
		require.Equal(t, []string{"charge o-2/1"}, b.effects(t))
		require.Equal(t, []string{"o-2"}, refunded)
		require.InDelta(t, 2, testutil.ToFloat64(g.met.undecodable.WithLabelValues("orders")), 0, "once per message")
		require.NoError(t, g.end())
	})
}

// A handler without dead letters holds what it cannot apply, also beside one that
// parks.
func TestHandlersWithoutDeadLettersHoldBesideThoseThatPark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBookkeeping(t)
		var j journal
		g := newRig(t, Config{}, b.charge("charge", nil), onPlaced("plain", &j, nil)).start(t)
		d := at(1, event.KafkaRecord{Key: []byte("o-1"), Value: []byte("{")})
		for range 3 {
			require.False(t, g.sub.offer(d))
			require.InDelta(t, time.Minute, d.RetryIn, float64(13*time.Second))
			time.Sleep(d.RetryIn)
		}
		require.Equal(t, []string{"charge undecodable"}, b.summary(t))
		require.Len(t, g.Held(), 1)
		require.Equal(t, everyHandler, g.Held()[0].Handler)
		require.Len(t, g.logs.lines(slog.LevelError), 1)
		require.NoError(t, g.end())
	})
}

// I8, and nothing is dropped: at a bound events wait in their lanes, the alert is
// one, and they go on by themselves when there is room.
func TestFullDeadLettersHoldEventsInTheirLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBookkeeping(t)
		h := b.charge("charge", func(_ context.Context, e event.Of[placed]) error {
			if e.Payload.Total < 0 {
				return handlers.Reject(errDeclined)
			}
			return nil
		}).With(handlers.Settings{Bounds: inbox.Bounds{Events: 1}})
		g := newRig(t, Config{}, h).start(t)
		poison := func(key string, sequence int64) *delivery.Delivery {
			return at(sequence, record(t, "order.placed", key, sequence, placed{Total: -1}))
		}
		require.True(t, g.sub.offer(poison("o-1", 1)))
		time.Sleep(2 * time.Second) // bounds are looked up each second
		own, behind := poison("o-2", 1), poison("o-1", 2)
		for range 3 {
			require.False(t, g.sub.offer(own))
			require.InDelta(t, time.Minute, own.RetryIn, float64(13*time.Second))
			require.False(t, g.sub.offer(behind))
			time.Sleep(max(own.RetryIn, behind.RetryIn))
		}
		require.InDelta(t, 2, testutil.ToFloat64(g.met.full.WithLabelValues("charge")), 0)
		lines := g.logs.lines(slog.LevelError)
		require.Len(t, lines, 1, "one alert, not one per event")
		require.Contains(t, lines[0]["msg"], "dead letters are full")
		require.Equal(t, []string{
			`1 keys with 1 events parked for handler "charge" since 2000-01-01T00:00:00Z: see tidings dlq list`,
			`dead letters of handler "charge" are full since 2000-01-01T00:00:02Z: 2 events wait in their lanes; retry or discard parked events (tidings dlq list), or raise its Settings.Bounds`,
		}, g.Warnings(t.Context()))
		require.True(t, g.sub.offer(at(9, record(t, "order.placed", "o-3", 1, placed{}))), "what goes well needs no room")

		_, err := b.ExecContext(t.Context(), `DELETE FROM tidings_dead_letter; DELETE FROM tidings_parked_key; UPDATE tidings_key_row SET parked = 0`)
		require.NoError(t, err)
		time.Sleep(2 * time.Second)
		g.sub.untilAcked(t, own)
		require.Equal(t, []string{"charge rejected"}, b.summary(t))
		require.InDelta(t, 1, testutil.ToFloat64(g.met.full.WithLabelValues("charge")), 0)
		require.NoError(t, g.end())
		require.Zero(t, testutil.ToFloat64(g.met.full.WithLabelValues("charge")))
	})
}
