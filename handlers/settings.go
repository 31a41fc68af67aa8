package handlers

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// What zero Settings mean: five tries within about ten seconds.
const (
	DefaultTimeout    = 30 * time.Second
	DefaultTries      = 5
	DefaultMinBackoff = 700 * time.Millisecond
	DefaultMaxBackoff = 5 * time.Second
)

// jitter spreads a delay by this part of it to either side.
const jitter = 0.2

// Settings are one handler's patience. The zero value is useful: five tries
// with 0.7, 1.4, 2.8 and 5 seconds between them, each delay up to 20 % shorter
// or longer.
type Settings struct {
	// Timeout bounds one try of the function. Zero: DefaultTimeout; negative: none.
	Timeout time.Duration
	// Tries is how often an event is tried before it is given up. Zero:
	// DefaultTries; 1: never again.
	Tries int
	// MinBackoff is the delay after the first failed try; it doubles with each
	// further one. Zero: DefaultMinBackoff, or MaxBackoff where that is less.
	MinBackoff time.Duration
	// MaxBackoff bounds the delay. Zero: DefaultMaxBackoff, or MinBackoff where
	// that is more.
	MaxBackoff time.Duration
}

func (s Settings) validate() error {
	switch {
	case s.Tries < 0:
		return fmt.Errorf("settings: Tries is %d; use 1 or more, or 0 for %d", s.Tries, DefaultTries)
	case s.MinBackoff < 0:
		return fmt.Errorf("settings: MinBackoff is %v; use a positive duration, or 0 for %v", s.MinBackoff, DefaultMinBackoff)
	case s.MaxBackoff < 0:
		return fmt.Errorf("settings: MaxBackoff is %v; use a positive duration, or 0 for %v", s.MaxBackoff, DefaultMaxBackoff)
	case s.MinBackoff > 0 && s.MaxBackoff > 0 && s.MinBackoff > s.MaxBackoff:
		return fmt.Errorf("settings: MinBackoff is %v, above MaxBackoff %v; lower the first or raise the second", s.MinBackoff, s.MaxBackoff)
	}
	return nil
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

// delay returns how long to wait after the attempt-th failed try.
func (s Settings) delay(attempt int) (d time.Duration, spent bool) {
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
	return d, attempt >= tries
}
