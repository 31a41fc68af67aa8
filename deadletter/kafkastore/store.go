package kafkastore

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/deadletter/internal/replica"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// Store is the dead letters of a group in Kafka, as plain handlers park in them
// (handlers.On(...).ParkIn): an inbox.Parker, and an inbox.Ledger that remembers
// no applied events but those that were parked. Letters returns them for whoever lists,
// retries or edits. Its methods need it to run: see Run. Safe for
// concurrent use.
type Store struct {
	config  Config
	letters *replica.Store
	journal *journal

	mu      sync.Mutex
	running *running
}

// running is a reader, for as long as somebody is in Run or Keep.
type running struct {
	users  int
	cancel context.CancelFunc
	done   chan struct{}
	err    error // when done
}

var (
	_ inbox.Ledger     = (*Store)(nil)
	_ inbox.Parker     = (*Store)(nil)
	_ deadletter.Store = (*replica.Store)(nil)
)

// New returns a Store that does nothing yet.
func New(c Config) (*Store, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	j := newJournal(&c)
	return &Store{config: c, letters: replica.New(j, j.state, c.Group, c.MaxBytes), journal: j}, nil
}

// Letters returns the store of what was parked.
func (s *Store) Letters() deadletter.Store { return s.letters }

// ID implements inbox.Keeper.
func (s *Store) ID() string { return s.letters.ID() }

// Look implements inbox.Ledger. It answers Parked or Fresh, of a retry Gone or
// Fresh, and Duplicate only of an event that was parked and left within the last
// day (the last 100,000): other applied events are not remembered. Never Late.
func (s *Store) Look(ctx context.Context, a inbox.Admission) (inbox.Answer, error) {
	return s.letters.Look(ctx, a)
}

// Record implements inbox.Ledger: the letter of a retry leaves. Of other events
// nothing is recorded.
func (s *Store) Record(ctx context.Context, a inbox.Admission) error {
	return s.letters.Record(ctx, a)
}

// Park implements inbox.Parker. It has answered when the brokers have
// acknowledged the event.
func (s *Store) Park(ctx context.Context, a inbox.Admission, f inbox.Failure) (inbox.Answer, error) {
	return s.letters.Park(ctx, a, f)
}

// Run makes the topics where they are missing, reads what is parked, and follows
// it until ctx ends; then it returns nil. The store's methods work meanwhile, and
// wait for it up to Config.Timeout. It survives brokers that are away. What
// parks must have ended before: in a service whose router has handlers that park
// here, the router runs it (Keep) and ends it last, and nothing needs to call Run.
func (s *Store) Run(ctx context.Context) error {
	r := s.join(ctx)
	select {
	case <-ctx.Done():
	case <-r.done:
	}
	s.mu.Lock()
	r.users--
	last := r.users == 0
	if last {
		r.cancel()
	}
	if last && s.running == r {
		s.running = nil
	}
	s.mu.Unlock()
	if last {
		<-r.done
	}
	select {
	case <-r.done:
		if r.err != nil && !errors.Is(r.err, context.Canceled) {
			return r.err
		}
	default:
	}
	return nil
}

// Keep implements inbox.Keeper: it is Run.
func (s *Store) Keep(ctx context.Context) error { return s.Run(ctx) }

// join takes part in the reader that runs, or starts one.
func (s *Store) join(ctx context.Context) *running {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.running; r != nil {
		select {
		case <-r.done: // it failed: anew
		default:
			r.users++
			return r
		}
	}
	// It may outlive the first who runs it.
	following, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &running{users: 1, cancel: cancel, done: make(chan struct{})}
	s.running = r
	go func() {
		defer close(r.done)
		if r.err = s.Check(following); r.err == nil {
			s.journal.follow(following)
		}
	}()
	return r
}

// Ready returns nil when everything that is parked has been read, else why not.
func (s *Store) Ready(ctx context.Context) error {
	if !s.journal.loaded() {
		return fmt.Errorf("dead letters of group %q: %s is not read to its end yet", s.config.Group, s.config.Topic)
	}
	return s.journal.Read(ctx)
}
