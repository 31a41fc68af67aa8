package router

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"time"
)

const (
	// stuckEvery is the time between looks for handlers that ignore their context.
	stuckEvery = 10 * time.Second
	// captureEvery bounds how often all goroutines are stopped to read their stacks.
	captureEvery = time.Minute
	// The bounds of the memory for the stacks of all goroutines, in bytes.
	minStacks = 1 << 20
	maxStacks = 64 << 20
)

// watchStuck logs handlers that ignore their context, each attempt once, with
// the stack of its goroutine.
func (r *Router) watchStuck(ctx context.Context) {
	t := time.NewTicker(stuckEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			r.logStuck(r.work.capture(captureEvery))
		case <-ctx.Done():
			return
		}
	}
}

func (r *Router) logStuck(stuck []Stuck) {
	for _, s := range stuck {
		r.log.Error("handler ignores its context: pass it on to whatever it waits for",
			slog.String("handler", s.Handler), slog.String("topic", s.Topic), slog.Int("partition", int(s.Partition)), slog.Int64("offset", s.Offset),
			slog.String("event_id", s.EventID.String()), slog.String("event_type", s.EventType),
			slog.Duration("running", s.Running), slog.String("stack", s.Stack))
	}
}

// capture reads the stacks of stuck attempts that have none yet, unless it was
// done less than every ago, and returns these.
func (w *workList) capture(every time.Duration) []Stuck {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if now.Sub(w.looked) < every {
		return nil
	}
	var found []*attempt
	for a := w.first; a != nil; a = a.next {
		if w.stacks[a] == "" && w.isStuck(a, now) {
			found = append(found, a)
		}
	}
	if len(found) == 0 {
		return nil
	}
	w.looked = now
	if w.stacks == nil {
		w.stacks = map[*attempt]string{}
	}
	all := stacks()
	list := make([]Stuck, 0, len(found))
	for _, a := range found {
		w.stacks[a] = stackOf(all, a)
		list = append(list, w.describe(a, now))
	}
	return list
}

// stacks returns the stacks of all goroutines, as far as they fit into the bound.
func stacks() []byte {
	for size := minStacks; ; size *= 4 {
		buf := make([]byte, size)
		if n := runtime.Stack(buf, true); n < size || size >= maxStacks {
			return buf[:n]
		}
	}
}

// notFound stands for a stack that is not among the captured ones.
const notFound = "(its goroutine is not among the stacks)"

// stackOf finds the goroutine of an attempt among the stacks of all: run and
// runBatch have the attempt as their receiver, which a stack shows as its
// address. Marking the goroutine instead would cost something for every event.
func stackOf(all []byte, a *attempt) string {
	one, many := fmt.Appendf(nil, ".(*attempt).run(%p,", a), fmt.Appendf(nil, ".(*attempt).runBatch(%p,", a)
	for g := range bytes.SplitSeq(all, []byte("\n\n")) {
		if bytes.Contains(g, one) || bytes.Contains(g, many) {
			return tidy(string(g), maxStack)
		}
	}
	return notFound
}
