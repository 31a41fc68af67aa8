package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// effects are what handlers did, by key.
type effects struct {
	mu sync.Mutex
	by map[string][]int64
}

func (e *effects) add(key string, sequence int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.by == nil {
		e.by = map[string][]int64{}
	}
	e.by[key] = append(e.by[key], sequence)
}

// try is a retry of a letter in a goroutine of its own.
func (s *scene) try(l *deadletter.Letter, effect func()) (inbox.Answer, error) {
	a := admission(l)
	answer, err := s.Box.Look(s.Context(), a)
	if err != nil || answer != inbox.Fresh {
		return answer, err
	}
	effect()
	return answer, s.Box.Record(s.Context(), a)
}

func testDrain(s *scene) {
	ctx := s.Context()
	const n = 20
	for key := range 3 {
		s.park(charge, strconv.Itoa(key), 1, n)
	}
	r := s.ask(deadletter.Filter{})
	s.advance()
	var did effects
	failing := map[string]int64{"1": 7} // key 1 stops there
	for {
		claimed := s.claim(member, 1)
		if len(claimed) == 0 {
			break
		}
		k := claimed[0]
		p, arrived := deadletter.Progress{}, int64(n)
		for p.Failed == 0 {
			list, err := s.Store.Letters(ctx, k.ID, 0, 5)
			if errors.Is(err, deadletter.ErrNotFound) {
				p.KeysDone = 1
				break
			}
			require.NoError(s, err)
			for _, l := range list {
				if l.Sequence == failing[string(k.Key)] {
					answer, err := s.Box.Park(ctx, admission(&l), failure(inbox.CauseRejected))
					require.NoError(s, err)
					require.Equal(s, inbox.Parked.String(), answer.String())
					p.Failed, p.KeysStopped = 1, 1
					break
				}
				require.Equal(s, inbox.Fresh.String(), s.retry(&l, func() { did.add(string(k.Key), l.Sequence) }).String())
				p.Applied++
				if arrived < n+10 { // while it drains, others come: they go behind
					arrived++
					s.put(s.read(charge, string(k.Key), arrived), inbox.Failure{Cause: inbox.CauseBehind})
				}
			}
		}
		require.NoError(s, s.Store.Release(ctx, member, k, true, p))
		s.consistent()
	}
	s.advance()
	done := s.request(r.ID)
	require.Equal(s, deadletter.Done, done.State)
	require.Equal(s, deadletter.Progress{KeysDone: 2, KeysStopped: 1, Applied: 2*(n+10) + 6, Failed: 1}, done.Progress)
	stopped := s.key(charge, "1")
	require.Equal(s, inbox.CauseRejected, stopped.Cause)
	require.Equal(s, int64(7), s.letters(stopped.ID)[0].Sequence)
	for key, list := range did.by {
		require.True(s, slices.IsSorted(list), "key %s: %v", key, list)
	}
	require.Len(s, did.by["0"], n+10)
	require.Equal(s, inbox.Fresh.String(), s.apply(s.read(charge, "0", 100)).String(), "the key flows again")
}

// Whoever is first, an event leaves once: by its effect, or by being discarded.
func testActsBesideRetries(s *scene) {
	for round := range s.Rounds {
		key := "r-" + strconv.Itoa(round)
		list := s.park(charge, key, 1, 3)
		head := list[0]
		var (
			race    errgroup.Group
			answer  inbox.Answer
			discard error
		)
		race.Go(func() (err error) {
			answer, err = s.try(&head, func() {})
			return err
		})
		race.Go(func() error {
			discard = s.Second.Discard(s.Context(), head.ID, ann)
			return nil
		})
		race.Go(func() error {
			_, err := s.Box.Park(s.Context(), s.read(charge, key, 4), inbox.Failure{Cause: inbox.CauseBehind})
			return err
		})
		require.NoError(s, race.Wait())
		if discard != nil {
			require.ErrorIs(s, discard, deadletter.ErrNotFound)
			require.Equal(s, inbox.Fresh, answer, "it left by its effect")
		}
		left := s.letters(s.key(charge, key).ID)
		require.Equal(s, []int64{2, 3, 4}, field(left, sequence))
		for i := range left {
			require.Equal(s, inbox.Fresh.String(), s.retry(&left[i], nil).String())
		}
	}
	require.Empty(s, s.keys(deadletter.Filter{}))
	s.consistent()
}

// race is members that claim, retry and release, while others park, discard and
// ask.
type race struct {
	*scene

	did     effects
	holders sync.Map      // parked key -> member
	gone    sync.Map      // key/sequence of what was discarded
	parked  chan struct{} // closed: no more come
}

const racingKeys, racingMembers = 6, 4

