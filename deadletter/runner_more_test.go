package deadletter_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// askEdit records a request to edit the head of the only key.
func (s *shop) askEdit(value string) deadletter.Request {
	s.t.Helper()
	q, err := s.store().Ask(s.t.Context(), deadletter.Request{Group: group, Kind: deadletter.RequestEdit, Letter: s.keys()[0].Head, Value: []byte(value)}, ann)
	require.NoError(s.t, err)
	return q
}

func TestAnEditIsCarriedOutByOneMemberAndRefusedWhereItDoesNotDecode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.line("a", "1")
		for _, m := range []string{"m1", "m2", "m3"} {
			_, stop := s.start(s.config(m))
			defer stop()
		}
		good, bad := s.askEdit("one"), s.askEdit("!")
		time.Sleep(5 * time.Second)
		require.Equal(t, deadletter.Done, s.request(good.ID).State)
		refused := s.request(bad.ID)
		require.Equal(t, deadletter.Refused, refused.State)
		require.Equal(t, "line 1, column 1: unexpected '!'", refused.Error)
		audit, err := s.store().Audit(t.Context(), group, 0, 100)
		require.NoError(t, err)
		edits := 0
		for _, e := range audit {
			if e.Action == "edit" {
				edits++
				require.Equal(t, "ann", e.Act.Who)
			}
		}
		require.Equal(t, 1, edits)
		s.ask(deadletter.Filter{}, 0)
		time.Sleep(5 * time.Second)
		require.Equal(t, []string{"a/one"}, s.effects())
	})
}

func TestAnEditOfWhatIsBeingRetriedIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.line("a", "1")
		s.takes = time.Minute
		_, stop := s.start(s.config("m1"))
		defer stop()
		s.ask(deadletter.Filter{}, 0)
		time.Sleep(5 * time.Second)
		q := s.askEdit("one")
		time.Sleep(5 * time.Second)
		q = s.request(q.ID)
		require.Equal(t, deadletter.Refused, q.State)
		require.Contains(t, q.Error, "is being retried")
		time.Sleep(time.Minute)
		require.Equal(t, []string{"a/1"}, s.effects())
	})
}

func TestAnEditOfALetterThatHasLeftIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.line("a", "1")
		q := s.askEdit("one")
		require.NoError(t, s.store().Discard(t.Context(), q.Letter, ann))
		_, stop := s.start(s.config("m1"))
		defer stop()
		time.Sleep(5 * time.Second)
		q = s.request(q.ID)
		require.Equal(t, deadletter.Refused, q.State)
		require.Contains(t, q.Error, "not parked any more")
	})
}

func TestAnEndedRequestStopsBeforeTheNextEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.line("a", "1", "2", "3", "4", "5")
		s.takes = 10 * time.Second
		_, stop := s.start(s.config("m1"))
		defer stop()
		q := s.ask(deadletter.Filter{}, 0)
		time.Sleep(15 * time.Second)
		require.NoError(t, s.store().End(t.Context(), q.ID, ann))
		time.Sleep(time.Hour)
		require.Equal(t, []string{"a/1", "a/2"}, s.effects())
		require.Empty(t, s.keys()[0].Member)
	})
}

func TestAnEndedRequestTriesNothingWhoseTurnHadNotCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		for _, key := range []string{"a", "b", "c", "d"} {
			s.line(key, "1", "2")
		}
		_, stop := s.start(s.config("m1"))
		defer stop()
		q := s.ask(deadletter.Filter{}, 0.1) // turns 10 s apart, all of them reserved soon
		time.Sleep(5 * time.Second)
		require.Len(t, s.effects(), 1)
		require.NoError(t, s.store().End(t.Context(), q.ID, ann))
		time.Sleep(time.Hour)
		require.Len(t, s.effects(), 1, "keys that were not tried stay as they are")
		for _, k := range s.keys() {
			require.Empty(t, k.Member)
		}
	})
}

