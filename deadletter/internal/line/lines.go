package line

import (
	"cmp"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/internal/parking"
)

// Lines are the parked events of a group. Letters in it are replaced, never
// changed. Not safe for concurrent use.
type Lines struct {
	byKey   map[string]*Line // by keyName
	byID    map[int64]*Line
	letters map[int64]*deadletter.Letter
	names   map[string]int64 // of the letters, to their IDs
	totals  map[inbox.Handler]*Total
	memory  int64 // see Memory
	stale   map[string]struct{}
	gone    map[string]time.Time // names of letters that left, and when
	left    []departure          // in that order
}

type departure struct {
	name string
	at   time.Time
}

// Line is a parked key: its events in order.
type Line struct {
	ID      int64
	Handler inbox.Handler
	Topic   string
	Key     []byte // nil: an event without one
	Since   time.Time
	Letters []*deadletter.Letter // by ID
	Bytes   int64

	name string
}

// Total is what a handler has parked.
type Total struct {
	Keys   int64
	Events int64
	Bytes  int64
}

// What is remembered of letters that have left: a day, by the log's time, and so
// many of them. A record that was under way meanwhile is told by it, and an event
// that is read again.
const (
	remembered     = 24 * time.Hour
	mostRemembered = 100_000
)

// NewLines returns none.
func NewLines() *Lines {
	return &Lines{
		byKey: map[string]*Line{}, byID: map[int64]*Line{},
		letters: map[int64]*deadletter.Letter{}, names: map[string]int64{},
		totals: map[inbox.Handler]*Total{}, stale: map[string]struct{}{}, gone: map[string]time.Time{},
	}
}

// Apply takes the record at a position of the log, appended at the given time.
// It returns the letter's ID, and whether the record was of effect. One that was
// not came after somebody else's: the name is then Stale.
func (s *Lines) Apply(position int64, at time.Time, c Change) (id int64, ok bool) {
	at = at.UTC().Round(0)
	id, known := s.names[c.Name]
	switch {
	case c.Letter == nil:
		delete(s.stale, c.Name)
		s.leave(c.Name, at)
		if known {
			s.remove(id)
		}
		return id, known
	case c.Letter.ID == 0 && known:
		s.stale[c.Name] = struct{}{} // parked twice: the first one counts
		return id, false
	case c.Letter.ID == 0:
		delete(s.stale, c.Name)
		l := *c.Letter
		l.ID = position + 1
		if l.Parked.IsZero() { // else it was parked elsewhere before
			l.Parked = at
		}
		s.insert(&c, &l)
		return l.ID, true
	case !known:
		if _, left := s.gone[c.Name]; left {
			s.stale[c.Name] = struct{}{} // it had left when this was written
			return 0, false
		}
		delete(s.stale, c.Name)
		l := *c.Letter // its first record was compacted away
		s.insert(&c, &l)
		return l.ID, true
	case c.Letter.ID != id && c.Restored:
		delete(s.stale, c.Name)
		s.remove(id)
		l := *c.Letter
		s.insert(&c, &l)
		return l.ID, true
	case c.Letter.ID != id:
		s.stale[c.Name] = struct{}{} // of an earlier time that it was parked
		return id, false
	default:
		delete(s.stale, c.Name)
		l := *c.Letter
		s.replace(&l)
		return id, true
	}
}

