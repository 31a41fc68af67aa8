package router

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

func TestEveryHandlerOfTheTypeAppliesTheEventInTheOrderListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		other := handlers.On("refund", func(context.Context, event.Of[canceled]) error { j.add("refund"); return nil })
		g := newRig(t, Config{}, onPlaced("charge", &j, nil), other, onPlaced("notify", &j, nil)).start(t)
		require.True(t, g.sub.offer(at(1, placedRecord(t))))
		require.Equal(t, []string{"charge", "notify"}, j.all())
		require.True(t, g.sub.offer(at(2, record(t, "order.canceled", "o-1", 2, canceled{}))))
		require.Equal(t, []string{"charge", "notify", "refund"}, j.all())
		require.InDelta(t, 1, g.counter(t, "charge", outcomeApplied), 0)
		require.InDelta(t, 1, g.counter(t, "refund", outcomeApplied), 0)
		require.NoError(t, g.end())
	})
}

// I6: a failing handler does not keep the others from applying the event, and
// they are not run again with it.
func TestI6RetryRunsOnlyTheHandlersThatHaveNotFinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		g := newRig(t, Config{}, onPlaced("a", &j, nil), onPlaced("b", &j, failTimes(2)), onPlaced("c", &j, nil)).start(t)
		d := at(1, placedRecord(t))
		g.sub.untilAcked(t, d)
		require.Equal(t, []string{"a", "b", "c", "b", "b"}, j.all())
		require.Equal(t, 3, d.Attempt)
		require.Nil(t, d.State, "a finished message leaves nothing behind")
		require.InDelta(t, 2, testutil.ToFloat64(g.met.retries.WithLabelValues("b", "error")), 0)
		require.Len(t, g.logs.lines(slog.LevelWarn), 2)
		require.NoError(t, g.end())
	})
}

func TestNoHandlerIsTriedBeforeItsOwnDelayIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		began := time.Now()
		var slowAgain time.Duration
		slow := onPlaced("slow", &j, func(_ context.Context, n int) error {
			if n == 1 {
				return handlers.RetryAfter(10 * time.Second)
			}
			slowAgain = time.Since(began)
			return nil
		})
		g := newRig(t, Config{}, slow, onPlaced("quick", &j, failTimes(2))).start(t)
		d := at(1, placedRecord(t))
		require.False(t, g.sub.offer(d))
		require.Less(t, d.RetryIn, 2*time.Second, "the earliest of the delays is asked for")
		time.Sleep(d.RetryIn)
		g.sub.untilAcked(t, d)
		require.Equal(t, []string{"slow", "quick", "quick", "quick", "slow"}, j.all())
		require.GreaterOrEqual(t, slowAgain, 10*time.Second)
		require.NoError(t, g.end())
	})
}

func TestRetryAfterIsNotATry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		var attempts []int
		h := onPlaced("a", &j, func(ctx context.Context, n int) error {
			attempts = append(attempts, handlers.Attempt(ctx))
			if n <= 10 {
				return handlers.RetryAfter(time.Hour)
			}
			return nil
		})
		g := newRig(t, Config{}, h).start(t)
		began := time.Now()
		g.sub.untilAcked(t, at(1, placedRecord(t)))
		require.Equal(t, 10*time.Hour, time.Since(began).Truncate(time.Minute))
		require.Equal(t, []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, attempts)
		require.Empty(t, g.Held())
		require.NoError(t, g.end())
	})
}

// A handler that knows no delay (a header that was not there) does not spin.
func TestRetryAfterNothingWaitsAsAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		h := onPlaced("a", &j, func(_ context.Context, n int) error {
			if n <= 100 {
				return handlers.RetryAfter(0)
			}
			return nil
		})
		g := newRig(t, Config{}, h).start(t)
		began := time.Now()
		d := at(1, placedRecord(t))
		for !g.sub.offer(d) {
			time.Sleep(d.RetryIn)
		}
		require.InDelta(t, 100*time.Second, time.Since(began), float64(20*time.Second))
		require.NoError(t, g.end())
	})
}

func TestDuplicateIsFinishedAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		box := &memInbox{id: "db", answer: func(inbox.Admission) (inbox.Answer, error) { return inbox.Duplicate, nil }}
		g := newRig(t, Config{}, inTx("charge", box, &j)).start(t)
		require.True(t, g.sub.offer(at(1, placedRecord(t))))
		require.Empty(t, j.all())
		require.InDelta(t, 1, g.counter(t, "charge", outcomeDuplicate), 0)
		require.NoError(t, g.end())
	})
}