func testRace(s *scene) {
	r := &race{scene: s, parked: make(chan struct{})}
	var (
		work    errgroup.Group
		parking sync.WaitGroup
		stores  = []deadletter.Store{s.Store, s.Second}
	)
	for key := range racingKeys {
		parking.Add(1)
		work.Go(func() error {
			defer parking.Done()
			return r.parkAll(strconv.Itoa(key))
		})
	}
	work.Go(func() error {
		parking.Wait()
		close(r.parked)
		return nil
	})
	for m := range racingMembers {
		work.Go(func() error {
			for !r.over() {
				if err := r.carryOut(stores[m%2], "member-"+strconv.Itoa(m)); err != nil {
					return fmt.Errorf("member %d: %w", m, err)
				}
			}
			return nil
		})
	}
	work.Go(func() error {
		for i := 0; !r.over(); i++ {
			if err := r.interfere(i); err != nil {
				return err
			}
		}
		return nil
	})
	require.NoError(s, work.Wait())
	applied := 0
	for key := range racingKeys {
		list := r.did.by[strconv.Itoa(key)]
		applied += len(list)
		require.True(s, slices.IsSorted(list), "key %d: effects in the order parked: %v", key, list)
		require.Len(s, slices.Compact(slices.Clone(list)), len(list), "key %d: each once: %v", key, list)
		for i := int64(1); i <= int64(s.Rounds); i++ {
			if _, discarded := r.gone.Load(strconv.Itoa(key) + "/" + strconv.FormatInt(i, 10)); !discarded {
				require.Contains(s, list, i, "key %d: an event was lost", key)
			}
		}
	}
	require.Positive(s, applied, "there were retries")
	s.consistent()
}

// over: all that was parked has left.
func (r *race) over() bool {
	if r.Failed() {
		return true
	}
	select {
	case <-r.parked:
		left, err := r.Store.Count(r.Context(), deadletter.Filter{})
		return err == nil && left[0].Events == 0
	default:
		return false
	}
}

func (r *race) parkAll(key string) error {
	for i := range int64(r.Rounds) {
		a := r.read(charge, key, i+1)
		answer, err := r.Box.Park(r.Context(), a, inbox.Failure{Cause: inbox.CauseBehind})
		if err == nil && answer == inbox.Fresh { // the first, or the key was drained
			_, err = r.Box.Park(r.Context(), a, failure(inbox.CauseError))
		}
		if err != nil {
			return fmt.Errorf("park: %w", err)
		}
	}
	return nil
}

// interfere asks for a retry of all, and discards the first of a key now and then.
func (r *race) interfere(round int) error {
	ctx := r.Context()
	_, err := r.Store.Ask(ctx, deadletter.Request{Group: billing, Kind: deadletter.RequestRetry}, ann)
	if err != nil && !errors.Is(err, deadletter.ErrNotFound) && !errors.Is(err, deadletter.ErrBusy) {
		return err
	}
	list, err := r.Store.Keys(ctx, deadletter.Filter{}, 0, 1)
	if err != nil || len(list) == 0 || round%5 > 0 {
		return err
	}
	l, err := r.Store.Letter(ctx, list[0].Head)
	if err == nil {
		err = r.Store.Discard(ctx, l.ID, ann)
	}
	switch {
	case err == nil:
		r.gone.Store(string(l.Place.Key)+"/"+strconv.FormatInt(l.Sequence, 10), true)
	case !errors.Is(err, deadletter.ErrNotFound) && !errors.Is(err, deadletter.ErrBusy):
		return err
	}
	return nil
}

// carryOut is a round of a member: it retries the keys it was given.
func (r *race) carryOut(store deadletter.Store, who string) error {
	ctx := r.Context()
	if err := store.Advance(ctx, billing); err != nil {
		return err
	}
	claimed, err := store.Claim(ctx, billing, both, who, time.Minute, 2)
	if err != nil {
		return err
	}
	for _, k := range claimed {
		if other, held := r.holders.LoadOrStore(k.ID, who); held {
			return fmt.Errorf("key %d is held by %v too", k.ID, other)
		}
	}
	for _, k := range claimed {
		list, err := store.Letters(ctx, k.ID, 0, 3)
		if err != nil && !errors.Is(err, deadletter.ErrNotFound) {
			return err
		}
		p := deadletter.Progress{}
		for _, l := range list {
			// Discarding may take it: then there must have been no effect.
			answer, err := r.try(&l, func() {})
			if err != nil {
				return err
			}
			if answer == inbox.Fresh {
				r.did.add(string(l.Place.Key), l.Sequence)
				p.Applied++
			}
		}
		r.holders.Delete(k.ID)
		if err := store.Release(ctx, who, k, len(list) == 0, p); err != nil {
			return fmt.Errorf("release: %w", err)
		}
	}
	return nil
}
