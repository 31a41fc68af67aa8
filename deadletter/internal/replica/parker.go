package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/deadletter/internal/line"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// Look implements inbox.Ledger. It never answers Late, and Duplicate only of an
// event that was parked and left within the last day (the last 100,000): nothing
// is remembered of events that were applied without being parked.
func (s *Store) Look(ctx context.Context, a inbox.Admission) (inbox.Answer, error) {
	if err := s.owns(a.Handler); err != nil {
		return 0, err
	}
	answer := inbox.Fresh
	err := s.read(ctx, func(lines *line.Lines, _ *line.Desk) {
		at := lines.Line(a.Handler, a.Place.Topic, a.Place.Key, a.EventID)
		switch {
		case a.Letter > 0 && (at == nil || at.Letters[0].ID != a.Letter):
			answer = inbox.Gone
		case a.Letter == 0 && lines.Left(nameOf(&a)):
			answer = inbox.Duplicate
		case a.Letter == 0 && at != nil:
			answer = inbox.Parked
		}
	})
	if err != nil {
		return 0, notAdmitted(err)
	}
	return answer, nil
}

// Record implements inbox.Ledger: the letter of a retry leaves. Of other events
// nothing is recorded.
func (s *Store) Record(ctx context.Context, a inbox.Admission) error {
	if a.Letter == 0 {
		return ctx.Err()
	}
	if err := s.owns(a.Handler); err != nil {
		return err
	}
	if _, err := s.journal.Put(ctx, line.Change{Name: nameOf(&a)}); err != nil {
		return fmt.Errorf("dead letters in %s: take out letter %d: %w", s.ID(), a.Letter, err)
	}
	return nil
}

// Park implements inbox.Parker. It answers Duplicate as Look does.
func (s *Store) Park(ctx context.Context, a inbox.Admission, f inbox.Failure) (inbox.Answer, error) {
	if err := s.owns(a.Handler); err != nil {
		return 0, err
	}
	if a.Letter > 0 {
		return s.book(ctx, &a, f)
	}
	if a.Message == nil {
		return 0, fmt.Errorf("park event %s for handler %q: the admission has no message", a.EventID, a.Handler.Name)
	}
	l := letterOf(&a, f)
	name := nameOf(&a)
	var there *deadletter.Letter
	head, left := false, false
	c := line.Change{Name: name, Letter: l}
	var full error
	err := s.read(ctx, func(lines *line.Lines, _ *line.Desk) {
		if at := lines.Line(a.Handler, a.Place.Topic, a.Place.Key, a.EventID); at != nil {
			c.Line, c.Since = at.ID, at.Since
			there = lines.Named(name)
			head = at.Letters[0] == there
		}
		left = lines.Left(name)
		full = s.full(lines, &a, line.Size(l))
	})
	switch {
	case err != nil:
		return 0, notAdmitted(err)
	case there != nil:
		return s.wake(ctx, there, f, head)
	case left:
		return inbox.Duplicate, nil
	case f.Cause == inbox.CauseBehind && c.Line == 0:
		return inbox.Fresh, nil
	case full != nil:
		return 0, full
	}
	applied, err := s.journal.Put(ctx, c)
	if err != nil {
		return 0, fmt.Errorf("park event %s for handler %q: %w", a.EventID, a.Handler.Name, err)
	}
	l.ID = applied[0].ID
	return s.wake(ctx, l, f, applied[0].Head)
}

// wake answers that l is parked. When it was to go behind others and those left
// while its record was on the way, it waits for nobody: it is made due.
func (s *Store) wake(ctx context.Context, l *deadletter.Letter, f inbox.Failure, head bool) (inbox.Answer, error) {
	if !head || f.Cause != inbox.CauseBehind || l.Cause != inbox.CauseBehind || !l.Due.IsZero() {
		return inbox.Parked, nil
	}
	var c line.Change
	s.state.look(func(lines *line.Lines, _ *line.Desk) { c = lines.Rewrite(l.ID) })
	if c.Letter == nil {
		return inbox.Parked, nil // and it has left already
	}
	c.Letter.Due = time.Now()
	if _, err := s.journal.Put(ctx, c); err != nil {
		return 0, fmt.Errorf("park event %s for handler %q: make it due: %w", l.EventID, l.Handler.Name, err)
	}
	return inbox.Parked, nil
}

