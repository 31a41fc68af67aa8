package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/deadletter/internal/line"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

const (
	// actLease is how long an act may take after its claim.
	actLease = 20 * time.Second
	// actPoll is how often one act waits for another on the same key.
	actPoll = 20 * time.Millisecond
	// moved is how many letters are handed over at once.
	moved = 50
)

// holding runs f while keys are claimed for it: nobody retries them meanwhile.
// It waits for other acts; of a key that is being retried, the error wraps ErrBusy.
func (s *Store) holding(ctx context.Context, keys []int64, f func() error) error {
	me := "act " + uuid.NewString()
	for {
		g, err := s.note(ctx, line.Note{Claim: &line.Claim{Member: me, Keys: keys, Lease: actLease, Act: true}})
		if err != nil {
			return err
		}
		if len(g.Keys) == len(keys) {
			err := f()
			return errors.Join(err, s.giveBack(ctx, me, g.Keys))
		}
		if err := s.giveBack(ctx, me, g.Keys); err != nil {
			return err
		}
		if holder, retried := s.retried(keys, g.Keys); retried {
			return fmt.Errorf("its key %w by member %q", deadletter.ErrBusy, holder)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for another act on the key: %w", context.Cause(ctx))
		case <-time.After(actPoll):
		}
	}
}

// retried reports whether a member retries one of keys that were not got.
func (s *Store) retried(keys, got []int64) (holder string, yes bool) {
	s.state.look(func(_ *line.Lines, desk *line.Desk) {
		for _, k := range keys {
			if h, held := desk.Held(k, time.Now()); held && !h.Act && !slices.Contains(got, k) {
				holder, yes = h.Member, true
			}
		}
	})
	return holder, yes
}

func (s *Store) giveBack(ctx context.Context, member string, keys []int64) error {
	if len(keys) == 0 {
		return nil
	}
	notes := make([]line.Note, len(keys))
	for i, k := range keys {
		notes[i].Release = &line.Release{Member: member, Key: k}
	}
	if _, err := s.journal.Note(context.WithoutCancel(ctx), notes...); err != nil {
		return fmt.Errorf("give back the claim: %w", err)
	}
	return nil
}

// change runs f on a letter that nobody retries meanwhile.
func (s *Store) change(ctx context.Context, id int64, f func(l deadletter.Letter, since time.Time) error) error {
	var key int64
	if err := s.read(ctx, func(lines *line.Lines, _ *line.Desk) {
		if l := lines.Letter(id); l != nil {
			key = lines.Of(l).ID
		}
	}); err != nil {
		return err
	}
	if key == 0 {
		return noLetter(id)
	}
	return s.holding(ctx, []int64{key}, func() error {
		var found *deadletter.Letter
		var since time.Time
		if err := s.read(ctx, func(lines *line.Lines, _ *line.Desk) {
			if found = lines.Letter(id); found != nil {
				since = lines.Of(found).Since
			}
		}); err != nil {
			return err
		}
		if found == nil {
			return noLetter(id)
		}
		return f(*found, since)
	})
}

// Discard implements deadletter.Store. It leaves no inbox row: the store has none.
func (s *Store) Discard(ctx context.Context, id int64, act deadletter.Act) error {
	if act.Reason == "" {
		return fmt.Errorf("discard letter %d: %w", id, errReason)
	}
	err := s.change(ctx, id, func(l deadletter.Letter, _ time.Time) error {
		e := entry(&l, "discard", act)
		e.Before = shown(l.Record.Value)
		if _, err := s.note(ctx, line.Note{Audit: &e}); err != nil {
			return err
		}
		_, err := s.journal.Put(ctx, line.Change{Name: line.Name(l.Handler, l.Place.Topic, l.Place.Key, l.EventID)})
		return err
	})
	if err != nil {
		return fmt.Errorf("discard letter %d: %w", id, err)
	}
	return nil
}

// Edit implements deadletter.Store.
func (s *Store) Edit(ctx context.Context, id int64, to deadletter.Edited, act deadletter.Act) error {
	err := s.change(ctx, id, func(l deadletter.Letter, since time.Time) error {
		if act.Request != 0 {
			q, err := s.Request(ctx, act.Request)
			if err != nil {
				return err
			}
			if q.State != deadletter.Open {
				return fmt.Errorf("open request %d: %w: it is %s", act.Request, deadletter.ErrNotFound, q.State)
			}
		}
		e := entry(&l, "edit", act)
		e.Before, e.After = shown(l.Record.Value), shown(to.Value)
		if _, err := s.note(ctx, line.Note{Audit: &e}); err != nil {
			return err
		}
		if l.Original == nil {
			original := l.Record
			l.Original = &original
		}
		l.Record.Value = to.Value
		name := line.Name(l.Handler, l.Place.Topic, l.Place.Key, l.EventID)
		if _, err := s.journal.Put(ctx, line.Change{Name: name, Letter: &l, Since: since}); err != nil {
			return err
		}
		if act.Request == 0 {
			return nil
		}
		_, err := s.note(ctx, line.Note{Settle: &line.Settle{Request: act.Request, State: deadletter.Done}})
		return err
	})
	if err != nil {
		return fmt.Errorf("edit letter %d: %w", id, err)
	}
	return nil
}