func TestCommitInDoubtIsRetriedAndThenADuplicate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		answers := 0
		box := &memInbox{id: "db", answer: func(inbox.Admission) (inbox.Answer, error) {
			if answers++; answers == 1 {
				return 0, errors.Join(errors.New("connection reset"), inbox.ErrCommitUnknown)
			}
			return inbox.Duplicate, nil
		}}
		g := newRig(t, Config{}, inTx("charge", box, &j)).start(t)
		g.sub.untilAcked(t, at(1, placedRecord(t)))
		require.InDelta(t, 1, g.counter(t, "charge", outcomeDuplicate), 0)
		require.InDelta(t, 1, testutil.ToFloat64(g.met.retries.WithLabelValues("charge", "commit_unknown")), 0)
		require.NoError(t, g.end())
	})
}

func TestADatabaseThatIsAwayCostsNoTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		var attempts []int
		answers := 0
		box := &memInbox{id: "db", answer: func(a inbox.Admission) (inbox.Answer, error) {
			attempts = append(attempts, a.Attempt)
			if answers++; answers <= 20 {
				return 0, errors.Join(errors.New("connection refused"), inbox.ErrNotAdmitted)
			}
			return inbox.Fresh, nil
		}}
		g := newRig(t, Config{}, inTx("charge", box, &j)).start(t)
		g.sub.untilAcked(t, at(1, placedRecord(t)))
		require.Equal(t, []string{"charge"}, j.all())
		require.Equal(t, 1, attempts[20])
		require.Zero(t, g.counter(t, "charge", outcomeHeld))
		require.NoError(t, g.end())
	})
}

func TestTypesWithoutAHandlerAreSkippedAndUnknownOnesCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		g := newRig(t, Config{}, onPlaced("a", &j, nil)).start(t)
		require.True(t, g.sub.offer(at(1, record(t, "order.canceled", "o-1", 1, canceled{}))))
		require.Zero(t, testutil.ToFloat64(g.met.unknown.WithLabelValues("orders")), "it is in the catalog")
		require.True(t, g.sub.offer(at(2, record(t, "order.shipped", "o-1", 2, shipped{}))))
		require.InDelta(t, 1, testutil.ToFloat64(g.met.unknown.WithLabelValues("orders")), 0)
		require.InDelta(t, 2, g.counter(t, "", outcomeSkipped), 0)
		require.Empty(t, j.all())
		require.NoError(t, g.end())
	})
}

func TestUnknownTypesAreHeldWhenRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		g := newRig(t, Config{UnknownTypes: Refuse}, onPlaced("a", &j, nil)).start(t)
		d := at(2, record(t, "order.shipped", "o-1", 2, shipped{}))
		for range 3 {
			require.False(t, g.sub.offer(d))
			time.Sleep(d.RetryIn)
		}
		require.True(t, g.sub.offer(at(3, record(t, "order.canceled", "o-1", 3, canceled{}))), "known, but not handled here: skipped")
		require.InDelta(t, 1, testutil.ToFloat64(g.met.unknown.WithLabelValues("orders")), 0, "once per message")
		held := g.logs.lines(slog.LevelError)
		require.Len(t, held, 1)
		require.Equal(t, "order.shipped", held[0]["event_type"])
		require.Equal(t, `unknown event type "order.shipped", version 1: register it in the catalog, or let the router skip unknown types`, held[0]["cause"])
		require.Equal(t, "unknown_type", g.Held()[0].Reason)
		require.NoError(t, g.end())
	})
}

