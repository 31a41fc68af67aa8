package outage

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The defaults.
const (
	defaultKeys     = 10
	defaultFirst    = time.Second
	defaultLongest  = 30 * time.Second
	defaultStrict   = time.Minute
	defaultMemory   = time.Minute
	defaultPatience = 2 * time.Second
)

const (
	latest = 64 // results that are looked at
	away   = 3  // keys that the database did not admit
)

// Config makes a Detector; the zero value is useful.
type Config struct {
	// Keys is how many different keys must fail. Zero: 10; at most 32.
	Keys int
	// First is the time before the first probe; it doubles with each probe that
	// fails, up to Longest. Zero: 1 s and 30 s.
	First, Longest time.Duration
	// Strict is how long after an outage only failures without any success begin
	// the next. Zero: 1 minute.
	Strict time.Duration
	// Memory is how old a result may be that is looked at. Zero: 1 minute.
	Memory time.Duration
	// Patience is about how long those who are turned away wait, at most, before
	// they ask again: so long does it take until all go on after the end. Zero:
	// 2 s.
	Patience time.Duration
}

func (c Config) withDefaults() Config {
	if c.Keys == 0 {
		c.Keys = defaultKeys
	}
	c.Keys = min(c.Keys, latest/2)
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{
		{&c.First, defaultFirst},
		{&c.Longest, defaultLongest},
		{&c.Strict, defaultStrict},
		{&c.Memory, defaultMemory},
		{&c.Patience, defaultPatience},
	} {
		if *d.value == 0 {
			*d.value = d.def
		}
	}
	return c
}

// Result is what came of a try.
type Result int

// The results.
const (
	Success  Result = iota // applied
	Failure                // failed, in a way that may be an outage's
	Refused                // the event's own fault, such as a rejection: says nothing
	Away                   // the database did not admit it: the handler did not run
	Answered               // its database answered that there is nothing to apply: the handler did not run
	Canceled               // cut short: says nothing
)

// Detector judges one handler. It is safe for concurrent use.
type Detector struct {
	config Config

	// watchful is false while nothing has failed lately: then successes, which
	// are nearly all there is, cost no lock.
	watchful atomic.Bool

	mu      sync.Mutex
	ring    [latest]seen // the latest results of first tries, and successes
	next    int
	filled  int
	bad     int // results in the ring that are no success
	state   State
	away    bool      // the outage is the database's alone, as far as known
	heard   time.Time // when the database last answered something
	strict  time.Time // until then, a single success prevents an outage
	probing bool
	asked   uint64        // the key of the last probe
	begun   time.Time     // when that began
	due     time.Time     // of the next probe
	pause   time.Duration // before the one after
}

type seen struct {
	key    uint64
	at     time.Time
	result Result
}

// State is an outage, or none.
type State struct {
	Since  time.Time // zero: there is none
	Probes int       // that failed
	Last   error     // the failure that began it, or the last probe's
}

// New returns a Detector that has seen nothing.
func New(c Config) *Detector { return &Detector{config: c.withDefaults()} }

// State says whether there is an outage.
func (d *Detector) State() State {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state
}

// Watchful tells whether anything failed lately. When nothing has, Ask lets
// every try through.
func (d *Detector) Watchful() bool { return d.watchful.Load() }

// Ask says whether a try may begin now, and how long to wait when it may not.
// Each try that may begin is followed by one Tell.
func (d *Detector) Ask(key uint64, now time.Time) (wait time.Duration, ok bool) {
	if !d.watchful.Load() {
		return 0, true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state.Since.IsZero() {
		return 0, true
	}
	hangs := d.probing && now.Sub(d.begun) > 2*d.config.Longest // the next one need not wait for it
	if (!d.probing || hangs) && !now.Before(d.due) && (key != d.asked || now.Sub(d.due) > d.config.Patience) {
		d.probing, d.asked, d.begun = true, key, now
		return 0, true
	}
	wait = d.config.Patience
	if left := d.due.Sub(now); left > 0 && left < wait {
		wait = left
	}
	return wait/2 + rand.N(wait/2+1), false //nolint:gosec // spreads load, hides nothing
}

// Tell says what came of a try that Ask let through: the number of the try at
// its event, from 1, and its error. It reports whether an outage began or ended
// with it: each is told once.
func (d *Detector) Tell(key uint64, try int, result Result, err error, now time.Time) (began, ended bool) {
	if (result == Success || result == Answered) && !d.watchful.Load() {
		return false, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state.Since.IsZero() {
		return d.judge(key, try, result, err, now), false
	}
	probe := d.probing && key == d.asked
	if probe {
		d.probing = false
	}
	switch result {
	case Success, Refused: // a rejection is an answer, too
		if result == Refused && !probe {
			return false, false
		}
		d.end(now)
		return false, true
	case Answered: // it says nothing of what the handler depends on besides
		if d.away {
			d.end(now)
			return false, true
		}
	case Failure, Away:
		d.away = d.away && result == Away
		if probe { // others had begun before the outage did
			d.state.Probes++
			d.state.Last = err
			d.pause = min(2*d.pause, d.config.Longest)
			d.due = now.Add(d.pause)
		}
	case Canceled:
	}
	return false, false
}

// judge books a result while there is no outage, and says whether one begins.
func (d *Detector) judge(key uint64, try int, result Result, err error, now time.Time) bool {
	switch {
	case result == Answered:
		d.heard = now
		return false
	case result == Refused || result == Canceled || result == Failure && try > 1:
		return false
	}
	d.book(seen{key: key, at: now, result: result})
	if result == Success || !d.broken(now) {
		return false
	}
	d.state, d.away = State{Since: now, Last: err}, result == Away
	d.probing, d.asked = false, key
	d.pause = d.config.First
	d.due = now.Add(d.pause)
	return true
}

// book puts a result in the ring, in the place of the oldest.
func (d *Detector) book(s seen) {
	old := &d.ring[d.next]
	if d.filled == latest && old.result != Success {
		d.bad--
	}
	if s.result != Success {
		d.bad++
	}
	*old = s
	d.next = (d.next + 1) % latest
	d.filled = min(d.filled+1, latest)
	if d.bad == 0 {
		d.filled = 0
	}
	d.watchful.Store(d.bad > 0)
}

// broken looks at the latest results.
func (d *Detector) broken(now time.Time) bool {
	var (
		failed, unadmitted [latest]uint64
		nf, nu, ok, bad    int
	)
	for i := range d.filled {
		s := &d.ring[(d.next-1-i+latest)%latest] // the newest first
		if now.Sub(s.at) > d.config.Memory {
			break
		}
		switch s.result {
		case Success:
			ok++
		case Failure:
			bad++
			nf = addKey(&failed, nf, s.key)
		case Away:
			if ok == 0 && s.at.After(d.heard) {
				nu = addKey(&unadmitted, nu, s.key)
			}
		case Refused, Answered, Canceled:
		}
		if nu >= away {
			return true
		}
		if ok > 0 && now.Before(d.strict) {
			return false
		}
		if nf >= d.config.Keys && ok == 0 { // one after the other
			return true
		}
	}
	return nf >= d.config.Keys && bad >= ok
}

func addKey(keys *[latest]uint64, n int, key uint64) int {
	if slices.Contains(keys[:n], key) {
		return n
	}
	keys[n] = key
	return n + 1
}

func (d *Detector) end(now time.Time) {
	d.state, d.probing = State{}, false
	d.next, d.filled, d.bad = 0, 0, 0
	d.watchful.Store(false)
	d.strict = now.Add(d.config.Strict)
}