// book writes a failed retry into its letter.
func (s *Store) book(ctx context.Context, a *inbox.Admission, f inbox.Failure) (inbox.Answer, error) {
	var c line.Change
	if err := s.read(ctx, func(lines *line.Lines, _ *line.Desk) { c = lines.Rewrite(a.Letter) }); err != nil {
		return 0, notAdmitted(err)
	}
	l := c.Letter
	if l == nil {
		return inbox.Gone, nil
	}
	first := l.First
	l.Failure = f
	if !first.IsZero() {
		l.First = first
	}
	applied, err := s.journal.Put(ctx, c)
	if err != nil {
		return 0, fmt.Errorf("book the failed retry of letter %d: %w", a.Letter, err)
	}
	if !applied[0].OK {
		return inbox.Gone, nil
	}
	return inbox.Parked, nil
}

func (s *Store) owns(h inbox.Handler) error {
	if s.group != "" && h.Group != s.group {
		return fmt.Errorf("handler %q is of group %q, but these dead letters are those of group %q: give each group its own store", h.Name, h.Group, s.group)
	}
	return nil
}

func nameOf(a *inbox.Admission) string {
	return line.Name(a.Handler, a.Place.Topic, a.Place.Key, a.EventID)
}

func letterOf(a *inbox.Admission, f inbox.Failure) *deadletter.Letter {
	return &deadletter.Letter{
		Handler: a.Handler, Place: a.Place,
		EventID: a.EventID, Type: a.Type, Source: a.Source,
		AggregateType: a.AggregateType, AggregateID: a.AggregateID, Sequence: a.Sequence,
		Record: a.Message.Record, Time: a.Message.Time, Failure: f,
	}
}

// full reports which bound a further letter would break.
func (s *Store) full(lines *line.Lines, a *inbox.Admission, size int64) error {
	t, b := lines.Total(a.Handler), a.Bounds
	full := func(what string, v ...any) error {
		return fmt.Errorf("park event %s for handler %q: %w: %s; retry or discard some (tidings dlq), or raise the bound",
			a.EventID, a.Handler.Name, inbox.ErrFull, fmt.Sprintf(what, v...))
	}
	switch {
	case b.Events > 0 && t.Events >= b.Events:
		return full("%d events, of %d", t.Events, b.Events)
	case b.Bytes > 0 && t.Bytes+size > b.Bytes:
		return full("%d bytes, of %d", t.Bytes, b.Bytes)
	}
	if all := lines.Memory(); s.bytes > 0 && all+size > s.bytes {
		return full("%d bytes in the memory of every member, of %d", all, s.bytes)
	}
	if b.Age > 0 {
		if oldest := s.room.oldest(lines, a.Handler); !oldest.IsZero() && time.Since(oldest) > b.Age {
			return full("the oldest event has waited since %s, longer than %v", oldest.UTC().Format(time.RFC3339), b.Age)
		}
	}
	return nil
}

// ages remembers for a second when the oldest letter of a handler was parked.
type ages struct {
	mu    sync.Mutex
	known map[inbox.Handler]age
}

type age struct{ oldest, at time.Time }

func (r *ages) oldest(lines *line.Lines, h inbox.Handler) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, ok := r.known[h]
	if !ok || time.Since(k.at) > time.Second {
		k = age{oldest: lines.Oldest(h), at: time.Now()}
		r.known[h] = k
	}
	return k.oldest
}

var errReason = errors.New("a reason is needed: say why")