func TestHeldEventIsLoggedOnceWithAllItsCoordinates(t *testing.T) {
	late := &memInbox{id: "db", answer: func(inbox.Admission) (inbox.Answer, error) { return inbox.Late, nil }}
	parked := &memInbox{id: "db", answer: func(inbox.Admission) (inbox.Answer, error) { return inbox.Parked, nil }}
	var j journal
	for _, c := range []struct {
		reason  string
		handler handlers.Handler
		tries   int
		cause   string
	}{
		{"error", onPlaced("h", &j, failTimes(1000)), 3, "card terminal is away"},
		{"rejected", onPlaced("h", &j, func(context.Context, int) error { return handlers.Reject(errors.New("no such customer")) }), 1, "rejected: no such customer"},
		{"late", inTx("h", late, &j), 1, "its ID is unknown, but its sequence is not above"},
		{"parked", inTx("h", parked, &j), 1, "its key has parked events"},
	} {
		t.Run(c.reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, Config{SlowRetry: time.Hour}, c.handler).start(t)
				rec := placedRecord(t)
				d := at(41, rec)
				for range c.tries {
					time.Sleep(d.RetryIn)
					require.False(t, g.sub.offer(d))
				}
				require.InDelta(t, time.Hour, d.RetryIn, float64(13*time.Minute), "a held event is tried slowly")
				for range 3 {
					time.Sleep(d.RetryIn)
					require.False(t, g.sub.offer(d), "what was not applied is not acknowledged (I5)")
				}
				lines := g.logs.lines(slog.LevelError)
				require.Len(t, lines, 1)
				e, err := event.FromKafka(rec)
				require.NoError(t, err)
				for k, v := range map[string]any{
					"group": "billing", "topic": "orders", "partition": 3.0, "offset": 41.0, "key": `"o-1"`,
					"event_id": e.ID().String(), "event_type": "order.placed", "aggregate_type": "order", "aggregate_id": "o-1",
					"sequence": 1.0, "correlation": "corr-o-1", "handler": "h", "attempt": float64(c.tries), "class": c.reason,
				} {
					require.Equal(t, v, lines[0][k], k)
				}
				require.Contains(t, lines[0]["cause"], c.cause)
				require.InDelta(t, 1, g.counter(t, "h", outcomeHeld), 0)
				require.InDelta(t, 1, testutil.ToFloat64(g.met.held.WithLabelValues("orders", "h")), 0)
				require.Equal(t, []string{`1 held in topic "orders" for handler "h": ` + c.reason}, g.Warnings(t.Context()))
				require.NoError(t, g.Ready(t.Context()), "held events are no reason to be unready")
				require.NoError(t, g.end())
				require.Zero(t, testutil.ToFloat64(g.met.held.WithLabelValues("orders", "h")), "a stopped router holds nothing")
			})
		})
	}
}

func TestHeldEventIsReleasedWhenItIsAppliedAtLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		g := newRig(t, Config{}, onPlaced("a", &j, failTimes(5)), onPlaced("b", &j, nil)).start(t)
		g.sub.untilAcked(t, at(1, placedRecord(t)))
		require.Equal(t, []string{"a", "b", "a", "a", "a", "a", "a"}, j.all())
		require.Empty(t, g.Held())
		require.Zero(t, testutil.ToFloat64(g.met.held.WithLabelValues("orders", "a")))
		require.InDelta(t, 1, g.counter(t, "a", outcomeHeld), 0)
		require.InDelta(t, 1, g.counter(t, "a", outcomeApplied), 0)
		require.NoError(t, g.end())
	})
}

func TestHeldEventThatWentWithItsPartitionIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		reject := func(context.Context, int) error { return handlers.Reject(errors.New("no")) }
		g := newRig(t, Config{SlowRetry: time.Minute}, onPlaced("a", &j, reject)).start(t)
		require.False(t, g.sub.offer(at(1, placedRecord(t))))
		require.Len(t, g.Held(), 1)
		time.Sleep(3 * time.Minute) // it never comes again
		require.Empty(t, g.Held())
		require.Zero(t, testutil.ToFloat64(g.met.held.WithLabelValues("orders", "a")))
		require.NoError(t, g.end())
	})
}

// I7: what cannot be decoded is neither dropped nor given to anyone.
func TestI7UndecodableMessageIsHeldAndDumpedWithinBounds(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for _, c := range []struct {
		name string
		rec  func(t *testing.T) event.KafkaRecord
	}{
		{"no event at all", func(*testing.T) event.KafkaRecord {
			return event.KafkaRecord{
				Key: []byte("k"), Value: []byte(long),
				Headers: []event.KafkaHeader{{Key: "content-type", Value: []byte(long)}},
			}
		}},
		{"payload is not the type's", func(t *testing.T) event.KafkaRecord {
			r := placedRecord(t)
			r.Value = []byte(`{"Total": "` + long + `"`)
			return r
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var j journal
				g := newRig(t, Config{}, onPlaced("a", &j, nil)).start(t)
				rec := c.rec(t)
				d := at(9, rec)
				for range 3 {
					require.False(t, g.sub.offer(d))
					time.Sleep(d.RetryIn)
				}
				lines := g.logs.lines(slog.LevelError)
				require.Len(t, lines, 1)
				require.Equal(t, everyHandler, lines[0]["handler"])
				require.InDelta(t, 9, lines[0]["offset"], 0)
				require.Equal(t, "undecodable", lines[0]["class"])
				raw, _ := lines[0]["record"].(map[string]any)
				require.InDelta(t, len(rec.Value), raw["value_bytes"], 0)
				require.Less(t, len(raw["value"].(string)), 1000)
				require.NotEmpty(t, raw["headers"])
				require.InDelta(t, 1, testutil.ToFloat64(g.met.undecodable.WithLabelValues("orders")), 0)
				require.InDelta(t, 1, testutil.ToFloat64(g.met.held.WithLabelValues("orders", everyHandler)), 0)
				require.Empty(t, j.all())
				require.NoError(t, g.end())
			})
		})
	}
}

