package publisher

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

const (
	firstPause = 20 * time.Millisecond
	lastPause  = 2 * time.Second
)

// trouble is the last failure of what several wait for, one at a time: those who
// have to leave before their turn can say why.
type trouble struct{ last atomic.Pointer[error] }

// note takes the outcome of one attempt. What failed only because ctx ended does
// not hide the failure before it.
func (t *trouble) note(ctx context.Context, err error) {
	switch deadline, limited := ctx.Deadline(); {
	case err == nil:
		t.last.Store(nil)
	case t.last.Load() == nil, ctx.Err() == nil && (!limited || time.Now().Before(deadline)):
		t.last.Store(&err)
	}
}

// ended says that ctx ended, and what was the trouble before.
func (t *trouble) ended(ctx context.Context) error {
	if last := t.last.Load(); last != nil {
		return ended(ctx, *last)
	}
	return context.Cause(ctx)
}

// backoff gives pauses that double, with jitter, so that publishers which
// failed together do not come back together.
type backoff struct{ tries int }

func (b *backoff) next() time.Duration {
	d := min(firstPause<<min(b.tries, 10), lastPause)
	b.tries++
	return d/2 + rand.N(d/2) //nolint:gosec // jitter is no secret
}
