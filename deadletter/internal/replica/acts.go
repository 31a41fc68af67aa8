package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	// together is how many letters are parked by an act at once.
	together = 50
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
func (s *Store) change(ctx context.Context, id int64, f func(c line.Change) error) error {
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
		var c line.Change
		if err := s.read(ctx, func(lines *line.Lines, _ *line.Desk) { c = lines.Rewrite(id) }); err != nil {
			return err
		}
		if c.Letter == nil {
			return noLetter(id)
		}
		return f(c)
	})
}

// Discard implements deadletter.Store. It leaves no inbox row: the store has none.
// While a member retries the key it refuses, with ErrBusy: no lock would keep the
// key's next event from running beside the one that is tried at that moment.
func (s *Store) Discard(ctx context.Context, id int64, act deadletter.Act) error {
	if strings.TrimSpace(act.Reason) == "" {
		return fmt.Errorf("discard letter %d: %w", id, errReason)
	}
	err := s.change(ctx, id, func(c line.Change) error {
		e := entry(c.Letter, "discard", act)
		var err error
		if e.Before, err = deadletter.MarshalLetter(*c.Letter); err != nil {
			return err
		}
		if _, err := s.note(ctx, line.Note{Audit: &e}); err != nil {
			return err
		}
		_, err = s.journal.Put(ctx, line.Change{Name: c.Name})
		return err
	})
	if err != nil {
		return fmt.Errorf("discard letter %d: %w", id, err)
	}
	return nil
}

// Edit implements deadletter.Store.
func (s *Store) Edit(ctx context.Context, id int64, to deadletter.Edited, act deadletter.Act) error {
	err := s.change(ctx, id, func(c line.Change) error {
		l := c.Letter
		if act.Request != 0 {
			q, err := s.Request(ctx, act.Request)
			if err != nil {
				return err
			}
			if q.State != deadletter.Open {
				return fmt.Errorf("open request %d: %w: it is %s", act.Request, deadletter.ErrNotFound, q.State)
			}
		}
		e := entry(l, "edit", act)
		var err error
		if e.Before, e.After, err = values(l, to.Value); err != nil {
			return err
		}
		if _, err := s.note(ctx, line.Note{Audit: &e}); err != nil {
			return err
		}
		if l.Original == nil {
			original := l.Record
			l.Original = &original
		}
		l.Record.Value = to.Value
		if _, err := s.journal.Put(ctx, c); err != nil {
			return err
		}
		if act.Request == 0 {
			return nil
		}
		_, err = s.note(ctx, line.Note{Settle: &line.Settle{Request: act.Request, State: deadletter.Done}})
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
	switch {
	case from == to:
		return 0, errors.New("they are the same")
	case from.Group != to.Group:
		return 0, fmt.Errorf("they are of the groups %q and %q", from.Group, to.Group)
	}
	var letters []deadletter.Letter
	var keys []int64
	var open int64
	known := false
	if err := s.read(ctx, func(lines *line.Lines, desk *line.Desk) {
		known = lines.Knows(from)
		for _, at := range lines.All() {
			if at.Handler != from {
				continue
			}
			open = max(open, desk.RequestOf(at.ID))
			keys = append(keys, at.ID)
			if own := lines.Line(to, at.Topic, at.Key, at.Letters[0].EventID); own != nil {
				keys = append(keys, own.ID)
			}
		}
	}); err != nil {
		return 0, err
	}
	switch {
	case !known:
		return 0, fmt.Errorf("parked events of handler %q: %w", from.Name, deadletter.ErrNotFound)
	case len(keys) == 0:
		return 0, nil
	case open != 0:
		return 0, fmt.Errorf("one of its keys %w, by request %d: end it, or ask again when it is done", deadletter.ErrBusy, open)
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
			Act: act, Action: "reassign", Group: from.Group, Handler: from.Name,
			After: object(map[string]any{"handler": to.Name, "letters": len(letters)}),
		}
		if _, err := s.note(ctx, line.Note{Audit: &e}); err != nil {
			return err
		}
		n, err = s.join(ctx, letters, func(l *deadletter.Letter) string {
			old := nameOfLetter(l)
			l.Handler = to
			return old
		})
		return err
	})
	return n, err
}

