// Package limit bounds how many tries of a handler run at once.
//
// Guarantees:
//   - Never more than the limit hold a permit; who waits for one gives up with
//     its context.
//   - A fixed limit stays. An adaptive one falls while tries get slower the more
//     of them run, so that a slow database is not pushed over, and rises while
//     more cost nothing; always within its bounds.
package limit

import (
	"context"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"golang.org/x/sync/semaphore"
)

// Limit gives permits.
type Limit interface {
	// Acquire waits for a permit, or returns the cause of ctx's end.
	Acquire(ctx context.Context) (Permit, error)
	// Now is the limit at present.
	Now() int
}

// Permit is given back by one of its methods, once.
type Permit interface {
	// Record gives it back; the time since it was acquired is learnt from.
	Record()
	// Drop gives it back, and nothing is learnt.
	Drop()
}

// Fixed returns a limit of n.
func Fixed(n int) Limit {
	return &fixed{n: n, free: semaphore.NewWeighted(int64(n))}
}

type fixed struct {
	n    int
	free *semaphore.Weighted
}

func (l *fixed) Acquire(ctx context.Context) (Permit, error) {
	if err := l.free.Acquire(ctx, 1); err != nil {
		return nil, context.Cause(ctx)
	}
	return l, nil
}

func (l *fixed) Now() int { return l.n }
func (l *fixed) Record()  { l.free.Release(1) }
func (l *fixed) Drop()    { l.free.Release(1) }

// start is where adaptive limits begin, within their bounds.
const start = 20

// Adaptive returns a limit between lowest and highest. Changed, unless nil, is
// told of each new one.
func Adaptive(lowest, highest int, changed func(n int)) Limit {
	b := adaptivelimiter.NewBuilder[any]().
		WithLimits(uint(lowest), uint(highest), uint(min(max(start, lowest), highest)))
	if changed != nil {
		b = b.OnLimitChanged(func(e adaptivelimiter.LimitChangedEvent) { changed(int(e.NewLimit)) })
	}
	return &adaptive{b.Build()}
}

type adaptive struct {
	limiter adaptivelimiter.AdaptiveLimiter[any]
}

func (l *adaptive) Acquire(ctx context.Context) (Permit, error) {
	if ctx.Err() != nil { // the limiter looks at it only when it must wait
		return nil, context.Cause(ctx)
	}
	p, err := l.limiter.AcquirePermit(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	return p, nil
}

func (l *adaptive) Now() int { return l.limiter.Limit() }