func TestPanicIsAFailedTryWithItsStack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		h := onPlaced("a", &j, func(_ context.Context, n int) error {
			if n == 1 {
				panic("nil map")
			}
			return nil
		})
		g := newRig(t, Config{}, h, onPlaced("b", &j, nil)).start(t)
		g.sub.untilAcked(t, at(1, placedRecord(t)))
		require.Equal(t, []string{"a", "b", "a"}, j.all())
		lines := g.logs.lines(slog.LevelError)
		require.Len(t, lines, 1)
		require.Equal(t, "panic: nil map", lines[0]["cause"])
		require.Contains(t, lines[0]["stack"], "TestPanicIsAFailedTryWithItsStack")
		require.InDelta(t, 1, testutil.ToFloat64(g.met.retries.WithLabelValues("a", "panic")), 0)
		require.NoError(t, g.end())
	})
}

func TestHandlerThatEndsItsGoroutineDoesNotHoldTheMessageForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		h := onPlaced("a", &j, func(_ context.Context, n int) error {
			if n == 1 {
				runtime.Goexit()
			}
			return nil
		})
		g := newRig(t, Config{}, h).start(t)
		d := at(1, placedRecord(t))
		require.False(t, g.sub.offer(d))
		require.True(t, g.sub.offer(d))
		require.NoError(t, g.end())
	})
}

func TestTimeoutIsItsOwnClassOfFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := handlers.On("a", func(ctx context.Context, _ event.Of[placed]) error {
			if handlers.Attempt(ctx) == 1 {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}).With(handlers.Settings{Timeout: time.Second})
		g := newRig(t, Config{}, h).start(t)
		g.sub.untilAcked(t, at(1, placedRecord(t)))
		require.InDelta(t, 1, testutil.ToFloat64(g.met.retries.WithLabelValues("a", "timeout")), 0)
		require.NoError(t, g.end())
	})
}

func TestHandlerWhosePartitionIsLostIsCancelledAndHasNotFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := handlers.On("a", func(ctx context.Context, _ event.Of[placed]) error {
			<-ctx.Done()
			return ctx.Err()
		})
		g := newRig(t, Config{}, h).start(t)
		partition, lose := context.WithCancel(t.Context())
		d := at(1, placedRecord(t))
		time.AfterFunc(time.Second, lose)
		require.False(t, g.sub.offerIn(partition, d))
		require.Nil(t, d.State)
		require.InDelta(t, 1, testutil.ToFloat64(g.met.retries.WithLabelValues("a", "canceled")), 0)
		require.Empty(t, g.logs.lines(slog.LevelWarn))
		require.NoError(t, g.end())
	})
}

func TestHandlersContextCarriesCauseCorrelationTraceAndLogger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		catalog := newCatalog(t)
		h := handlers.On("a", func(ctx context.Context, e event.Of[placed]) error {
			cause, ok := event.CauseFrom(ctx)
			require.True(t, ok)
			require.Equal(t, e.ID(), cause.ID())
			next, err := catalog.Event(ctx, event.Raised{Aggregate: event.Aggregate{Type: "invoice", ID: "i-1"}, Time: time.Now(), Payload: canceled{}})
			require.NoError(t, err)
			require.Equal(t, e.ID().String(), next.Causation())
			require.Equal(t, "corr-o-1", next.Correlation())
			trace, _ := event.TraceFrom(ctx)
			require.Equal(t, e.TraceParent(), trace)
			Logger(ctx).Info("charged")
			return nil
		})
		g := newRig(t, Config{Catalog: catalog}, h).start(t)
		require.True(t, g.sub.offer(at(8, placedRecord(t))))
		for _, line := range g.logs.lines(slog.LevelInfo) {
			if line["msg"] == "charged" {
				require.Equal(t, "a", line["handler"])
				require.Equal(t, "corr-o-1", line["correlation"])
				require.Equal(t, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", line["traceparent"])
				require.InDelta(t, 8, line["offset"], 0)
				require.NoError(t, g.end())
				return
			}
		}
		t.Fatal("the handler's line is missing")
	})
}
