package publisher

import (
	"container/list"
	"context"
	"sync"
)

// budget bounds what the publisher holds, by count and by bytes (I8). Those who
// wait are served in the order they came, so that a large call is not starved
// by small ones.
type budget struct {
	maxEvents, maxBytes int

	mu            sync.Mutex
	events, bytes int
	waiting       list.List // of *claim
}

type claim struct {
	events, bytes int
	granted       chan struct{}
}

// take waits until there is room for events and bytes, or ctx ends. Neither may
// exceed the maximum.
func (b *budget) take(ctx context.Context, events, bytes int) error {
	b.mu.Lock()
	if b.waiting.Len() == 0 && b.fits(events, bytes) {
		b.events += events
		b.bytes += bytes
		b.mu.Unlock()
		return nil
	}
	c := &claim{events: events, bytes: bytes, granted: make(chan struct{})}
	place := b.waiting.PushBack(c)
	b.mu.Unlock()

	select {
	case <-c.granted:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-c.granted: // at the same moment: give it back
		b.events -= events
		b.bytes -= bytes
	default:
		b.waiting.Remove(place)
	}
	b.grant() // who waited behind may fit now
	return ctx.Err()
}

// give returns room.
func (b *budget) give(events, bytes int) {
	if events == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events -= events
	b.bytes -= bytes
	b.grant()
}

func (b *budget) held() (events, bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.events, b.bytes
}

func (b *budget) fits(events, bytes int) bool {
	return b.events+events <= b.maxEvents && b.bytes+bytes <= b.maxBytes
}

func (b *budget) grant() {
	for e := b.waiting.Front(); e != nil; e = b.waiting.Front() {
		c, _ := e.Value.(*claim)
		if !b.fits(c.events, c.bytes) {
			return
		}
		b.events += c.events
		b.bytes += c.bytes
		b.waiting.Remove(e)
		close(c.granted)
	}
}
