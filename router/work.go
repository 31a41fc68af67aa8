package router

import (
	"sync"
	"time"
)

// workList is what handlers work on now: who is to be cancelled at the end, and
// who is to be named when that does not help.
type workList struct {
	mu     sync.Mutex
	first  *attempt
	killed bool
	looked time.Time           // when stacks were captured last
	stacks map[*attempt]string // of those that were found stuck
}

func (w *workList) add(a *attempt) {
	w.mu.Lock()
	a.next = w.first
	if w.first != nil {
		w.first.prev = a
	}
	w.first = a
	killed := w.killed
	w.mu.Unlock()
	if killed {
		a.Cancel()
	}
}

func (w *workList) remove(a *attempt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.prev != nil {
		a.prev.next = a.next
	} else {
		w.first = a.next
	}
	if a.next != nil {
		a.next.prev = a.prev
	}
	a.prev, a.next = nil, nil
	if w.stacks != nil {
		delete(w.stacks, a)
	}
}

// kill cancels what runs, and what is added from now on.
func (w *workList) kill() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.killed = true
	for a := w.first; a != nil; a = a.next {
		a.Cancel()
	}
}

// stuck lists handlers that run although their contexts have been cancelled,
// by kill; before that, those whose tries take far longer than they may.
func (w *workList) stuck() []Stuck {
	w.mu.Lock()
	defer w.mu.Unlock()
	var stuck []Stuck
	now := time.Now()
	for a := w.first; a != nil; a = a.next {
		if w.isStuck(a, now) {
			stuck = append(stuck, w.describe(a, now))
		}
	}
	return stuck
}

// isStuck tells an attempt that ignores its context. w.mu is held.
func (w *workList) isStuck(a *attempt, now time.Time) bool {
	return w.killed || overdue(a.working(now), a.handler.Timeout())
}

func (w *workList) describe(a *attempt, now time.Time) Stuck {
	m := a.message
	return Stuck{
		Handler: a.handler.name, Topic: m.place.Topic, Partition: m.place.Partition, Offset: m.place.Offset,
		EventID: m.event.ID(), EventType: m.event.Type(), Running: now.Sub(a.started), Stack: w.stacks[a],
	}
}

// overdue tells a handler that ignores its timeout from one that is slow to heed
// it. Working does not count the wait for its key.
func overdue(working, timeout time.Duration) bool {
	return timeout > 0 && working > 3*timeout+time.Minute
}
