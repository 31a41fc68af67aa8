package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/internal/testenv"
)

// troubled are the handlers of a service to which everything happens at once:
// poison, tries that fail, slow ones and such that do not end.
func troubled(keys float64, spread uint64) []handlerSpec {
	hs := every(0.03, time.Millisecond)
	for i := range hs {
		hs[i].Timeout = 3 * time.Second
		hs[i].Tries = 4
		hs[i].Trouble = trouble{Poisoned: keys, Spread: spread, Slow: 0.005, SlowWork: 200 * time.Millisecond}
	}
	return hs
}

// Some keys are poisoned, some tries fail, some are slow, and meanwhile members
// join, leave and die of SIGKILL, and so do the broker and the database, while
// events flow. Then the poison is cured and a retry is asked for: while it runs a
// member dies and one joins, and new events of the parked keys keep arriving.
// Every event has its effect once, in the order of its key (I3, I4, I6).
func TestWhateverFailsAndDiesParkedKeysAreDrainedInOrder(t *testing.T) {
	broker := testenv.StartKafka(t, testenv.KafkaOptions{})
	server := testenv.StartPostgres(t, testenv.PostgresOptions{})
	const partitions, group = 6, "billing"
	s := newScene(t, stage{brokers: broker.Brokers, postgres: server.Database(t), partitions: partitions})
	random := newRandom(t)
	hs := troubled(0.15, 10)
	s.takes(group, hs)
	crew := s.crew(member{Group: group, Handlers: hs, Session: 3 * time.Second, Lease: 5 * time.Second, Connections: 16}, random)
	crew.join()
	crew.join()
	flow := s.flow(group, random, size(150, 500), 150)
	s.awaitNewEffects(100)

	steps := []struct {
		what string
		do   func()
	}{
		{"a member joins and another is killed", func() { crew.join(); s.awaitNewEffects(50); crew.kill() }},
		{"a member joins and another leaves", func() { crew.join(); crew.leave() }},
		{"a member is killed and comes back", func() { crew.kill(); crew.join() }},
		{"all members are killed and come back", func() { crew.kill(); crew.kill(); crew.join(); crew.join() }},
		{"the broker is killed and comes back", func() { require.NoError(t, broker.Restart(s.ctx)) }},
		{"the database is killed and comes back", func() { require.NoError(t, server.Restart(s.ctx)) }},
	}
	for range size(1, 6) {
		for _, i := range random.Perm(len(steps)) {
			steps[i].do()
			s.step(steps[i].what)
			s.awaitNewEffects(100)
		}
	}

	// What is poison is parked by now, with what followed it.
	store := s.letters()
	s.await("all poison is parked", func(ctx context.Context) (bool, string, error) {
		want := len(poisonedBy(hs, flow.events()).handlers)
		n, err := store.Count(ctx, deadletter.Filter{Group: group})
		return err == nil && want > 0 && total(n).Keys >= int64(want), fmt.Sprintf("%+v of %d keys", n, want), err
	})
	poison := poisonedBy(hs, flow.events())
	s.requireNothingPassed(group, poison)
	parked, err := store.Count(s.ctx, deadletter.Filter{Group: group})
	require.NoError(t, err)
	s.step(fmt.Sprintf("%d keys with %d events are parked", total(parked).Keys, total(parked).Events))

	s.cure()
	asked, err := store.Ask(s.ctx, deadletter.Request{Group: group, Kind: deadletter.RequestRetry, Rate: 100},
		deadletter.Act{Who: "suite", Reason: "the poison is cured"})
	require.NoError(t, err)
	s.await("the redrive has begun", func(ctx context.Context) (bool, string, error) {
		n, _, err := s.countBehind(ctx, group, poison)
		return n >= 20, fmt.Sprintf("%d effects", n), err
	})
	q, err := store.Request(s.ctx, asked.ID)
	require.NoError(t, err)
	require.Equal(t, deadletter.Open, q.State, "the redrive must go on when a member is killed")
	crew.killRetrier(store)
	crew.join()
	s.step("a member is killed while it retries, and one joins")
	s.await("the request is carried out", func(ctx context.Context) (bool, string, error) {
		q, err = store.Request(ctx, asked.ID)
		return q.State == deadletter.Done, fmt.Sprintf("%+v", q.Progress), err
	})
	require.Positive(t, q.Applied)
	s.step(fmt.Sprintf("the request is done: %+v", q.Progress))

	// A try that failed stopped its key again: that is asked for, too. Events keep
	// flowing, and go directly to their handlers again once nothing is before them.
	s.retryUntilNone(store, group)
	s.step("nothing is parked")
	s.awaitNewEffects(100)
	events := flow.finish(t)
	s.retryUntilNone(store, group)
	s.awaitDrained(group)
	crew.stop(t)
	s.requireEffectsOnce(group)
	n, _, err := s.countBehind(s.ctx, group, poison)
	require.NoError(t, err)
	require.Greater(t, int64(n), total(parked).Events, "events of parked keys must have come after the request")
	_, failed := s.failures(group)
	require.Positive(t, failed, "some tries must have failed")
	t.Logf("%d events, %d poisoned keys, %d of their events applied", len(events), len(poison.handlers), n)
}
