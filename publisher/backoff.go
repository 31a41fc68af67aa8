package publisher

import (
	"math/rand/v2"
	"time"
)

const (
	firstPause = 20 * time.Millisecond
	lastPause  = 2 * time.Second
)

// backoff gives pauses that double, with jitter, so that publishers which
// failed together do not come back together.
type backoff struct{ tries int }

func (b *backoff) next() time.Duration {
	d := min(firstPause<<min(b.tries, 10), lastPause)
	b.tries++
	return d/2 + rand.N(d/2) //nolint:gosec // jitter is no secret
}
