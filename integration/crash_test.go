package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/internal/testenv"
)

// A member dies of SIGKILL amid its work, several times, and another takes over:
// I3, I4 and I5 across a crash.
func TestAProcessKilledInTheMiddleOfItsWorkLosesAndDoublesNothing(t *testing.T) {
	killInTheMiddle(t, stage{})
}

func killInTheMiddle(t *testing.T, st stage) {
	t.Helper()
	s := newScene(t, st)
	events := plan("o", size(shape{80, 40}, shape{500, 100}))
	s.expect(events)
	hs := every(0, 3*time.Millisecond)
	s.takes("billing", hs)
	spec := func(name string) member {
		return member{Name: name, Group: "billing", Handlers: hs, Session: 2 * time.Second}
	}
	s.produce(producer{})
	s.member(spec("survivor"))
	kills := size(3, 8)
	for i := range kills {
		name := fmt.Sprintf("victim-%d", i)
		victim := s.member(spec(name))
		s.awaitEffects(size(60, 500), "member = $1", name)
		victim.kill(t)
		lag, err := s.lag(s.ctx, "billing")
		require.NoError(t, err)
		require.Positive(t, lag, "the kill must be amid the work")
	}
	last := s.member(spec("last"))
	s.awaitDrained("billing")
	last.stop(t)
	s.processes[1].stop(t)
	s.requireEffectsOnce("billing")
}

// Members come and go under load, and every twentieth event fails at first:
// its tries, its delays and its key's order survive the moves.
func TestMembersJoinAndLeaveWhileEveryTwentiethEventFails(t *testing.T) {
	joinAndLeave(t, stage{partitions: 6})
}

func joinAndLeave(t *testing.T, st stage) {
	t.Helper()
	s := newScene(t, st)
	events := plan("o", size(shape{120, 30}, shape{600, 100}))
	s.expect(events)
	hs := every(0.05, time.Millisecond)
	s.takes("billing", hs)
	spec := func(name string) member { return member{Name: name, Group: "billing", Handlers: hs} }

	producing := s.producer(producer{Slice: 20, Pace: 250 * time.Millisecond})
	members := []*process{s.member(spec("m0")), s.member(spec("m1"))}
	s.awaitEffects(50, "member = 'm0'")
	for i := range size(3, 12) {
		name := fmt.Sprintf("m%d", i+2)
		members = append(members, s.member(spec(name)))
		s.awaitEffects(50, "member = $1", name)
		members[0].stop(t)
		members = members[1:]
	}
	require.True(t, producing.running(), "members must come and go under load")
	producing.release(t)
	s.awaitDrained("billing")
	for _, m := range members {
		m.stop(t)
	}
	s.requireEffectsOnce("billing")
	tries, failed := s.failures("billing")
	want := 0
	for _, e := range events {
		for _, h := range hs {
			if h.Type == e.Type && failures(h, e.ID) > 0 {
				want++
			}
		}
	}
	require.Equal(t, want, failed, "each chosen event must have failed first")
	require.Greater(t, tries, failed, "some must have failed twice")
	t.Logf("%d tries of %d events failed on purpose", tries, failed)
}

// The broker dies of SIGKILL and comes back: while events are published, and
// while they are handled. The publisher tries until its context ends.
func TestABrokerKilledAndRestartedLosesAndDoublesNothing(t *testing.T) {
	killBroker(t, stage{})
}

func killBroker(t *testing.T, st stage) {
	t.Helper()
	broker := testenv.StartKafka(t, testenv.KafkaOptions{})
	st.brokers = broker.Brokers
	s := newScene(t, st)
	hs := every(0, 3*time.Millisecond)
	s.takes("billing", hs)
	sh := size(shape{80, 25}, shape{500, 100})
	spec := member{Name: "a", Group: "billing", Handlers: hs}

	// While publishing: a call in flight must still return when all is acknowledged.
	events := plan("o", sh)
	s.expect(events)
	producing := s.producer(producer{Slice: 20, Pace: 50 * time.Millisecond})
	s.awaitProduced(len(events) / 4)
	require.NoError(t, broker.Kill(s.ctx))
	require.True(t, producing.running(), "the broker must die while events are published")
	s.step("broker killed while events are published")
	require.NoError(t, broker.Start(s.ctx))
	s.step("broker back")
	producing.release(t)
	s.step("all is published")

	// While consuming.
	a := s.member(spec)
	s.awaitEffects(sh.events()/8, "grp = 'billing'")
	require.NoError(t, broker.Kill(s.ctx))
	s.step("broker killed while events are handled")
	require.NoError(t, broker.Start(s.ctx))
	s.step("broker back")
	lag, err := s.lag(s.ctx, "billing")
	require.NoError(t, err)
	require.Positive(t, lag, "the broker must die amid the work")
	s.awaitDrained("billing")
	s.step("all is handled")
	a.stop(t)
	s.requireEffectsOnce("billing")
}

// The database dies of SIGKILL under load and comes back: what was in doubt is
// settled by the inbox, and an outage is not the events' fault: none of them
// spends its tries on it and is left to the slow retry. No handler fails here but
// by the kills: an effect of a second try is one that a kill cut off.
func TestADatabaseKilledAndRestartedLosesAndDoublesNothing(t *testing.T) {
	server := testenv.StartPostgres(t, testenv.PostgresOptions{})
	s := newScene(t, stage{postgres: server.Database(t)})
	events := plan("o", size(shape{80, 40}, shape{500, 100}))
	s.expect(events)
	hs := every(0, 2*time.Millisecond)
	s.takes("billing", hs)
	// All is in the topic first, so that the member has its hands full at each kill.
	s.produce(producer{})
	a := s.member(member{Name: "a", Group: "billing", Handlers: hs, SlowRetry: time.Hour})
	for i := range size(2, 6) {
		s.awaitEffects(len(events)*(i+1)/size(5, 10), "grp = 'billing'")
		before := s.retried("billing")
		require.NoError(t, server.Kill(s.ctx))
		s.step("database killed")
		require.NoError(t, server.Start(s.ctx))
		s.await("what the kill cut off is done again", func(ctx context.Context) (bool, string, error) {
			now, err := s.countRetried(ctx, "billing")
			return now > before, fmt.Sprintf("%d effects of a second try, %d before the kill", now, before), err
		})
		s.step("what was cut off is done again")
	}
	s.awaitDrained("billing")
	a.stop(t)
	s.requireEffectsOnce("billing")
}
