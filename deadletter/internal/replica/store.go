package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/deadletter/internal/line"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// Store is dead letters in a Journal: deadletter.Store,
// inbox.Ledger and inbox.Parker, but for the Keeper.
type Store struct {
	journal Journal
	state   *State
	group   string
	bytes   int64 // of all letters; 0: no bound
	room    ages
}

// New returns the store of a group, or of any when it is empty, whose letters are
// those that the journal brings to the state. Bytes bounds what is parked in all; 0: no bound.
func New(j Journal, s *State, group string, bytes int64) *Store {
	return &Store{journal: j, state: s, group: group, bytes: bytes, room: ages{known: map[inbox.Handler]age{}}}
}

// ID implements deadletter.Store and inbox.Keeper.
func (s *Store) ID() string { return s.journal.ID() }

// read brings the state up to now and runs f on it.
func (s *Store) read(ctx context.Context, f func(lines *line.Lines, desk *line.Desk)) error {
	if err := s.journal.Read(ctx); err != nil {
		return fmt.Errorf("dead letters in %s: read up to now: %w", s.ID(), err)
	}
	s.state.look(f)
	return nil
}

// Keys implements deadletter.Store.
func (s *Store) Keys(ctx context.Context, f deadletter.Filter, after int64, limit int) ([]deadletter.Key, error) {
	if err := checkLimit(limit); err != nil {
		return nil, fmt.Errorf("list parked keys: %w", err)
	}
	var keys []deadletter.Key
	err := s.read(ctx, func(lines *line.Lines, desk *line.Desk) {
		for _, l := range lines.All() {
			if len(keys) >= limit {
				return
			}
			if l.ID > after && selects(&f, l) {
				keys = append(keys, keyOf(l, desk))
			}
		}
	})
	return keys, err
}

func checkLimit(limit int) error {
	if limit < 1 || limit > deadletter.MaxPage {
		return fmt.Errorf("limit is %d: use 1 to %d", limit, deadletter.MaxPage)
	}
	return nil
}

// keyOf describes a line.
func keyOf(l *line.Line, desk *line.Desk) deadletter.Key {
	head := l.Letters[0]
	k := deadletter.Key{
		ID: l.ID, Handler: l.Handler, Topic: l.Topic, Key: l.Key,
		Head: head.ID, Type: head.Type, Cause: head.Cause, Error: head.Error, Tries: head.Attempts,
		Since: l.Since, HeadAt: head.Parked, Due: head.Due,
		Events: int64(len(l.Letters)), Bytes: l.Bytes,
		Request: desk.RequestOf(l.ID),
	}
	if h, held := desk.Held(l.ID, time.Now()); held {
		k.Member = h.Member
		if h.Request != 0 {
			k.Request = h.Request
		}
	}
	return k
}

// selects reports whether f selects the line.
func selects(f *deadletter.Filter, l *line.Line) bool {
	head := l.Letters[0]
	return (f.Group == "" || f.Group == l.Handler.Group) &&
		among(f.Handlers, l.Handler.Name) && among(f.Topics, l.Topic) && among(f.Types, head.Type) &&
		among(f.Causes, head.Cause) && among(f.IDs, l.ID) &&
		(len(f.Keys) == 0 || slices.ContainsFunc(f.Keys, func(k []byte) bool { return slices.Equal(k, l.Key) })) &&
		(f.From.IsZero() || !head.Parked.Before(f.From)) &&
		(f.Until.IsZero() || head.Parked.Before(f.Until))
}

func among[T comparable](list []T, v T) bool { return len(list) == 0 || slices.Contains(list, v) }

// Count implements deadletter.Store.
func (s *Store) Count(ctx context.Context, f deadletter.Filter, by ...deadletter.By) ([]deadletter.Count, error) {
	for _, b := range by {
		if !slices.Contains([]deadletter.By{deadletter.ByCause, deadletter.ByType, deadletter.ByHandler, deadletter.ByTopic, deadletter.ByKey}, b) {
			return nil, fmt.Errorf("count parked keys by %q: use cause, type, handler, topic or key", b)
		}
	}
	var counts []deadletter.Count
	err := s.read(ctx, func(lines *line.Lines, _ *line.Desk) {
		places := map[[5]string]int{}
		for _, l := range lines.All() {
			if !selects(&f, l) {
				continue
			}
			var words [5]string
			for i, b := range by {
				words[min(i, 4)] = word(l, b)
			}
			at, ok := places[words]
			if !ok {
				at = len(counts)
				places[words] = at
				group := map[deadletter.By]string{}
				for _, b := range by {
					group[b] = word(l, b)
				}
				counts = append(counts, deadletter.Count{Group: group})
			}
			add(&counts[at], l)
		}
	})
	if err == nil && len(by) == 0 && len(counts) == 0 {
		counts = []deadletter.Count{{Group: map[deadletter.By]string{}}}
	}
	slices.SortStableFunc(counts, func(a, b deadletter.Count) int {
		order := cmp.Compare(b.Keys, a.Keys) // the largest first
		for _, w := range by {
			order = cmp.Or(order, strings.Compare(a.Group[w], b.Group[w]))
		}
		return order
	})
	return counts, err
}

