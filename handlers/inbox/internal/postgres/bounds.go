package postgres

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/internal/parking"
)

// lookEvery is how old a total may be.
const lookEvery = time.Second

// Total is how much a handler has parked.
type Total struct {
	Events int64
	Bytes  int64
	Age    time.Duration // of the oldest
}

// Stores tells whether the dead letters of a handler have room. Totals are
// looked up at most once a second for each handler; what this process parks
// meanwhile is counted in. The zero value is ready.
type Stores struct{ of sync.Map } // handler -> *store

type store struct {
	looking chan struct{} // holds one while somebody asks the database

	mu     sync.Mutex
	total  Total
	looked time.Time
}

func (s *Stores) store(handler int32) *store {
	one, ok := s.of.Load(handler)
	if !ok {
		one, _ = s.of.LoadOrStore(handler, &store{looking: make(chan struct{}, 1)})
	}
	return one.(*store) //nolint:forcetypeassert // only store stores
}

// Full returns an error that wraps inbox.ErrFull when a's handler has reached
// one of its bounds; other errors are of look, which asks the database.
func (s *Stores) Full(ctx context.Context, handler int32, a *inbox.Admission, look func() (Total, error)) (full, err error) {
	if a.Bounds == (inbox.Bounds{}) {
		return nil, nil
	}
	one := s.store(handler)
	total, ok := one.now()
	if !ok {
		select {
		case one.looking <- struct{}{}:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		defer func() { <-one.looking }()
		if total, ok = one.now(); !ok { // nobody looked while this waited
			if total, err = look(); err != nil {
				return nil, err
			}
			one.mu.Lock()
			one.total, one.looked = total, time.Now()
			one.mu.Unlock()
		}
	}
	return over(a, total), nil
}

// now returns the total, and whether it is young enough.
func (s *store) now() (Total, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	since := time.Since(s.looked)
	t := s.total
	if t.Events > 0 {
		t.Age += since
	}
	return t, since < lookEvery
}

// Added counts what this process has parked.
func (s *Stores) Added(handler int32, a *inbox.Admission) {
	if a.Bounds == (inbox.Bounds{}) {
		return
	}
	one := s.store(handler)
	one.mu.Lock()
	defer one.mu.Unlock()
	one.total.Events++
	one.total.Bytes += parking.Size(a.Message.Record)
}

func over(a *inbox.Admission, t Total) error {
	var reached string
	switch b := a.Bounds; {
	case b.Events > 0 && t.Events >= b.Events:
		reached = fmt.Sprintf("%d events are parked, and Bounds.Events is %d", t.Events, b.Events)
	case b.Bytes > 0 && t.Bytes >= b.Bytes:
		reached = fmt.Sprintf("%d bytes are parked, and Bounds.Bytes is %d", t.Bytes, b.Bytes)
	case b.Age > 0 && t.Age > b.Age:
		reached = fmt.Sprintf("the oldest was parked %v ago, and Bounds.Age is %v", t.Age.Round(time.Second), b.Age)
	default:
		return nil
	}
	return fmt.Errorf("park event %s: %w: handler %q of group %q: %s; see what is parked by `tidings dlq list`, and retry or discard it by `tidings dlq`, or raise the bound",
		a.EventID, inbox.ErrFull, a.Handler.Name, a.Handler.Group, reached)
}
