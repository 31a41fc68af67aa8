package router

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// letterBox is one store of dead letters, and who retries what is in it.
type letterBox struct {
	store    deadletter.Store
	handlers map[string]deadletter.Retrier
	runner   *deadletter.Runner

	mu      sync.Mutex
	orphans []inbox.Handler
	parked  []deadletter.Count
}

// lookEvery is the time between looks at what is parked.
const lookEvery = 15 * time.Second

// openLetterBoxes finds the distinct stores of all handlers and makes a runner
// for each.
func (r *Router) openLetterBoxes() error {
	boxes := map[string]*letterBox{}
	var found []*letterBox
	for _, s := range r.subs {
		for _, h := range s.bound {
			store := h.Letters()
			if store == nil {
				continue
			}
			box := boxes[store.ID()]
			if box == nil {
				box = &letterBox{store: store, handlers: map[string]deadletter.Retrier{}}
				boxes[store.ID()] = box
				found = append(found, box)
			}
			box.handlers[h.name] = &retrier{sub: s, handler: h}
		}
	}
	for _, box := range found {
		d := r.cfg.DeadLetters
		runner, err := deadletter.NewRunner(deadletter.Config{
			Store: box.store, Group: r.cfg.Group, Member: r.cfg.Member, Handlers: box.handlers,
			Concurrent: d.Concurrent, Poll: d.Poll, Lease: d.Lease, StopTimeout: r.cfg.StopTimeout, Schedule: d.Schedule,
			Logger: r.cfg.Logger, Metrics: r.cfg.Metrics,
		})
		if err != nil {
			return fmt.Errorf("router: making the runner of dead letters %s for group %q: %w", box.store.ID(), r.cfg.Group, err)
		}
		box.runner = runner
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.letters = found
	return nil
}

// retryLetters retries parked events until ctx ends and all retries have
// returned.
func (r *Router) retryLetters(ctx context.Context) {
	var boxes sync.WaitGroup
	for _, box := range r.letters {
		boxes.Go(func() {
			if err := box.runner.Run(ctx); err != nil {
				r.log.Error("parked events are not retried any more", "store", box.store.ID(), "cause", err)
			}
		})
		boxes.Go(func() { r.watchLetters(ctx, box) })
	}
	boxes.Wait()
}

// watchLetters looks, at the start and then at intervals, at what is parked and
// whether its handlers still exist.
func (r *Router) watchLetters(ctx context.Context, box *letterBox) {
	var told []inbox.Handler
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		told = r.lookAtLetters(ctx, box, told)
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// lookAtLetters logs orphans that were not told yet, and returns those that now
// are. A store that is away is the runner's to report.
func (r *Router) lookAtLetters(ctx context.Context, box *letterBox, told []inbox.Handler) []inbox.Handler {
	orphans, err := box.runner.Orphans(ctx)
	if err != nil {
		return told
	}
	parked, err := box.store.Count(ctx, deadletter.Filter{Group: r.cfg.Group}, deadletter.ByHandler)
	if err != nil {
		return told
	}
	box.mu.Lock()
	box.orphans, box.parked = orphans, parked
	box.mu.Unlock()
	for _, o := range orphans {
		if !slices.Contains(told, o) {
			r.log.Warn("a handler that is no longer in the group has parked events: nobody retries them; hand them to another one (tidings dlq reassign) or discard them",
				"handler", o.Name, "epoch", o.Epoch, "store", box.store.ID())
		}
	}
	return orphans
}

// warnings says what is parked, and what nobody retries.
func (box *letterBox) warnings(ctx context.Context) []string {
	var list []string
	if err := box.runner.Status(ctx); err != nil {
		list = append(list, err.Error())
	}
	box.mu.Lock()
	defer box.mu.Unlock()
	for _, c := range box.parked {
		name := c.Group[deadletter.ByHandler]
		if box.handlers[name] != nil && c.Keys > 0 {
			list = append(list, fmt.Sprintf("%d keys with %d events parked for handler %q since %s: see tidings dlq list", c.Keys, c.Events, name, c.Oldest.UTC().Format(time.RFC3339)))
		}
	}
	for _, o := range box.orphans {
		list = append(list, fmt.Sprintf("handler %q is no longer in the group and has parked events: hand them to another one (tidings dlq reassign) or discard them", o.Name))
	}
	return list
}