func TestAKeyThatWasBegunBecauseItWasDueIsFinishedByAnotherMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, vanishes := range []bool{false, true} {
			s := newShop(t)
			s.park("a", "1", inbox.Failure{Cause: inbox.CauseLater, Due: time.Now()})
			s.park("a", "2", inbox.Failure{Cause: inbox.CauseBehind})
			s.takes = 10 * time.Second
			c := s.config("m1")
			away := &awayStore{Store: c.Store}
			c.Store = away
			c.StopTimeout = time.Second
			_, stop := s.start(c)
			time.Sleep(12 * time.Second)
			require.Equal(t, []string{"a/1"}, s.effects())
			if vanishes {
				away.err.Store(&errAway)
			}
			stop()
			s.takes = 0
			_, stop = s.start(s.config("m2"))
			time.Sleep(20 * time.Second)
			require.Equal(t, []string{"a/1", "a/2"}, s.effects(), "vanished: %v", vanishes)
			stop()
		}
	})
}

func TestTheScheduleRetriesHeadsOfItsCausesABoundedNumberOfTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.line("a", "1") // has 5 attempts
		s.park("b", "2", inbox.Failure{Cause: inbox.CauseRejected, Attempts: 1})
		s.fail("1")
		for _, m := range []string{"m1", "m2"} {
			c := s.config(m)
			c.Schedule = deadletter.Schedule{Every: 10 * time.Minute, Attempts: 8}
			_, stop := s.start(c)
			defer stop()
		}
		time.Sleep(time.Minute)
		require.Zero(t, s.tried())
		time.Sleep(10 * time.Minute)
		require.Equal(t, 1, s.tried(), "two members ask once")
		time.Sleep(5 * time.Hour)
		require.Equal(t, 3, s.tried(), "up to 8 attempts")
		require.Len(t, s.keys(), 2, "rejected events wait for somebody")
		audit, err := s.store().Audit(t.Context(), group, 0, 100)
		require.NoError(t, err)
		require.Equal(t, "schedule", audit[0].Act.Who)
	})
}

// A request of the schedule that names a handler that has gone since would stay
// open, and keep the schedule from asking again.
func TestTheScheduleEndsItsRequestsForHandlersThatAreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.line("a", "1") // has 5 attempts
		s.fail("1")
		gone := s.admission("b", "2")
		gone.Handler.Name = "gone"
		_, err := s.store().Park(t.Context(), gone, inbox.Failure{Cause: inbox.CauseError, Attempts: 5})
		require.NoError(t, err)
		old, err := s.store().Ask(t.Context(), deadletter.Request{
			Group: group, Kind: deadletter.RequestRetry, Filter: deadletter.Filter{Group: group, Handlers: []string{s.keys()[0].Handler.Name, "gone"}},
		}, deadletter.Act{Who: "schedule", Reason: "by a member of an older release"})
		require.NoError(t, err)
		c := s.config("m1")
		c.Schedule = deadletter.Schedule{Every: 10 * time.Minute}
		_, stop := s.start(c)
		defer stop()
		time.Sleep(time.Hour)
		q, err := s.store().Request(t.Context(), old.ID)
		require.NoError(t, err)
		require.NotEqual(t, deadletter.Open, q.State)
		require.Greater(t, s.tried(), 3, "the schedule goes on")
	})
}

// pagedStore notes how many letters were asked for at once.
type pagedStore struct {
	deadletter.Store

	most atomic.Int64
}

func (s *pagedStore) Letters(ctx context.Context, key, after int64, limit int) ([]deadletter.Letter, error) {
	s.most.Store(max(s.most.Load(), int64(limit)))
	return s.Store.Letters(ctx, key, after, limit)
}

