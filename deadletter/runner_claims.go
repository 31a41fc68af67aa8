package deadletter

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// errLost is why the context of a retry ended whose claim could not be renewed.
var errLost = errors.New("the claim on the key was lost: another member may retry it")

// claims are the keys that this member works on.
type claims struct {
	mu   sync.Mutex
	held map[string]*claim // by identity
}

// claim is one key of the member's, until its goroutine has returned.
type claim struct {
	Key

	ctx    context.Context //nolint:containedctx // of its retries: it ends with the claim
	cancel context.CancelCauseFunc
	expire *time.Timer // ends ctx when the store may give the key away
}

// identity tells keys apart across the times that they are parked.
func identity(k *Key) string {
	if k.Key == nil {
		return fmt.Sprintf("%s/%d/%d", k.Handler.Name, k.Handler.Epoch, k.ID)
	}
	return fmt.Sprintf("%s/%d/%q/%q", k.Handler.Name, k.Handler.Epoch, k.Topic, k.Key)
}

// add begins the work on a key; not ok: an earlier claim of it still runs.
func (c *claims) add(working context.Context, k Key, asked bool, until time.Time) (_ *claim, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, runs := c.held[identity(&k)]; runs {
		return nil, false
	}
	claimed := &claim{Key: k}
	claimed.ctx, claimed.cancel = context.WithCancelCause(withAsked(working, asked))
	claimed.expire = time.AfterFunc(time.Until(until), func() { claimed.cancel(errLost) })
	c.held[identity(&k)] = claimed
	return claimed, true
}

func (c *claims) remove(claimed *claim) {
	claimed.expire.Stop()
	claimed.cancel(nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.held, identity(&claimed.Key))
}

func (c *claims) running() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.held)
}

// living lists the claims that are not lost.
func (c *claims) living() []*claim {
	c.mu.Lock()
	defer c.mu.Unlock()
	var living []*claim
	for _, claimed := range c.held {
		if claimed.ctx.Err() == nil {
			living = append(living, claimed)
		}
	}
	return living
}

// renew keeps the claims until ctx ends. A claim that the store no longer has is
// lost at once; one that could not be renewed, when its lease has passed.
func (r *Runner) renew(ctx context.Context) {
	tick := time.NewTicker(r.config.Lease / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		living := r.claims.living()
		if len(living) == 0 {
			continue
		}
		ids := make([]int64, len(living))
		for i, claimed := range living {
			ids[i] = claimed.ID
		}
		began := time.Now()
		bounded, cancel := context.WithTimeout(ctx, r.config.Lease/3)
		kept, err := r.config.Store.Renew(bounded, r.config.Member, ids, r.config.Lease)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if r.failed(err); err != nil {
			continue
		}
		for _, claimed := range living {
			switch {
			case !slices.Contains(kept, claimed.ID):
				claimed.cancel(errLost)
			case claimed.expire.Stop(): // else it has expired here
				claimed.expire.Reset(time.Until(began.Add(r.config.Lease)))
			}
		}
	}
}

// release gives a claim back, patiently, for as long as a lease: after that the
// store takes it back by itself.
func (r *Runner) release(ctx context.Context, key Key, done bool, p Progress) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.config.Lease)
	defer cancel()
	for failed := 1; ; failed++ {
		err := r.config.Store.Release(ctx, r.config.Member, key, done, p)
		if r.failed(err); err == nil || errors.Is(err, ErrNotFound) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(backoff(r.config.Poll/4, failed)):
		}
	}
}

const maxBackoff = 30 * time.Second

// backoff doubles from first up to maxBackoff, with jitter.
func backoff(first time.Duration, failed int) time.Duration {
	d := max(first, time.Millisecond)
	for i := 1; i < failed && d < maxBackoff; i++ {
		d *= 2
	}
	return around(min(d, maxBackoff))
}

// around is d, a tenth more or less.
func around(d time.Duration) time.Duration {
	return d + time.Duration((rand.Float64()-0.5)/5*float64(d)) //nolint:gosec // spreading load needs no secret
}
