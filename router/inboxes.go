package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tidings-bus/tidings/handlers/inbox"
)

// The bounds of the delay before the upkeep of an inbox is tried again.
const (
	keepMin = time.Second
	keepMax = time.Minute
)

// checkInboxes finds the distinct inboxes of all handlers and checks each.
func (r *Router) checkInboxes(ctx context.Context) error {
	for _, s := range r.subs {
		for _, h := range s.bound {
			k := h.Inbox()
			if k == nil || slices.ContainsFunc(r.keepers, func(o inbox.Keeper) bool { return o.ID() == k.ID() }) {
				continue
			}
			if err := k.Check(ctx); err != nil {
				return fmt.Errorf("router: checking the inbox of handler %q in group %q: %w", h.name, r.cfg.Group, err)
			}
			r.keepers = append(r.keepers, k)
		}
	}
	return nil
}

// keepInbox keeps the inbox until ctx ends, however often its upkeep fails.
func (r *Router) keepInbox(ctx context.Context, k inbox.Keeper) {
	delay := keepMin
	for {
		began := time.Now()
		err := k.Keep(ctx)
		if ctx.Err() != nil {
			r.setFault(k, nil)
			return
		}
		if err == nil {
			err = errors.New("it ended by itself")
		}
		if time.Since(began) > keepMax {
			delay = keepMin // it ran well for a while
		}
		r.setFault(k, err)
		r.log.Error("upkeep of an inbox failed, it is tried again", "inbox", k.ID(), "cause", err, "in", delay)
		wait(ctx, nil, around(delay))
		delay = min(2*delay, keepMax)
		r.watchRecovery(ctx, k)
	}
}

func (r *Router) setFault(k inbox.Keeper, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		delete(r.faults, k.ID())
		return
	}
	r.faults[k.ID()] = err
}

// watchRecovery clears the fault when the inbox can be reached again: Keep says
// nothing while it goes well.
func (r *Router) watchRecovery(ctx context.Context, k inbox.Keeper) {
	if ctx.Err() == nil && k.Check(ctx) == nil {
		r.setFault(k, nil)
	}
}