// I8: keys of large events are read a few events at a time.
func TestALargeKeyIsReadAFewEventsAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for size, most := range map[int]int64{100: 20, 100 << 10: 10, 3 << 20: 1} {
			s := newShop(t)
			large := strings.Repeat("x", size)
			s.line("a", large, large, large)
			c := s.config("m1")
			store := &pagedStore{Store: c.Store}
			c.Store = store
			_, stop := s.start(c)
			s.ask(deadletter.Filter{}, 0)
			time.Sleep(10 * time.Second)
			stop()
			require.Len(t, s.effects(), 3)
			require.Equal(t, most, store.most.Load(), "of %d bytes each", size)
		}
	})
}

// What the schedule retries, nobody asked for: a handler's deadline holds.
func TestARetryKnowsWhetherSomebodyAskedForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.line("by-itself", "1", "2")
		asked := map[string]bool{}
		c := s.config("m1")
		c.Schedule = deadletter.Schedule{Every: time.Minute}
		c.Handlers[charge] = &retrier{shop: s, store: s.store(), before: func(ctx context.Context, l deadletter.Letter) (deadletter.Outcome, bool) {
			s.mu.Lock()
			defer s.mu.Unlock()
			asked[string(l.Place.Key)+"/"+string(l.Record.Value)] = deadletter.Asked(ctx)
			return deadletter.Outcome{}, false
		}}
		_, stop := s.start(c)
		time.Sleep(3 * time.Minute)
		s.line("asked", "1")
		s.ask(deadletter.Filter{}, 0)
		time.Sleep(10 * time.Second)
		s.park("due", "1", inbox.Failure{Cause: inbox.CauseLater, Due: time.Now()})
		time.Sleep(10 * time.Second)
		stop()
		require.Equal(t, map[string]bool{"by-itself/1": false, "by-itself/2": false, "asked/1": true, "due/1": false}, asked)
	})
}

func TestOrphansAreTheHandlersThatAreNoLongerThere(t *testing.T) {
	s := newShop(t)
	s.line("a", "1")
	r, err := deadletter.NewRunner(s.config("m1"))
	require.NoError(t, err)
	orphans, err := r.Orphans(t.Context())
	require.NoError(t, err)
	require.Empty(t, orphans)
	gone := s.admission("b", "2")
	gone.Handler.Name = "renamed"
	_, err = s.store().Park(t.Context(), gone, inbox.Failure{Cause: inbox.CauseError})
	require.NoError(t, err)
	orphans, err = r.Orphans(t.Context())
	require.NoError(t, err)
	require.Equal(t, []inbox.Handler{gone.Handler}, orphans)
}

func TestGaugesShowWhatIsParkedAndGoWithTheRunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.line("a", "1", "2", "3")
		s.fail("2")
		gone := s.admission("b", "2")
		gone.Handler.Name = "renamed"
		_, err := s.store().Park(t.Context(), gone, inbox.Failure{Cause: inbox.CauseError})
		require.NoError(t, err)
		reg := prometheus.NewRegistry()
		c := s.config("m1")
		c.Metrics = reg
		_, stop := s.start(c)
		time.Sleep(30 * time.Minute)
		require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP tidings_deadletter_parked_events Parked events, of the whole group.
# TYPE tidings_deadletter_parked_events gauge
tidings_deadletter_parked_events{group="billing",handler="(orphaned)"} 1
tidings_deadletter_parked_events{group="billing",handler="charge"} 3
`), "tidings_deadletter_parked_events"))
		s.ask(deadletter.Filter{Handlers: []string{charge}}, 0)
		time.Sleep(time.Minute)
		require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP tidings_deadletter_parked_keys Parked keys, of the whole group; handler is (orphaned) for handlers that this member does not have.
# TYPE tidings_deadletter_parked_keys gauge
tidings_deadletter_parked_keys{group="billing",handler="(orphaned)"} 1
tidings_deadletter_parked_keys{group="billing",handler="charge"} 1
# HELP tidings_deadletter_parked_events Parked events, of the whole group.
# TYPE tidings_deadletter_parked_events gauge
tidings_deadletter_parked_events{group="billing",handler="(orphaned)"} 1
tidings_deadletter_parked_events{group="billing",handler="charge"} 2
# HELP tidings_deadletter_retries_total Retries of parked events by outcome: applied, failed (its key stops), not_tried (the database was away, or an outage), passed (somebody else was here).
# TYPE tidings_deadletter_retries_total counter
tidings_deadletter_retries_total{group="billing",handler="charge",outcome="applied"} 1
tidings_deadletter_retries_total{group="billing",handler="charge",outcome="failed"} 1
`), "tidings_deadletter_parked_keys", "tidings_deadletter_parked_events", "tidings_deadletter_retries_total"))
		stop()
		require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP tidings_deadletter_parked_events Parked events, of the whole group.
