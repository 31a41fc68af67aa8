package deadletter

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidings-bus/tidings/handlers/inbox"
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

// Config makes a Runner.
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
	Lease   time.Duration
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

// Runner carries out, in a member of a group, what is asked of it, and retries
// what is due.
type Runner struct{ config Config }

// NewRunner returns a Runner that does nothing yet.
func NewRunner(c Config) (*Runner, error) { return &Runner{config: c}, nil }

// Run works until ctx ends; then it lets running retries finish, gives its
// claims back, and returns nil. It survives a store that is away.
func (r *Runner) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

var _ = inbox.Parked
