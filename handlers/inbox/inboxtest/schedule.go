package inboxtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// testSchedules runs random schedules of two members that have the same key at
// once, as around a rebalance: one parks event n while the other admits n+1,
// events come again, parked ones are retried, fail again or are discarded. Every
// event must be applied once or discarded, those of a key in their order.
func testSchedules[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	const atOnce = 12
	members := []Member[Tx]{db.Member(t), db.Member(t)}
	db.keep(t, members[0])
	var (
		group     errgroup.Group
		mu        sync.Mutex
		schedules []*schedule[Tx]
		seed      = rand.Uint64() //nolint:gosec // chooses schedules
	)
	t.Logf("seed %d", seed)
	group.SetLimit(atOnce)
	for i := range db.Schedules {
		group.Go(func() error {
			s := newSchedule(&db, members, seed, i)
			mu.Lock()
			schedules = append(schedules, s)
			mu.Unlock()
			if err := s.run(t.Context()); err != nil {
				return fmt.Errorf("schedule %d: %w", i, err)
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())

	applied := map[string]int{} // event -> its place among the effects
	for at, e := range db.Effects(t) {
		_, twice := applied[e]
		require.False(t, twice, "effect of %s twice", e)
		applied[e] = at
	}
	counts := map[string]int{}
	events := 0
	for _, s := range schedules {
		last := -1
		for i, a := range s.events {
			at, ok := applied[a.EventID.String()]
			if s.discarded[i] {
				require.False(t, ok, "event %d of schedule %d was discarded and applied", i, s.number)
				continue
			}
			require.True(t, ok, "event %d of schedule %d is lost", i, s.number)
			require.Greater(t, at, last, "event %d of schedule %d overtook", i, s.number)
			last = at
			events++
		}
		for what, n := range s.counts {
			counts[what] += n
		}
	}
	require.Len(t, applied, events, "effects of nobody's events")
	require.Empty(t, db.Letters(t))
	t.Logf("%d schedules of %d members: %d events applied, %v", len(schedules), len(members), events, counts)
	for _, what := range []string{"parked", "parked behind", "applied before it was parked", "applied by retry", "failed again", "discarded", "not in its turn"} {
		require.Positive(t, counts[what], "no event was %s", what)
	}
}

// schedule is one key, and what two members do with it.
type schedule[Tx any] struct {
	db      *Database[Tx]
	members []Member[Tx]
	number  int
	seed    uint64
	events  []inbox.Admission
	acks    chan struct{} // one for each that a member acknowledged

	mu        sync.Mutex
	next      int // all before it are acknowledged: a member may start here or earlier
	discarded []bool
	counts    map[string]int
}

func newSchedule[Tx any](db *Database[Tx], members []Member[Tx], seed uint64, number int) *schedule[Tx] {
	s := &schedule[Tx]{db: db, members: members, number: number, seed: seed, counts: map[string]int{}}
	random := s.random(0)
	key := fmt.Sprintf("o-%d-%d", seed, number)
	s.events = make([]inbox.Admission, 3+random.IntN(4))
	for i := range s.events {
		s.events[i] = read(key, int64(i+1))
	}
	s.discarded = make([]bool, len(s.events))
	s.acks = make(chan struct{}, 4*len(s.events)*len(members))
	return s
}

func (s *schedule[Tx]) random(of int) *rand.Rand {
	return rand.New(rand.NewPCG(s.seed, uint64(s.number*100+of))) //nolint:gosec // chooses schedules
}

func (s *schedule[Tx]) count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[what]++
}

func (s *schedule[Tx]) run(ctx context.Context) error {
	var lanes, all errgroup.Group
	for i, m := range s.members {
		lanes.Go(func() error { return s.read(ctx, m, s.random(1+i)) })
		all.Go(func() error { return s.operate(ctx, m, s.random(11+i)) })
	}
	err := lanes.Wait()
	close(s.acks)
	if err = errors.Join(err, all.Wait()); err != nil {
		return err
	}
	for { // what is left is retried without failures
		more, err := s.retry(ctx, s.members[0], s.random(21), 0)
		if err != nil || !more {
			return err
		}
	}
}

// read is a member's lane: it has the events in order, once or twice, from
// anywhere before what is acknowledged.
func (s *schedule[Tx]) read(ctx context.Context, m Member[Tx], random *rand.Rand) error {
	for range 1 + random.IntN(2) {
		s.mu.Lock()
		from := random.IntN(s.next + 1)
		s.mu.Unlock()
		for i := from; i < len(s.events); i++ {
			if err := s.deliver(ctx, m, random, s.events[i]); err != nil {
				return fmt.Errorf("event %d: %w", i, err)
			}
			s.mu.Lock()
			s.next = max(s.next, i+1)
			s.mu.Unlock()
			s.acks <- struct{}{}
		}
	}
	return nil
}

// deliver tries until the event may be acknowledged.
func (s *schedule[Tx]) deliver(ctx context.Context, m Member[Tx], random *rand.Rand, a inbox.Admission) error {
	for {
		bare := a
		if random.IntN(3) == 0 {
			bare.Message = nil // as a plain handler asks: parked by a second call
		}
		answer, err := m.Apply(ctx, bare, s.effect(a, random.IntN(3) == 0))
		f := failed()
		switch {
		case err == errEffect: //nolint:errorlint // it comes as it is
			if random.IntN(2) == 0 {
				continue // another try
			}
		case err != nil:
			return err
		case answer == inbox.Parked && bare.Message != nil:
			s.count("parked behind")
			return nil
		case answer == inbox.Parked:
			f = inbox.Failure{Cause: inbox.CauseBehind}
		case answer == inbox.Fresh || answer == inbox.Duplicate:
			return nil
		default:
			return fmt.Errorf("admitted with the answer %q", answer)
		}
		switch answer, err = m.Park(ctx, a, f); {
		case err != nil:
			return err
		case answer == inbox.Parked && f.Cause == inbox.CauseBehind:
			s.count("parked behind")
			return nil
		case answer == inbox.Parked:
			s.count("parked")
			return nil
		case answer == inbox.Duplicate:
			s.count("applied before it was parked")
			return nil
		case answer == inbox.Fresh && f.Cause == inbox.CauseBehind:
			s.count("drained before it was parked")
		default:
			return fmt.Errorf("parked with the answer %q", answer)
		}
	}
}

func (s *schedule[Tx]) effect(a inbox.Admission, fails bool) func(ctx context.Context, tx Tx) error {
	return func(ctx context.Context, tx Tx) error {
		if err := s.db.Put(ctx, tx, string(a.Place.Key), a.EventID.String()); err != nil {
			return err
		}
		if fails {
			return errEffect
		}
		return nil
	}
}

// operate retries what is parked, whenever something was acknowledged.
func (s *schedule[Tx]) operate(ctx context.Context, m Member[Tx], random *rand.Rand) error {
	for range s.acks {
		if _, err := s.retry(ctx, m, random, 3); err != nil {
			return err
		}
	}
	return nil
}

// retry does something to the first parked event of the key, or tries a later
// one; more: there was one. One in oneIn fails, and one in four times as many is
// discarded; 0: none, and only the first is tried.
func (s *schedule[Tx]) retry(ctx context.Context, m Member[Tx], random *rand.Rand, oneIn int) (more bool, err error) {
	nth := 0
	if oneIn > 0 && random.IntN(5) == 0 {
		nth = 1 + random.IntN(2) // out of turn
	}
	letter, event, err := s.db.Nth(ctx, string(s.events[0].Place.Key), nth)
	if err != nil || letter == 0 {
		return false, err
	}
	i := slices.IndexFunc(s.events, func(a inbox.Admission) bool { return a.EventID == event })
	if i < 0 {
		return true, fmt.Errorf("letter %d is of nobody's event %s", letter, event)
	}
	a := as(s.events[i], letter)
	if oneIn > 0 && nth == 0 && random.IntN(4*oneIn) == 0 {
		return true, s.discard(ctx, m, letter, i)
	}
	answer, err := m.Apply(ctx, a, s.effect(a, oneIn > 0 && random.IntN(oneIn) == 0))
	if err == errEffect { //nolint:errorlint // it comes as it is
		if answer, err = m.Park(ctx, a, failed()); err == nil && answer == inbox.Parked {
			s.count("failed again")
			return true, nil
		}
	}
	switch {
	case err != nil:
		return true, err
	case answer == inbox.Fresh:
		s.count("applied by retry")
	case answer == inbox.Gone && nth > 0:
		s.count("not in its turn")
	case answer == inbox.Duplicate || answer == inbox.Gone:
		s.count("retry of what is gone")
	default:
		return true, fmt.Errorf("retry of event %d: answer %q", i, answer)
	}
	return true, nil
}

func (s *schedule[Tx]) discard(ctx context.Context, m Member[Tx], letter int64, i int) error {
	err := m.Letters().Discard(ctx, letter, deadletter.Act{Who: "a test", Reason: "one of its schedules"})
	if errors.Is(err, deadletter.ErrNotFound) {
		return nil
	}
	if err == nil {
		s.count("discarded")
		s.mu.Lock()
		s.discarded[i] = true
		s.mu.Unlock()
	}
	return err
}
