package integration

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/publisher"
)

// flow publishes events for as long as a suite wants them, keys by chance, so
// that whatever happens does so under load, on machines of any speed: it waits
// for a group that is far behind.
type flow struct {
	s      *scene
	random *rand.Rand
	group  string
	// ahead is how far it may be before the group's offsets.
	ahead int64

	stop context.CancelFunc
	done chan struct{}
	err  error // after done

	mu   sync.Mutex
	next map[string]int64 // sequence by key
	keys []string
	made []planned
}

const (
	flowSlice = 15
	flowPace  = 100 * time.Millisecond
)

// flow starts one. It ends with the suite at the latest.
func (s *scene) flow(group string, random *rand.Rand, keys int, ahead int64) *flow {
	s.t.Helper()
	pub, err := publisher.New(publisher.Config{Connection: s.connection(), TopicPrefix: s.prefix, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(s.t, err)
	catalog, err := newCatalog()
	require.NoError(s.t, err)
	f := &flow{s: s, random: rand.New(rand.NewPCG(random.Uint64(), 0)), group: group, ahead: ahead, done: make(chan struct{}), next: map[string]int64{}}
	prefix := fmt.Sprintf("o%x-", random.Uint32())
	for i := range keys {
		f.keys = append(f.keys, fmt.Sprintf("%s%d", prefix, i))
	}
	ctx, cancel := context.WithCancel(s.ctx)
	f.stop = cancel
	go func() {
		defer close(f.done)
		defer func() {
			if err := pub.Close(context.WithoutCancel(s.ctx)); f.err == nil {
				f.err = err
			}
		}()
		f.err = f.run(ctx, pub, catalog)
	}()
	s.t.Cleanup(func() { cancel(); <-f.done })
	return f
}

// run publishes until ctx ends, and then the last event of each key. What it has
// begun to publish it publishes.
func (f *flow) run(ctx context.Context, pub *publisher.Publisher, catalog *event.Catalog) error {
	publish := func(events []planned) error {
		made := make([]event.Event, 0, len(events))
		for _, p := range events {
			e, err := p.event(f.s.ctx, catalog)
			if err != nil {
				return err
			}
			made = append(made, e)
		}
		if err := pub.Publish(f.s.ctx, made...); err != nil {
			return fmt.Errorf("publish the flow: %w", err)
		}
		return nil
	}
	tick := time.NewTicker(flowPace)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := publish(f.some()); err != nil {
			return err
		}
		for behind := true; behind && ctx.Err() == nil; {
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
			asking, cancel := context.WithTimeout(ctx, 5*time.Second)
			lag, err := f.s.lag(asking, f.group)
			cancel()
			behind = err != nil || lag > f.ahead
		}
	}
	if f.s.ctx.Err() != nil {
		return context.Cause(f.s.ctx)
	}
	return publish(f.last())
}

// some makes the next events.
func (f *flow) some() []planned {
	f.mu.Lock()
	defer f.mu.Unlock()
	events := make([]planned, 0, flowSlice)
	for range flowSlice {
		key := f.keys[f.random.IntN(len(f.keys))]
		typ := changed
		if f.next[key]++; f.next[key] == 1 {
			typ = placed
		}
		events = append(events, newPlanned(key, typ, f.next[key]))
	}
	f.made = append(f.made, events...)
	return events
}

// last makes the events that end the keys.
func (f *flow) last() []planned {
	f.mu.Lock()
	defer f.mu.Unlock()
	var events []planned
	for key, sequence := range f.next {
		events = append(events, newPlanned(key, closed, sequence+1))
	}
	f.made = append(f.made, events...)
	return events
}

// events are those made so far.
func (f *flow) events() []planned {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.made)
}

// finish ends the flow and all its keys, and enters its events into the plan.
func (f *flow) finish(t *testing.T) []planned {
	t.Helper()
	f.stop()
	<-f.done
	require.NoError(t, f.err)
	f.s.expect(f.made)
	f.s.step(fmt.Sprintf("%d events have flowed", len(f.made)))
	return f.made
}

// newRandom returns what makes a suite's choices, which its log lets repeat.
func newRandom(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}
