package handlers

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tidings-bus/tidings/handlers/inbox"
)

// What zero Settings mean: five tries within about ten seconds.
const (
	DefaultTimeout    = 30 * time.Second
	DefaultTries      = 5
	DefaultMinBackoff = 700 * time.Millisecond
	DefaultMaxBackoff = 5 * time.Second
)

const (
	// MaxHold is the longest delay between two tries that holds a key in the
	// memory of a member. What asks for more is parked, with the time when it is
	// tried again.
	MaxHold = time.Minute
	// MaxTries is the most that Settings.Tries may be.
	MaxTries = 1000
)

// jitter spreads a delay by this part of it to either side.
const jitter = 0.2

// Settings are one handler's patience. The zero value is useful: five tries
// with 0.7, 1.4, 2.8 and 5 seconds between them, each delay up to 20 % shorter
// or longer.
type Settings struct {
	// Timeout bounds one try of the function. Zero: DefaultTimeout; negative: none.
	Timeout time.Duration
	// Tries is how often an event is tried before it is given up, MaxTries at
	// most. Zero: DefaultTries; 1: never again.
	Tries int
	// MinBackoff is the delay after the first failed try; it doubles with each
	// further one. Zero: DefaultMinBackoff, or MaxBackoff where that is less.
	MinBackoff time.Duration
	// MaxBackoff bounds the delay; MaxHold at most. Zero: DefaultMaxBackoff, or
	// MinBackoff where that is more.
	MaxBackoff time.Duration
	// Patience bounds the time from the first failed try to the beginning of the
	// last: the event is given up instead of being tried later than that, though
	// tries are left. It counts what RetryAfter waits, too. Zero: Tries alone
	// bounds them.
	Patience time.Duration
	// Deadline is how long after its own time an event may still be handled ("B
	// follows A within three days at most"): later it is parked, with that as the
	// cause, and applied only when somebody asks for it. Zero: none.
	Deadline time.Duration
	// Bounds are how much the handler may have parked. At a bound nothing more is
	// parked and nothing dropped: its failing events wait in their lanes, and
	// their partitions with them. Zero: none.
	Bounds inbox.Bounds
	// Concurrency bounds how many tries run at once in a process. Zero: no bound
	// of the handler's own.
	Concurrency Concurrency
}

func (s Settings) validate() error {
	switch {
	case s.Tries < 0:
		return fmt.Errorf("settings: Tries is %d; use 1 or more, or 0 for %d", s.Tries, DefaultTries)
	case s.Tries > MaxTries:
		return fmt.Errorf("settings: Tries is %d; use %d at most: an event that fails so often waits better among the dead letters", s.Tries, MaxTries)
	case s.MinBackoff < 0:
		return fmt.Errorf("settings: MinBackoff is %v; use a positive duration, or 0 for %v", s.MinBackoff, DefaultMinBackoff)
	case s.MinBackoff > MaxHold:
		return fmt.Errorf("settings: MinBackoff is %v; use %v at most, and RetryAfter for what takes longer", s.MinBackoff, MaxHold)
	case s.MaxBackoff < 0:
		return fmt.Errorf("settings: MaxBackoff is %v; use a positive duration, or 0 for %v", s.MaxBackoff, DefaultMaxBackoff)
	case s.MaxBackoff > MaxHold:
		return fmt.Errorf("settings: MaxBackoff is %v; use %v at most, and RetryAfter for what takes longer", s.MaxBackoff, MaxHold)
	case s.MinBackoff > 0 && s.MaxBackoff > 0 && s.MinBackoff > s.MaxBackoff:
		return fmt.Errorf("settings: MinBackoff is %v, above MaxBackoff %v; lower the first or raise the second", s.MinBackoff, s.MaxBackoff)
	case s.Patience < 0:
		return fmt.Errorf("settings: Patience is %v; use a positive duration, or 0 for none", s.Patience)
	case s.Deadline < 0:
		return fmt.Errorf("settings: Deadline is %v; use a positive duration, or 0 for none", s.Deadline)
	case s.Bounds.Events < 0:
		return fmt.Errorf("settings: Bounds.Events is %d; use 1 or more, or 0 for no bound", s.Bounds.Events)
	case s.Bounds.Bytes < 0:
		return fmt.Errorf("settings: Bounds.Bytes is %d; use 1 or more, or 0 for no bound", s.Bounds.Bytes)
	case s.Bounds.Age < 0:
		return fmt.Errorf("settings: Bounds.Age is %v; use a positive duration, or 0 for no bound", s.Bounds.Age)
	}
	return s.Concurrency.validate()
}

func (s Settings) timeout() time.Duration {
	switch {
	case s.Timeout == 0:
		return DefaultTimeout
	case s.Timeout < 0:
		return 0
	}
	return s.Timeout
}

func (s Settings) backoff() (lowest, highest time.Duration) {
	lowest, highest = s.MinBackoff, s.MaxBackoff
	if highest == 0 {
		highest = max(DefaultMaxBackoff, lowest)
	}
	if lowest == 0 {
		lowest = min(DefaultMinBackoff, highest)
	}
	return lowest, highest
}

// delay returns how long to wait after the attempt-th failed try, when the first
// one failed so long ago.
func (s Settings) delay(attempt int, failing time.Duration) (d time.Duration, spent bool) {
	tries := s.Tries
	if tries == 0 {
		tries = DefaultTries
	}
	lowest, highest := s.backoff()
	d = lowest
	for i := 1; i < attempt && d < highest; i++ {
		d *= 2
	}
	d = min(d, highest)
	d += time.Duration((2*rand.Float64() - 1) * jitter * float64(d)) //nolint:gosec // spreading load needs no secret
	return d, attempt >= tries || s.Patience > 0 && failing+d > s.Patience
}
