package replica

import (
	"context"
	"sync"
	"time"

	"github.com/tidings-bus/tidings/deadletter/internal/line"
)

// Journal is a log of letters and a log of notes, and the reader that brings
// them to a State. Errors wrap inbox.ErrNotAdmitted when nothing was appended,
// and inbox.ErrCommitUnknown when that is not known.
type Journal interface {
	// ID names the logs.
	ID() string
	// Put appends to the log of letters, in the order given, and returns what
	// each record came to, once it was applied to the State.
	Put(ctx context.Context, changes ...line.Change) ([]Applied, error)
	// Note does so with the log of notes.
	Note(ctx context.Context, notes ...line.Note) ([]line.Granted, error)
	// Read returns when everything is applied to the State that was acknowledged
	// to anybody before it was called.
	Read(ctx context.Context) error
}

// Applied is what a Change came to: see line.Lines.Apply.
type Applied struct {
	ID   int64
	OK   bool
	Head bool // the letter is the first of its key
}

// State is what the logs say, as far as they were read.
type State struct {
	mu    sync.RWMutex
	lines *line.Lines
	desk  *line.Desk
}

// NewState returns that of empty logs.
func NewState() *State { return &State{lines: line.NewLines(), desk: line.NewDesk()} }

// Replace makes it what o is, which nobody uses any more.
func (s *State) Replace(o *State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines, s.desk = o.lines, o.desk
}

// Put applies a record of the log of letters. In the order of the log.
func (s *State) Put(position int64, at time.Time, c line.Change) Applied {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, ok := s.lines.Apply(position, at, c)
	applied := Applied{ID: id, OK: ok}
	if l := s.lines.Letter(id); l != nil {
		applied.Head = s.lines.Of(l).Letters[0] == l
	}
	return applied
}

// Note applies a record of the log of notes. In the order of the log.
func (s *State) Note(position int64, at time.Time, n line.Note) line.Granted {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.desk.Apply(position, at, n)
}

// Stale returns the records that put right what a compaction would get wrong.
func (s *State) Stale() []line.Change {
	s.mu.RLock()
	defer s.mu.RUnlock()
	names := s.lines.Stale()
	changes := make([]line.Change, 0, len(names))
	for _, name := range names {
		c := s.lines.Restore(name)
		c.Restored = true
		changes = append(changes, c)
	}
	return changes
}

// look runs f while nothing changes.
func (s *State) look(f func(lines *line.Lines, desk *line.Desk)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	f(s.lines, s.desk)
}

// now is as coarse as the time of records.
func now() time.Time { return time.Now().Truncate(time.Millisecond) }

// Memory is a Journal in this process. Several stores may share it, as members do.
type Memory struct {
	*State

	mu      sync.Mutex
	letters int64
	notes   int64
}

// NewMemory returns empty logs.
func NewMemory() *Memory { return &Memory{State: NewState()} }

// ID implements Journal.
func (m *Memory) ID() string { return "memory" }

// Read implements Journal.
func (m *Memory) Read(ctx context.Context) error { return notAdmitted(ctx.Err()) }

// Put implements Journal.
func (m *Memory) Put(ctx context.Context, changes ...line.Change) ([]Applied, error) {
	if err := ctx.Err(); err != nil {
		return nil, notAdmitted(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	applied := make([]Applied, len(changes))
	for i, c := range changes {
		applied[i] = m.State.Put(m.letters, now(), c)
		m.letters++
	}
	return applied, nil
}

// Note implements Journal.
func (m *Memory) Note(ctx context.Context, notes ...line.Note) ([]line.Granted, error) {
	if err := ctx.Err(); err != nil {
		return nil, notAdmitted(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	granted := make([]line.Granted, len(notes))
	for i, n := range notes {
		granted[i] = m.State.Note(m.notes, now(), n)
		m.notes++
	}
	return granted, nil
}
