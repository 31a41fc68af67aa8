package deadletter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Retrier runs parked events of one handler. The router has one for each.
type Retrier interface {
	// Retry tries the letter once, by Apply with its ID.
	Retry(ctx context.Context, l Letter) Outcome
	// Check says why the handler could not take the letter with another value:
	// it does not decode (the error has the line), or is of another type.
	Check(l Letter, to Edited) error
}

// Outcome is what became of a retry.
type Outcome struct {
	Verdict Verdict
	Err     error
	// After is how long to wait before the key is tried again: NotTried only.
	After time.Duration
}

// Verdict is what became of a retry, in a word.
type Verdict int

// The verdicts.
const (
	Applied  Verdict = iota + 1 // or known as applied: it left the store
	Failed                      // booked with the letter: the key stops here
	NotTried                    // the database is away, or there is an outage: the key stays claimed and is tried again
	Passed                      // it is no longer the first of its key: somebody else was here
)

// String names the verdict: "applied", "failed", "not_tried" or "passed".
func (v Verdict) String() string {
	switch v {
	case Applied:
		return "applied"
	case Failed:
		return "failed"
	case NotTried:
		return "not_tried"
	case Passed:
		return "passed"
	default:
		return "no verdict"
	}
}

// Config makes a Runner. Store, Group, Member and Handlers are required.
type Config struct {
	Store    Store
	Group    string
	Member   string             // unique among processes
	Handlers map[string]Retrier // by handler name
	// Concurrent is how many keys are retried at once. Zero: 16.
	Concurrent int
	// Poll is how often the store is asked for work. Zero: 1 s.
	Poll time.Duration
	// Lease is how long a claim holds when this process dies. Zero: 15 s.
	Lease time.Duration
	// StopTimeout is how long running retries may go on when Run is told to
	// stop, before their contexts end. Zero: 30 s.
	StopTimeout time.Duration
	// Schedule retries by itself what waits for somebody. Its zero value does not.
	Schedule Schedule
	// Logger: nil means slog.Default().
	Logger *slog.Logger
	// Metrics, when set, gets the tidings_deadletter_ metrics, with the label
	// group. Runners with the same registerer share them.
	Metrics prometheus.Registerer
}

const (
	defaultConcurrent  = 16
	defaultPoll        = time.Second
	defaultLease       = 15 * time.Second
	defaultStopTimeout = 30 * time.Second
	minLease           = time.Second
)

