package router

import (
	"math/rand/v2"
	"time"
)

// progress is what is remembered of an unfinished message between its attempts.
// It is made when a message first fails: one that goes well needs none.
type progress struct {
	whole tryState   // of a message held for every handler that cannot park it
	every []tryState // of such a message, by place in the subscription: who parked it
	each  []tryState // by place in the route
	busy  bool       // an attempt is under way; for subscribers without lanes
}

// tryState is how far one handler is with one message.
type tryState struct {
	done  bool
	held  bool      // logged, counted, tried slowly
	full  bool      // held because there is no room among the dead letters
	near  bool      // counted as near its deadline
	tries int       // that the handler's function failed
	waits int       // that ended before the function ran, or in which nothing could be parked
	due   time.Time // not to be tried before
	first time.Time // when it first failed
	at    time.Time // when it last failed
	last  error     // what its last try ended with

	wish *wish // to be parked; nil: to be tried
}

// wish is to park an event. It is kept while the database is away.
type wish struct {
	why cause
	err error
	due time.Time // when it shall be tried again; zero: when somebody asks
}

func (p *progress) of(i, handlers int) *tryState {
	if p.each == nil {
		p.each = make([]tryState, handlers)
	}
	return &p.each[i]
}

// due is when the next unfinished handler may be tried.
func (p *progress) due() time.Time {
	due := p.whole.due
	for _, states := range [...][]tryState{p.every, p.each} {
		for i := range states {
			if st := &states[i]; !st.done && (due.IsZero() || st.due.Before(due)) {
				due = st.due
			}
		}
	}
	return due
}

// failed notes a failure, to be told to the next try and to who parks the event.
func (st *tryState) failed(now time.Time, err error) {
	if st.first.IsZero() {
		st.first = now
	}
	st.at, st.last = now, err
}

// around spreads a delay by a fifth to either side, so that keys that failed
// together do not come back together.
func around(d time.Duration) time.Duration {
	return d - d/5 + time.Duration(rand.Int64N(int64(d/5*2)+1)) //nolint:gosec // spreads load, hides nothing
}