func word(l *line.Line, by deadletter.By) string {
	switch by {
	case deadletter.ByCause:
		return string(l.Letters[0].Cause)
	case deadletter.ByType:
		return l.Letters[0].Type
	case deadletter.ByHandler:
		return l.Handler.Name
	case deadletter.ByTopic:
		return l.Topic
	case deadletter.ByKey:
		return string(l.Key)
	default:
		return ""
	}
}

func add(c *deadletter.Count, l *line.Line) {
	at := l.Letters[0].Parked
	c.Keys++
	c.Events += int64(len(l.Letters))
	c.Bytes += l.Bytes
	if c.Oldest.IsZero() || at.Before(c.Oldest) {
		c.Oldest = at
	}
	if at.After(c.Newest) {
		c.Newest = at
	}
}

// Letters implements deadletter.Store.
func (s *Store) Letters(ctx context.Context, key, after int64, limit int) ([]deadletter.Letter, error) {
	if err := checkLimit(limit); err != nil {
		return nil, fmt.Errorf("list the letters of key %d: %w", key, err)
	}
	var letters []deadletter.Letter
	parked := false
	err := s.read(ctx, func(lines *line.Lines, _ *line.Desk) {
		l := lines.ByID(key)
		if l == nil {
			return
		}
		parked = true
		from, _ := slices.BinarySearchFunc(l.Letters, after+1, func(l *deadletter.Letter, id int64) int { return cmp.Compare(l.ID, id) })
		for _, letter := range l.Letters[from:min(len(l.Letters), from+limit)] {
			letters = append(letters, *letter)
		}
	})
	if err == nil && !parked {
		err = fmt.Errorf("parked key %d: %w", key, deadletter.ErrNotFound)
	}
	return letters, err
}

// Letter implements deadletter.Store.
func (s *Store) Letter(ctx context.Context, id int64) (deadletter.Letter, error) {
	var found *deadletter.Letter
	if err := s.read(ctx, func(lines *line.Lines, _ *line.Desk) { found = lines.Letter(id) }); err != nil {
		return deadletter.Letter{}, err
	}
	if found == nil {
		return deadletter.Letter{}, noLetter(id)
	}
	return *found, nil
}

func noLetter(id int64) error { return fmt.Errorf("letter %d: %w", id, deadletter.ErrNotFound) }

// Handlers implements deadletter.Store.
func (s *Store) Handlers(ctx context.Context, group string) ([]inbox.Handler, error) {
	var list []inbox.Handler
	err := s.read(ctx, func(lines *line.Lines, _ *line.Desk) {
		for _, l := range lines.All() {
			if l.Handler.Group == group && !slices.Contains(list, l.Handler) {
				list = append(list, l.Handler)
			}
		}
	})
	slices.SortFunc(list, func(a, b inbox.Handler) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.Epoch, b.Epoch))
	})
	return list, err
}

// Audit implements deadletter.Store.
func (s *Store) Audit(ctx context.Context, group string, before int64, limit int) ([]deadletter.Entry, error) {
	if err := checkLimit(limit); err != nil {
		return nil, fmt.Errorf("list the audit log: %w", err)
	}
	var list []deadletter.Entry
	err := s.read(ctx, func(_ *line.Lines, desk *line.Desk) {
		list = desk.Audit(group, before, limit)
	})
	return list, err
}

// Request implements deadletter.Store.
func (s *Store) Request(ctx context.Context, id int64) (deadletter.Request, error) {
	var q deadletter.Request
	var ok bool
	if err := s.read(ctx, func(_ *line.Lines, desk *line.Desk) { q, ok = desk.Request(id) }); err != nil {
		return q, err
	}
	if !ok {
		return q, noRequest(id)
	}
	return q, nil
}

func noRequest(id int64) error { return fmt.Errorf("request %d: %w", id, deadletter.ErrNotFound) }

// Requests implements deadletter.Store.
func (s *Store) Requests(ctx context.Context, group string, open bool, limit int) ([]deadletter.Request, error) {
	if err := checkLimit(limit); err != nil {
		return nil, fmt.Errorf("list requests: %w", err)
	}
	var list []deadletter.Request
	err := s.read(ctx, func(_ *line.Lines, desk *line.Desk) {
		list = desk.Requests(group, open, limit)
	})
	return list, err
}

// note appends one note.
func (s *Store) note(ctx context.Context, n line.Note) (line.Granted, error) {
	granted, err := s.journal.Note(ctx, n)
	if err != nil {
		return line.Granted{}, fmt.Errorf("dead letters in %s: %w", s.ID(), err)
	}
	return granted[0], nil
}

func notAdmitted(err error) error {
	if err == nil || errors.Is(err, inbox.ErrNotAdmitted) {
		return err
	}
	return fmt.Errorf("%w: %w", inbox.ErrNotAdmitted, err)
}
