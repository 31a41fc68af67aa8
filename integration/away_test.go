package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/internal/testenv"
)

// The database is away for much longer than events are tried, first dead, then
// without an answer, while events keep coming. Nothing is parked, nothing lost, and
// work goes on by itself. Each member says so once for each handler: in its log,
// its health and its metrics.
func TestADatabaseThatIsAwayParksNothingAndWorkGoesOnByItself(t *testing.T) {
	const partitions, group = 6, "billing"
	server := testenv.StartPostgres(t, testenv.PostgresOptions{})
	s := newScene(t, stage{postgres: server.Database(t), partitions: partitions})
	random := newRandom(t)
	hs := []handlerSpec{
		{Name: "book", Type: changed, Tries: 3, Timeout: 3 * time.Second, Work: time.Millisecond},
		{Name: "report", Type: changed, Tries: 3, Timeout: 3 * time.Second, Failing: 0.02},
	}
	s.takes(group, hs)
	crew := s.crew(member{Group: group, Handlers: hs, Port: true, Probes: size(4*time.Second, 0)}, random)
	crew.join()
	crew.join()
	crew.awaitSettled(partitions)
	flow := s.flow(group, random, 200, 1_000_000)
	s.awaitShared(group, "m0", "m1")

	const begins, ends, since = `msg="handler is in an outage`, `msg="the outage of the handler is over"`, "tidings_router_outage_since_seconds"
	told := func(p *process, what, handler string) (n int) {
		log := p.log.String()
		require.NotContains(t, log, "bytes left out", "every line is counted")
		for line := range strings.Lines(log) {
			if strings.Contains(line, what) && strings.Contains(line, "handler="+handler+" ") {
				n++
			}
		}
		return n
	}
	each := func(do func(p *process, handler string)) {
		for _, p := range crew.at {
			for _, h := range hs {
				do(p, h.Name)
			}
		}
	}
	requireNothingParked := func() {
		each(func(p *process, handler string) {
			for _, outcome := range []string{`outcome="parked"`, `outcome="parked_behind"`, `outcome="held"`} {
				require.Zero(t, s.metric(p, "tidings_router_events_total", `handler="`+handler+`"`, outcome))
			}
		})
	}
	stayAway := func(d time.Duration) {
		from := time.Now()
		s.await(fmt.Sprintf("the database has been away for %v", d), func(context.Context) (bool, string, error) {
			return time.Since(from) >= d, "", nil
		})
	}

	require.NoError(t, server.Kill(s.ctx))
	killed := time.Now()
	s.step("the database is killed")
	each(func(p *process, handler string) {
		s.await(fmt.Sprintf("%s tells of the outage of %s", p.name, handler), func(context.Context) (bool, string, error) {
			return told(p, begins, handler) > 0, "", nil
		})
		at := time.Unix(0, int64(s.metric(p, since, `handler="`+handler+`"`)*1e9))
		require.WithinRange(t, at, killed.Add(-time.Second), time.Now().Add(time.Second))
		require.Contains(t, strings.Join(s.warnings(p), "\n"), fmt.Sprintf("handler %q of topic %q is in an outage since %s", handler, s.topic, at.UTC().Format(time.RFC3339)))
	})
	s.step("all have told")
	published := len(flow.events())
	stayAway(size(12*time.Second, time.Minute) - time.Since(killed))
	require.Greater(t, len(flow.events()), published+100, "events must come while it is away")
	requireNothingParked()
	require.NoError(t, server.Start(s.ctx))
	s.step("the database is back")
	each(func(p *process, handler string) {
		s.await(fmt.Sprintf("%s tells that the outage of %s is over", p.name, handler), func(context.Context) (bool, string, error) {
			return told(p, ends, handler) > 0, "", nil
		})
		require.Zero(t, s.metric(p, since, `handler="`+handler+`"`))
		require.NotContains(t, strings.Join(s.warnings(p), "\n"), fmt.Sprintf("handler %q of topic %q is in an outage", handler, s.topic))
	})
	s.awaitNewEffects(100)
	each(func(p *process, handler string) {
		require.Equal(t, 1, told(p, begins, handler), "%s tells of the outage of %s once", p.name, handler)
		require.Equal(t, 1, told(p, ends, handler), "%s tells of the end of it once", p.name)
	})
	s.step("work goes on")

	require.NoError(t, server.Pause(s.ctx))
	s.step("the database does not answer")
	stayAway(size(6*time.Second, time.Minute))
	require.NoError(t, server.Unpause(s.ctx))
	s.step("the database answers")
	s.awaitNewEffects(100)

	flow.finish(t)
	s.awaitDrained(group)
	requireNothingParked()
	parked, err := s.letters().Count(s.ctx, deadletter.Filter{Group: group})
	require.NoError(t, err)
	require.Zero(t, total(parked))
	crew.stop(t)
	s.requireEffectsOnce(group)
}