func (c Config) withDefaults() Config {
	setZero(&c.Concurrent, defaultConcurrent)
	setZero(&c.Poll, defaultPoll)
	setZero(&c.Lease, defaultLease)
	setZero(&c.StopTimeout, defaultStopTimeout)
	c.Schedule = c.Schedule.withDefaults()
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func setZero[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

func (c Config) validate() error {
	switch {
	case c.Store == nil:
		return errors.New("deadletter: Store is nil: give the runner the store of its handlers' inbox")
	case c.Group == "":
		return errors.New("deadletter: Group is empty: name the group whose handlers these are")
	case c.Member == "":
		return errors.New("deadletter: Member is empty: name this process, differently from every other member, such as by a UUID")
	case len(c.Handlers) == 0:
		return errors.New("deadletter: Handlers is empty: there is nothing to retry with")
	case c.Concurrent < 1:
		return fmt.Errorf("deadletter: Concurrent is %d: use 1 or more, or 0 for the default of %d", c.Concurrent, defaultConcurrent)
	case c.Poll < 0:
		return fmt.Errorf("deadletter: Poll is %v: use a positive duration, or 0 for %v", c.Poll, defaultPoll)
	case c.Lease < minLease:
		return fmt.Errorf("deadletter: Lease is %v: use %v or more, or 0 for %v", c.Lease, minLease, defaultLease)
	case c.StopTimeout < 0:
		return fmt.Errorf("deadletter: StopTimeout is %v: use a positive duration, or 0 for %v", c.StopTimeout, defaultStopTimeout)
	}
	for name, r := range c.Handlers {
		if r == nil {
			return fmt.Errorf("deadletter: Handlers[%q] is nil: give it the handler's Retrier, or leave it out", name)
		}
	}
	return c.Schedule.validate()
}

// Runner carries out, in a member of a group, what is asked of it, and retries
// what is due. Per key it runs one event at a time, from the first one on, and
// stops at the first that fails. A key is one member's at a time, by a claim in
// the store: when the claim is lost, the retry's context ends.
type Runner struct {
	config  Config
	names   []string // of the handlers
	log     *slog.Logger
	metrics *metrics

	store  state
	stop   chan struct{} // closed: start no further retry
	wake   chan struct{} // a place became free while there was more to do
	claims claims
	askers map[int64]bool // of poll
}

// NewRunner returns a Runner that does nothing yet.
func NewRunner(c Config) (*Runner, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	m, err := newMetrics(c.Metrics, c.Group)
	if err != nil {
		return nil, err
	}
	r := &Runner{
		config:  c,
		log:     c.Logger.With("group", c.Group, "store", c.Store.ID()),
		metrics: m,
		stop:    make(chan struct{}),
		wake:    make(chan struct{}, 1),
		claims:  claims{held: map[string]*claim{}},
		askers:  map[int64]bool{},
	}
	for name := range c.Handlers {
		r.names = append(r.names, name)
	}
	slices.Sort(r.names)
	return r, nil
}

// Run works until ctx ends; then it lets running retries finish, cancels them
// after StopTimeout, gives its claims back, and returns nil when all have
// returned. It survives a store that is away. It may be called once.
func (r *Runner) Run(ctx context.Context) error {
	// What runs ends after ctx, by StopTimeout at the latest.
	working, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	beside, finish := context.WithCancel(working)
	var background, keys sync.WaitGroup
	background.Go(func() { r.renew(beside) })
	background.Go(func() { r.watch(ctx) })
	if r.config.Schedule.Every > 0 {
		background.Go(func() { r.schedule(ctx) })
	}

	r.poll(ctx, working, &keys)
	close(r.stop)
	timeout := time.AfterFunc(r.config.StopTimeout, func() { cancel(errStopTimeout) })
	keys.Wait()
	timeout.Stop()
	finish()
	background.Wait()
	return nil
}

var errStopTimeout = errors.New("the time to stop has passed")

// poll asks the store for work until ctx ends, and hands it to goroutines of
// keys whose contexts come from working.
func (r *Runner) poll(ctx, working context.Context, keys *sync.WaitGroup) {
	for failed := 0; ctx.Err() == nil; {
		more, err := r.ask(ctx, working, keys)
		if ctx.Err() != nil {
			return
		}
		delay := around(r.config.Poll)
		if r.answered(err); err != nil {
			failed++
			delay = backoff(r.config.Poll, failed)
		} else {
			failed = 0
		}
		wake := r.wake
		if !more {
			wake = nil // a free place is no reason to ask again at once
		}
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		case <-wake:
		}
	}
}

// ask does one round: edits, requests, keys. More: the store may have further
// keys than there was room for.
func (r *Runner) ask(ctx, working context.Context, keys *sync.WaitGroup) (more bool, err error) {
	c := &r.config
	if err := r.edits(ctx); err != nil {
		return false, err
	}
	if err := c.Store.Advance(ctx, c.Group); err != nil {
		return false, fmt.Errorf("carry the requests on: %w", err)
	}
	free := c.Concurrent - r.claims.running()
	if free <= 0 {
		return true, nil
	}
	began := time.Now()
	found, err := c.Store.Claim(ctx, c.Group, r.names, c.Member, c.Lease, free)
	if err != nil {
		return false, fmt.Errorf("ask for keys to retry: %w", err)
	}
	for _, k := range found {
		asked, failed := r.asked(ctx, k.Request)
		if failed != nil {
			err = failed
			keys.Go(func() { r.release(working, k, false, Progress{}) })
			continue
		}
		claimed, ok := r.claims.add(working, k, asked, began.Add(r.config.Lease))
		if !ok {
			// It was lost and is ours again, but its last retry has not returned:
			// nobody may run beside it, and that one does not know of this claim.
			r.release(working, k, false, Progress{})
			continue
		}
		keys.Go(func() {
			r.retry(claimed)
			r.claims.remove(claimed)
			select {
			case r.wake <- struct{}{}:
			default:
			}
		})
	}
	return len(found) == free, err
}
