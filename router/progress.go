package router

import (
	"math/rand/v2"
	"time"
)

// progress is what is remembered of an unfinished message between its attempts.
// It is made when a message first fails: one that goes well needs none.
type progress struct {
	whole tryState   // of a message held for every handler
	each  []tryState // by place in the route
	busy  bool       // an attempt is under way; for subscribers without lanes
}

// tryState is how far one handler is with one message.
type tryState struct {
	done  bool
	held  bool      // logged, counted, tried slowly
	tries int       // that the handler's function failed
	waits int       // that ended before the function ran
	due   time.Time // not to be tried before
}

func (p *progress) of(i, handlers int) *tryState {
	if p.each == nil {
		p.each = make([]tryState, handlers)
	}
	return &p.each[i]
}

// around spreads a delay by a fifth to either side, so that keys that failed
// together do not come back together.
func around(d time.Duration) time.Duration {
	return d - d/5 + time.Duration(rand.Int64N(int64(d/5*2)+1)) //nolint:gosec // spreads load, hides nothing
}