# TYPE tidings_deadletter_parked_events gauge
tidings_deadletter_parked_events{group="billing",handler="(orphaned)"} 0
tidings_deadletter_parked_events{group="billing",handler="charge"} 0
`), "tidings_deadletter_parked_events"))
	})
}

// lines counts what is logged.
type lines struct {
	slog.Handler

	mu       sync.Mutex
	messages []string
}

func (l *lines) Enabled(context.Context, slog.Level) bool { return true }
func (l *lines) WithAttrs([]slog.Attr) slog.Handler       { return l }

func (l *lines) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.messages = append(l.messages, r.Message)
	return nil
}

func TestAStoreThatIsAwayIsLoggedOnceAndSurvived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.line("a", "1")
		logged := &lines{Handler: slog.DiscardHandler}
		c := s.config("m1")
		away := &awayStore{Store: c.Store}
		c.Store, c.Logger = away, slog.New(logged)
		away.err.Store(&errAway)
		r, stop := s.start(c)
		s.ask(deadletter.Filter{}, 0)
		time.Sleep(time.Hour)
		require.ErrorIs(t, r.Status(t.Context()), errAway)
		away.err.Store(nil)
		time.Sleep(time.Minute)
		require.NoError(t, r.Status(t.Context()))
		require.Equal(t, []string{"a/1"}, s.effects())
		require.Equal(t, []string{"the store of dead letters is away: nothing is retried", "the store of dead letters is back"}, logged.messages)
		stop()
	})
}

func TestARunnersConfigThatCannotWorkIsNamed(t *testing.T) {
	s := newShop(t)
	for _, c := range []struct {
		field  string
		change func(*deadletter.Config)
	}{
		{"Store", func(c *deadletter.Config) { c.Store = nil }},
		{"Group", func(c *deadletter.Config) { c.Group = "" }},
		{"Member", func(c *deadletter.Config) { c.Member = "" }},
		{"Handlers", func(c *deadletter.Config) { c.Handlers = nil }},
		{`Handlers["x"]`, func(c *deadletter.Config) { c.Handlers["x"] = nil }},
		{"Concurrent", func(c *deadletter.Config) { c.Concurrent = -1 }},
		{"Poll", func(c *deadletter.Config) { c.Poll = -1 }},
		{"Lease", func(c *deadletter.Config) { c.Lease = time.Millisecond }},
		{"StopTimeout", func(c *deadletter.Config) { c.StopTimeout = -1 }},
		{"Schedule.Every", func(c *deadletter.Config) { c.Schedule.Every = time.Millisecond }},
		{"Schedule.Causes", func(c *deadletter.Config) { c.Schedule.Causes = []inbox.Cause{"bad weather"} }},
		{"Schedule.Attempts", func(c *deadletter.Config) { c.Schedule.Attempts = -1 }},
		{"Schedule.Rate", func(c *deadletter.Config) { c.Schedule.Rate = -1 }},
	} {
		config := s.config("m1")
		c.change(&config)
		_, err := deadletter.NewRunner(config)
		require.ErrorContains(t, err, c.field)
	}
}
