package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Ready reports why messages may not be handled: nil while the router runs, its
// subscribers say they are ready (those with a method Ready), and the upkeep of
// its inboxes succeeds. Held events are no reason; see Warnings.
func (r *Router) Ready(ctx context.Context) error {
	var reasons []error
	switch r.phase.Load() {
	case phaseNew:
		reasons = append(reasons, fmt.Errorf("router of group %q has not been started", r.cfg.Group))
	case phaseStarting:
		reasons = append(reasons, fmt.Errorf("router of group %q is starting", r.cfg.Group))
	case phaseStopping:
		reasons = append(reasons, fmt.Errorf("router of group %q is stopping", r.cfg.Group))
	case phaseStopped:
		reasons = append(reasons, fmt.Errorf("router of group %q has stopped", r.cfg.Group))
	default:
		reasons = append(reasons, r.subscribersReady(ctx)...)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, err := range r.faults {
		reasons = append(reasons, fmt.Errorf("upkeep of inbox %s fails: %w", id, err))
	}
	return errors.Join(reasons...)
}

// subscribersReady asks each distinct subscriber that can tell.
func (r *Router) subscribersReady(ctx context.Context) []error {
	type readier interface {
		Ready(ctx context.Context) error
	}
	var (
		asked   []readier
		reasons []error
	)
	for _, s := range r.subs {
		sub, ok := s.Subscriber.(readier)
		if !ok || slices.Contains(asked, sub) {
			continue
		}
		asked = append(asked, sub)
		if err := sub.Ready(ctx); err != nil {
			reasons = append(reasons, fmt.Errorf("subscriber of %q: %w", s.topic, err))
		}
	}
	return reasons
}

// Live reports why this process should be restarted: a handler whose function
// has run for more than three of its timeouts and a minute ignores its context,
// and only the end of the process ends it. Waiting for a key's row is no reason.
func (r *Router) Live(context.Context) error {
	if stuck := r.work.stuck(); len(stuck) > 0 {
		return &StuckError{Handlers: stuck}
	}
	return nil
}

// Warnings says what an operator should look at although messages flow: held
// events, counted by handler and reason, and what its subscribers say (those
// with a method Warnings).
func (r *Router) Warnings(ctx context.Context) []string {
	type kind struct{ topic, handler, reason string }
	counts := map[kind]int{}
	for _, h := range r.Held() {
		if h.Reason != causeFull.String() { // those have a warning of their own
			counts[kind{h.Topic, h.Handler, h.Reason}]++
		}
	}
	warnings := make([]string, 0, len(counts))
	for k, n := range counts {
		warnings = append(warnings, fmt.Sprintf("%d held in topic %q for handler %q: %s", n, k.topic, k.handler, k.reason))
	}
	warnings = append(warnings, r.fullWarnings()...)
	warnings = append(warnings, r.outageWarnings()...)
	warnings = append(warnings, r.subscribersWarn(ctx)...)
	r.mu.Lock()
	boxes := r.letters
	r.mu.Unlock()
	for _, box := range boxes {
		warnings = append(warnings, box.warnings(ctx)...)
	}
	slices.Sort(warnings)
	return warnings
}

func (r *Router) subscribersWarn(ctx context.Context) []string {
	type warner interface {
		Warnings(ctx context.Context) []string
	}
	var (
		asked    []warner
		warnings []string
	)
	for _, s := range r.subs {
		if sub, ok := s.Subscriber.(warner); ok && !slices.Contains(asked, sub) {
			asked = append(asked, sub)
			warnings = append(warnings, sub.Warnings(ctx)...)
		}
	}
	return warnings
}