// Stale lists the names whose last record in the log is not what is true of
// them. As long as that is so, a compaction would make it true: the records that
// Restore returns put it right.
func (s *Lines) Stale() []string {
	names := make([]string, 0, len(s.stale))
	for name := range s.stale {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Restore returns the record that says what is true of a name.
func (s *Lines) Restore(name string) Change {
	id, ok := s.names[name]
	if !ok {
		return Change{Name: name}
	}
	l := *s.letters[id]
	at := s.lineOf(&l)
	return Change{Name: name, Letter: &l, Line: at.ID, Since: at.Since}
}

// Rewrite returns the record that says what is true of a letter, with a copy of
// it to change; without one when it is not there.
func (s *Lines) Rewrite(id int64) Change {
	l := s.letters[id]
	if l == nil {
		return Change{}
	}
	return s.Restore(letterName(l))
}

// insert puts a letter into its line. The line that it opens has the ID that the
// writer knew, or else the letter's: so it is the same for who reads the log
// after the line's first records were compacted away.
func (s *Lines) insert(c *Change, l *deadletter.Letter) {
	key := keyName(l.Handler, l.Place.Topic, l.Place.Key, l.EventID)
	at, ok := s.byKey[key]
	if !ok {
		at = &Line{ID: cmp.Or(c.Line, l.ID), Handler: l.Handler, Topic: l.Place.Topic, Since: l.Parked, name: key}
		if len(l.Place.Key) > 0 {
			at.Key = l.Place.Key
		}
		s.byKey[key], s.byID[at.ID] = at, at
		s.total(l.Handler).Keys++
	}
	if at.ID != cmp.Or(c.Line, l.ID) {
		s.stale[c.Name] = struct{}{} // the writer did not know of the line
	}
	if !c.Since.IsZero() && c.Since.Before(at.Since) {
		at.Since = c.Since
	}
	if l.Parked.Before(at.Since) {
		at.Since = l.Parked
	}
	i, _ := slices.BinarySearchFunc(at.Letters, l.ID, byID)
	at.Letters = slices.Insert(at.Letters, i, l)
	s.letters[l.ID], s.names[c.Name] = l, l.ID
	s.count(at, 1, Size(l))
	s.memory += weight(l)
}

func (s *Lines) replace(l *deadletter.Letter) {
	old := s.letters[l.ID]
	at := s.lineOf(old)
	i, _ := slices.BinarySearchFunc(at.Letters, l.ID, byID)
	at.Letters[i] = l
	s.letters[l.ID] = l
	s.count(at, 0, Size(l)-Size(old))
	s.memory += weight(l) - weight(old)
}

func (s *Lines) remove(id int64) {
	l := s.letters[id]
	at := s.lineOf(l)
	s.count(at, -1, -Size(l))
	s.memory -= weight(l)
	delete(s.letters, id)
	delete(s.names, letterName(l))
	if i, _ := slices.BinarySearchFunc(at.Letters, id, byID); i == 0 {
		at.Letters[0] = nil // it shares an array with those that stay
		at.Letters = at.Letters[1:]
	} else {
		at.Letters = slices.Delete(at.Letters, i, i+1)
	}
	if len(at.Letters) == 0 {
		delete(s.byKey, at.name)
		delete(s.byID, at.ID)
		s.total(at.Handler).Keys--
	}
}

func (s *Lines) count(at *Line, events, bytes int64) {
	at.Bytes += bytes
	t := s.total(at.Handler)
	t.Events += events
	t.Bytes += bytes
}

func (s *Lines) total(h inbox.Handler) *Total {
	t := s.totals[h]
	if t == nil {
		t = &Total{}
		s.totals[h] = t
	}
	return t
}

func (s *Lines) lineOf(l *deadletter.Letter) *Line {
	return s.byKey[keyName(l.Handler, l.Place.Topic, l.Place.Key, l.EventID)]
}

// leave remembers that a letter has left, and forgets others.
func (s *Lines) leave(name string, at time.Time) {
	s.gone[name] = at
	s.left = append(s.left, departure{name, at})
	for len(s.left) > mostRemembered || at.Sub(s.left[0].at) > remembered {
		first := s.left[0]
		s.left[0] = departure{}
		s.left = s.left[1:]
		if s.gone[first.name].Equal(first.at) { // else it left once more
			delete(s.gone, first.name)
		}
	}
}

// Left reports whether a letter with the name left not long ago, and is not back.
func (s *Lines) Left(name string) bool {
	_, left := s.gone[name]
	_, back := s.names[name]
	return left && !back
}

func byID(l *deadletter.Letter, id int64) int { return cmp.Compare(l.ID, id) }

// Line returns that of a key, or nil.
func (s *Lines) Line(h inbox.Handler, topic string, key []byte, event uuid.UUID) *Line {
	return s.byKey[keyName(h, topic, key, event)]
}

// ByID returns the line with the ID, or nil.
func (s *Lines) ByID(id int64) *Line { return s.byID[id] }

// Of returns the line that a letter is in.
func (s *Lines) Of(l *deadletter.Letter) *Line { return s.lineOf(l) }

// Letter returns one, or nil.
func (s *Lines) Letter(id int64) *deadletter.Letter { return s.letters[id] }

// Named returns the letter with the name, or nil.
func (s *Lines) Named(name string) *deadletter.Letter { return s.letters[s.names[name]] }

// Total returns what a handler has parked.
func (s *Lines) Total(h inbox.Handler) Total {
	if t := s.totals[h]; t != nil {
		return *t
	}
	return Total{}
}

// Knows reports whether the handler has had anything parked, as far as is known.
func (s *Lines) Knows(h inbox.Handler) bool { return s.totals[h] != nil }

// All lists the lines by ID.
func (s *Lines) All() []*Line {
	all := make([]*Line, 0, len(s.byID))
	for _, l := range s.byID {
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b *Line) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// Oldest returns when the letter of the handler was parked that is there longest;
// zero: it has none.
func (s *Lines) Oldest(h inbox.Handler) time.Time {
	var oldest time.Time
	for _, at := range s.byKey {
		if head := at.Letters[0]; at.Handler == h && (oldest.IsZero() || head.Parked.Before(oldest)) {
			oldest = head.Parked
		}
	}
	return oldest
}

// overhead is what a letter takes besides its record and what is said of it: its
// fields, its name, its places in maps.
const overhead = 1 << 10

func weight(l *deadletter.Letter) int64 {
	n := Size(l) + int64(len(l.Error)+len(l.Stack)) + overhead
	if l.Original != nil {
		n += parking.Size(*l.Original)
	}
	return n
}

// Memory is about what all letters take in memory.
func (s *Lines) Memory() int64 { return s.memory }