// Reassign implements deadletter.Store.
func (s *Store) Reassign(ctx context.Context, from, to inbox.Handler, act deadletter.Act) (int64, error) {
	n, err := s.reassign(ctx, from, to, act)
	if err != nil {
		return n, fmt.Errorf("hand the parked events of handler %q to %q: %w", from.Name, to.Name, err)
	}
	return n, nil
}

func (s *Store) reassign(ctx context.Context, from, to inbox.Handler, act deadletter.Act) (n int64, err error) {
	if err := errors.Join(s.owns(from), s.owns(to)); err != nil {
		return 0, err
	}
	if from == to {
		return 0, errors.New("they are the same")
	}
	var letters []deadletter.Letter
	var keys []int64
	if err := s.read(ctx, func(lines *line.Lines, _ *line.Desk) {
		for _, at := range lines.All() {
			if at.Handler != from {
				continue
			}
			keys = append(keys, at.ID)
			if own := lines.Line(to, at.Topic, at.Key, at.Letters[0].EventID); own != nil {
				keys = append(keys, own.ID)
			}
		}
	}); err != nil {
		return 0, err
	}
	if len(keys) == 0 {
		return 0, fmt.Errorf("parked events of handler %q: %w", from.Name, deadletter.ErrNotFound)
	}
	err = s.holding(ctx, keys, func() error {
		if err := s.read(ctx, func(lines *line.Lines, _ *line.Desk) {
			for _, at := range lines.All() {
				if at.Handler != from {
					continue
				}
				for _, l := range at.Letters {
					letters = append(letters, *l)
				}
			}
		}); err != nil {
			return err
		}
		e := deadletter.Entry{
			Act: act, Action: "reassign", Group: s.group, Handler: from.Name,
			After: object(map[string]any{"handler": to.Name, "letters": len(letters)}),
		}
		if _, err := s.note(ctx, line.Note{Audit: &e}); err != nil {
			return err
		}
		for part := range slices.Chunk(letters, moved) {
			moved, err := s.move(ctx, part, to)
			if err != nil {
				return err
			}
			n += moved
		}
		return nil
	})
	return n, err
}

// move gives each letter to the handler before it leaves the one it had, so
// that a crash in between leaves it with both. An event that the other one has
// parked itself is dropped.
func (s *Store) move(ctx context.Context, letters []deadletter.Letter, to inbox.Handler) (n int64, err error) {
	var changes []line.Change
	s.state.look(func(lines *line.Lines, _ *line.Desk) {
		for _, l := range letters {
			old := line.Name(l.Handler, l.Place.Topic, l.Place.Key, l.EventID)
			l.Handler, l.ID = to, 0
			name := line.Name(l.Handler, l.Place.Topic, l.Place.Key, l.EventID)
			if lines.Named(name) == nil {
				changes = append(changes, line.Change{Name: name, Letter: &l})
				n++
			}
			changes = append(changes, line.Change{Name: old})
		}
	})
	_, err = s.journal.Put(ctx, changes...)
	return n, err
}

// Import implements deadletter.Store. That an event was applied is not known here.
func (s *Store) Import(ctx context.Context, letters []deadletter.Letter, act deadletter.Act) (n int64, err error) {
	var changes []line.Change
	var handler string
	for i := range letters {
		if err := s.owns(letters[i].Handler); err != nil {
			return 0, fmt.Errorf("import letter %d of %d: %w", i+1, len(letters), err)
		}
		handler = letters[i].Handler.Name
	}
	if err := s.read(ctx, func(lines *line.Lines, _ *line.Desk) {
		seen := map[string]bool{}
		for _, l := range letters {
			name := line.Name(l.Handler, l.Place.Topic, l.Place.Key, l.EventID)
			if lines.Named(name) != nil || seen[name] {
				continue
			}
			seen[name] = true
			l.ID = 0
			changes = append(changes, line.Change{Name: name, Letter: &l})
		}
	}); err != nil {
		return 0, fmt.Errorf("import letters: %w", err)
	}
	if len(changes) == 0 {
		return 0, nil
	}
	e := deadletter.Entry{Act: act, Action: "import", Group: s.group, Handler: handler, After: object(map[string]any{"letters": len(changes)})}
	if _, err := s.note(ctx, line.Note{Audit: &e}); err != nil {
		return 0, fmt.Errorf("import letters: %w", err)
	}
	for part := range slices.Chunk(changes, moved) {
		applied, err := s.journal.Put(ctx, part...)
		if err != nil {
			return n, fmt.Errorf("import letters, after %d: %w", n, err)
		}
		for _, a := range applied {
			if a.OK {
				n++
			}
		}
	}
	return n, nil
}

func entry(l *deadletter.Letter, action string, act deadletter.Act) deadletter.Entry {
	return deadletter.Entry{
		Act: act, Action: action, Group: l.Handler.Group, Handler: l.Handler.Name,
		Key: l.Place.Key, Letter: l.ID, EventID: l.EventID.String(), Request: act.Request,
	}
}

// shown is a value for the audit log: as it is when it is JSON, else in base64.
func shown(value []byte) json.RawMessage {
	if json.Valid(value) {
		return object(map[string]any{"value": json.RawMessage(value)})
	}
	return object(map[string]any{"value": value})
}

func object(m map[string]any) json.RawMessage {
	b, _ := json.Marshal(m) //nolint:errchkjson // strings, numbers and valid JSON
	return b
}
