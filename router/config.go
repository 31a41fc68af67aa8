package router

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/event"
)

// Config says how a router treats messages. Group and Catalog are required; the
// zero value of everything else is useful.
type Config struct {
	// Group is the consumer group: handlers' inbox rows carry it, so it must be
	// the group that the subscribers read as.
	Group string
	// Catalog knows the Go types of the events.
	Catalog *event.Catalog
	// Logger receives what happens. Nil: slog.Default().
	Logger *slog.Logger
	// Metrics registers the router's metrics, tidings_router_..., with the
	// label group. Nil: none.
	Metrics prometheus.Registerer

	// UnknownTypes says what becomes of events whose type is not in the
	// catalog: skipped and counted, the default, or refused.
	UnknownTypes UnknownTypes

	// SlowRetry is the time between tries of a held event, a fifth more or less
	// by chance. How often an event is tried before it is held is a setting of
	// its handler. Zero: 1 minute.
	SlowRetry time.Duration

	// StopTimeout is how long Run, told to stop, lets handlers finish and
	// subscriptions drain before it cancels the handlers' contexts. Zero: 30 s.
	// A subscriber's own limit holds as well: package subscriber's is
	// Timings.Drain, 10 s unless set. For slow handlers raise both.
	StopTimeout time.Duration
	// StopGrace is how long handlers have to return after that, before Run
	// gives them up with a StuckError. Zero: 5 s.
	StopGrace time.Duration

	// Outage says how an outage is told from events that fail by themselves.
	Outage Outage
	// DeadLetters says how parked events are retried.
	DeadLetters DeadLetters
	// Member names this process among those of the group, when it works on
	// parked events: unique. Empty: host, process ID and a random number.
	Member string

	// Remember bounds how many unfinished messages of subscribers without lanes
	// are remembered between redeliveries. Zero: 10,000.
	Remember int
}

// UnknownTypes says what becomes of events of unknown types.
type UnknownTypes int

const (
	// Skip acknowledges them and counts them.
	Skip UnknownTypes = iota
	// Refuse parks them for every handler, or holds them where one has no dead
	// letters, so that nothing behind them under their key is applied before the
	// type is known: where it is, they are retried.
	Refuse
)

// DeadLetters says how the events that handlers parked are retried. The zero
// value is useful: when somebody asks, and when a handler did.
type DeadLetters struct {
	// Schedule retries parked keys by itself. Its zero value does not.
	Schedule deadletter.Schedule
	// Concurrent is how many keys of a database this member retries at once.
	// Zero: 16.
	Concurrent int
	// Poll is how often each database is asked for work. Zero: 1 s.
	Poll time.Duration
	// Lease is how long others leave a key to this member after it died. Zero: 15 s.
	// On SQLite it must be more than the slowest handler takes: nobody writes, also
	// not that a lease goes on, while a handler's transaction is open.
	Lease time.Duration
}

func (d DeadLetters) validate() error {
	if d.Concurrent < 0 {
		return fmt.Errorf("router: DeadLetters.Concurrent is %d: use 1 or more, or 0 for the default", d.Concurrent)
	}
	for _, f := range []struct {
		name  string
		value time.Duration
	}{{"Poll", d.Poll}, {"Lease", d.Lease}, {"Schedule.Every", d.Schedule.Every}} {
		if f.value < 0 {
			return fmt.Errorf("router: DeadLetters.%s is %v: use a positive duration, or 0 for the default", f.name, f.value)
		}
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	setDuration(&c.SlowRetry, time.Minute)
	setDuration(&c.StopTimeout, 30*time.Second)
	setDuration(&c.StopGrace, 5*time.Second)
	if c.Remember == 0 {
		c.Remember = 10_000
	}
	if c.Member == "" {
		c.Member = memberName()
	}
	return c
}

// memberName is unique among processes, also of containers that share a name.
func memberName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s-%d-%08x", host, os.Getpid(), rand.Uint32()) //nolint:gosec // tells apart, hides nothing
}

func setDuration(d *time.Duration, def time.Duration) {
	if *d == 0 {
		*d = def
	}
}

// validate judges a config with its defaults filled in.
func (c Config) validate() error {
	if c.Group == "" {
		return errors.New("router: Group is empty: name the consumer group, the same that the subscribers read as")
	}
	if c.Catalog == nil {
		return errors.New("router: Catalog is nil: make one with event.NewCatalog and register the group's event types")
	}
	if c.UnknownTypes != Skip && c.UnknownTypes != Refuse {
		return fmt.Errorf("router: UnknownTypes is %d: use Skip or Refuse", c.UnknownTypes)
	}
	if c.Remember < 1 {
		return fmt.Errorf("router: Remember is %d: use 1 or more, or 0 for the default of 10000", c.Remember)
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"SlowRetry", c.SlowRetry},
		{"StopTimeout", c.StopTimeout},
		{"StopGrace", c.StopGrace},
	} {
		if d.value < 0 {
			return fmt.Errorf("router: %s is %v: use a positive duration, or 0 for the default", d.name, d.value)
		}
	}
	if err := c.Outage.validate(); err != nil {
		return err
	}
	return c.DeadLetters.validate()
}