// join parks letters behind what their keys have, but for those that are there.
// Leave, if any, changes a letter and names the record that it leaves: that
// follows in the log, so that a crash in between leaves it in both places.
func (s *Store) join(ctx context.Context, letters []deadletter.Letter, leave func(l *deadletter.Letter) (old string)) (n int64, err error) {
	for len(letters) > 0 {
		var changes []line.Change
		taken, joined := 0, int64(0)
		opened, added := map[string]bool{}, map[string]bool{}
		s.state.look(func(lines *line.Lines, _ *line.Desk) {
			for _, l := range letters[:min(len(letters), together)] {
				var old string
				if leave != nil {
					old = leave(&l)
				}
				c := joining(lines, &l)
				if key := line.Key(&l); c.Line == 0 && opened[key] {
					return // its line has an ID when the records so far are written
				} else if c.Line == 0 {
					opened[key] = true
				}
				taken++
				if lines.Named(c.Name) == nil && !added[c.Name] {
					added[c.Name] = true
					changes = append(changes, c)
					joined++
				}
				if leave != nil {
					changes = append(changes, line.Change{Name: old})
				}
			}
		})
		if len(changes) > 0 {
			if _, err := s.journal.Put(ctx, changes...); err != nil {
				return n, err
			}
		}
		n += joined
		letters = letters[taken:]
	}
	return n, nil
}

// Import implements deadletter.Store. That an event was applied is not known here.
func (s *Store) Import(ctx context.Context, letters []deadletter.Letter, act deadletter.Act) (n int64, err error) {
	var handler inbox.Handler
	for i := range letters {
		if err := errors.Join(s.owns(letters[i].Handler), whole(&letters[i])); err != nil {
			return 0, fmt.Errorf("import letter %d of %d: %w", i+1, len(letters), err)
		}
		handler = letters[i].Handler
	}
	if len(letters) == 0 {
		return 0, nil
	}
	err = s.read(ctx, func(*line.Lines, *line.Desk) {})
	if err == nil {
		e := deadletter.Entry{Act: act, Action: "import", Group: handler.Group, Handler: handler.Name, After: object(map[string]any{"letters": len(letters)})}
		_, err = s.note(ctx, line.Note{Audit: &e})
	}
	if err == nil {
		n, err = s.join(ctx, letters, nil)
	}
	if err != nil {
		return n, fmt.Errorf("import letters, after %d: %w", n, err)
	}
	return n, nil
}

// whole reports what an imported letter lacks.
func whole(l *deadletter.Letter) error {
	switch {
	case l.Handler.Group == "" || l.Handler.Name == "":
		return errors.New("it names no handler")
	case l.EventID == uuid.Nil:
		return errors.New("it has no event ID")
	case l.Place.Topic == "":
		return errors.New("it has no topic")
	case l.Cause == "":
		return errors.New("it has no cause")
	}
	return nil
}

// joining is the record that parks l behind what its key has.
func joining(lines *line.Lines, l *deadletter.Letter) line.Change {
	l.ID = 0
	c := line.Change{Name: nameOfLetter(l), Letter: l}
	if at := lines.Line(l.Handler, l.Place.Topic, l.Place.Key, l.EventID); at != nil {
		c.Line, c.Since = at.ID, at.Since
	}
	return c
}

func nameOfLetter(l *deadletter.Letter) string {
	return line.Name(l.Handler, l.Place.Topic, l.Place.Key, l.EventID)
}

func entry(l *deadletter.Letter, action string, act deadletter.Act) deadletter.Entry {
	return deadletter.Entry{
		Act: act, Action: action, Group: l.Handler.Group, Handler: l.Handler.Name,
		Key: l.Place.Key, Letter: l.ID, EventID: l.EventID.String(), Request: act.Request,
	}
}

// values are those of a letter before and after an edit, for the audit log.
func values(l *deadletter.Letter, to []byte) (before, after json.RawMessage, err error) {
	if before, err = deadletter.MarshalBytes("value", l.Record.Value); err == nil {
		after, err = deadletter.MarshalBytes("value", to)
	}
	return before, after, err
}

func object(m map[string]any) json.RawMessage {
	b, _ := json.Marshal(m) //nolint:errchkjson // strings and numbers
	return b
}
