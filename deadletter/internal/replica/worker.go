package replica

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/deadletter/internal/line"
)

// selected is how many keys one record of a request names.
const selected = 20_000

// Ask implements deadletter.Store.
func (s *Store) Ask(ctx context.Context, q deadletter.Request, act deadletter.Act) (deadletter.Request, error) {
	if err := s.askable(&q, act); err != nil {
		return q, err
	}
	q.Act = act
	ask := line.Ask{Request: q, Entry: deadletter.Entry{Act: act, Action: q.Kind.Action(), Group: q.Group}}
	var rest [][]int64
	if q.Kind == deadletter.RequestRetry {
		var ids []int64
		var other int64
		ask.Filter.Group = q.Group
		ask.Entry.After = object(map[string]any{"filter": ask.Filter, "rate": q.Rate})
		if err := s.read(ctx, func(lines *line.Lines, desk *line.Desk) {
			ids, ask.Busy, other = matching(&q, lines, desk)
		}); err != nil {
			return q, err
		}
		switch {
		case len(ids) == 0 && ask.Busy > 0:
			return q, fmt.Errorf("ask group %q: what matches %w already, by request %d", q.Group, deadletter.ErrBusy, other)
		case len(ids) == 0:
			return q, fmt.Errorf("ask group %q: parked keys that match: %w", q.Group, deadletter.ErrNotFound)
		}
		parts := slices.Collect(slices.Chunk(ids, selected))
		ask.Select.Keys, ask.Select.Last, rest = parts[0], len(parts) == 1, parts[1:]
	}
	if q.Kind == deadletter.RequestEdit {
		l, err := s.Letter(ctx, q.Letter)
		if err != nil {
			return q, fmt.Errorf("ask group %q to edit: %w", q.Group, err)
		}
		ask.Entry = entry(&l, "ask-edit", act)
		if ask.Entry.Before, ask.Entry.After, err = values(&l, q.Value); err != nil {
			return q, err
		}
	}
	g, err := s.note(ctx, line.Note{Ask: &ask})
	if err != nil {
		return q, fmt.Errorf("ask group %q: %w", q.Group, err)
	}
	for i, part := range rest {
		sel := &line.Select{Request: g.ID, Keys: part, Last: i == len(rest)-1}
		if _, err := s.note(ctx, line.Note{Select: sel}); err != nil {
			return q, fmt.Errorf("ask group %q: name the keys: %w", q.Group, err)
		}
	}
	return s.Request(ctx, g.ID)
}

// askable reports what is wrong with a request.
func (s *Store) askable(q *deadletter.Request, act deadletter.Act) error {
	switch {
	case strings.TrimSpace(act.Who) == "":
		return errors.New("ask for something: nobody is named; say who asks, for the audit log")
	case q.Kind != deadletter.RequestRetry && q.Kind != deadletter.RequestEdit:
		return fmt.Errorf("ask group %q: the request's kind is %q: use retry or edit", q.Group, q.Kind)
	case q.Group == "":
		return errors.New("ask for something: the request names no group")
	case q.Rate < 0 || math.IsNaN(q.Rate) || math.IsInf(q.Rate, 0):
		return fmt.Errorf("ask group %q: the rate is %v: use events per second, or 0 for no bound", q.Group, q.Rate)
	case q.Kind == deadletter.RequestRetry && q.Filter.Group != "" && q.Filter.Group != q.Group:
		return fmt.Errorf("ask group %q: the filter's group is %q: leave it empty, or use the request's", q.Group, q.Filter.Group)
	case s.group != "" && q.Group != s.group:
		return fmt.Errorf("ask group %q: these dead letters are those of group %q", q.Group, s.group)
	}
	return nil
}

// matching lists the keys that a request selects, of each handler's newest epoch. Those
// of other open requests are counted only.
func matching(q *deadletter.Request, lines *line.Lines, desk *line.Desk) (ids []int64, busy, other int64) {
	all := slices.DeleteFunc(lines.All(), func(at *line.Line) bool { return at.Handler.Group != q.Group })
	newest := map[string]int{}
	for _, at := range all {
		newest[at.Handler.Name] = max(newest[at.Handler.Name], at.Handler.Epoch)
	}
	for _, at := range all {
		if at.Handler.Epoch != newest[at.Handler.Name] || !selects(&q.Filter, at) {
			continue
		}
		if r := desk.RequestOf(at.ID); r != 0 {
			busy++
			other = r
			continue
		}
		ids = append(ids, at.ID)
	}
	return ids, busy, other
}

// End implements deadletter.Store.
func (s *Store) End(ctx context.Context, id int64, act deadletter.Act) error {
	g, err := s.note(ctx, line.Note{Settle: &line.Settle{Request: id, State: deadletter.Ended, Act: &act}})
	if err != nil {
		return err
	}
	if !g.OK {
		return fmt.Errorf("end: open %w", noRequest(id))
	}
	return nil
}

// Claim implements deadletter.Worker.
func (s *Store) Claim(ctx context.Context, group string, handlers []string, member string, lease time.Duration, limit int) ([]deadletter.Key, error) {
	if err := checkLimit(limit); err != nil {
		return nil, fmt.Errorf("claim keys: %w", err)
	}
	var wanted []int64
	if err := s.read(ctx, func(lines *line.Lines, desk *line.Desk) { wanted = candidates(lines, desk, group, handlers, limit) }); err != nil {
		return nil, err
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	g, err := s.note(ctx, line.Note{Claim: &line.Claim{Member: member, Keys: wanted, Lease: lease}})
	if err != nil {
		return nil, err
	}
	var keys []deadletter.Key
	var gone []int64
	err = s.read(ctx, func(lines *line.Lines, desk *line.Desk) {
		for _, id := range g.Keys {
			at := lines.ByID(id)
			if at == nil {
				gone = append(gone, id)
				continue
			}
			k := keyOf(at, desk)
			h, _ := desk.Held(id, time.Now())
			k.Request, k.Member = h.Request, member
			keys = append(keys, k)
		}
	})
	if err != nil {
		return nil, err // its lease ends
	}
	return keys, s.giveBack(ctx, member, gone)
}

// candidates are the keys that a member may try to claim: those of requests,
// the oldest request first, then those that are due, the longest first, and
// those that a member began with and is not done with.
func candidates(lines *line.Lines, desk *line.Desk, group string, handlers []string, limit int) []int64 {
	now := time.Now()
	free := func(at *line.Line) bool {
		_, held := desk.Held(at.ID, now)
		return !held && at.Handler.Group == group && slices.Contains(handlers, at.Handler.Name)
	}
	var ids []int64
	for _, w := range desk.Work(group) {
		for _, id := range w.Left {
			at := lines.ByID(id)
			if at == nil || !free(at) || slices.Contains(ids, id) {
				continue
			}
			if ids = append(ids, id); len(ids) == limit {
				return ids
			}
		}
	}
	var ready []*line.Line
	for _, at := range lines.All() {
		if (due(at.Letters[0], now) || desk.Unfinished(at.ID, now)) && free(at) && !slices.Contains(ids, at.ID) {
			ready = append(ready, at)
		}
	}
	slices.SortStableFunc(ready, func(a, b *line.Line) int { return a.Letters[0].Due.Compare(b.Letters[0].Due) })
	for _, at := range ready[:min(len(ready), limit-len(ids))] {
		ids = append(ids, at.ID)
	}
	return ids
}

func due(head *deadletter.Letter, now time.Time) bool {
	return !head.Due.IsZero() && !head.Due.After(now)
}

// Renew implements deadletter.Worker.
func (s *Store) Renew(ctx context.Context, member string, keys []int64, lease time.Duration) ([]int64, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	g, err := s.note(ctx, line.Note{Renew: &line.Claim{Member: member, Keys: keys, Lease: lease}})
	return g.Keys, err
}

// Release implements deadletter.Worker.
func (s *Store) Release(ctx context.Context, member string, key deadletter.Key, done bool, p deadletter.Progress) error {
	g, err := s.note(ctx, line.Note{Release: &line.Release{Member: member, Key: key.ID, Done: done, Progress: p}})
	if err != nil {
		return err
	}
	if !g.OK {
		return fmt.Errorf("give back key %d, which is not %q's: %w", key.ID, member, deadletter.ErrNotFound)
	}
	return nil
}

// Advance implements deadletter.Worker.
func (s *Store) Advance(ctx context.Context, group string) error {
	var notes []line.Note
	if err := s.read(ctx, func(lines *line.Lines, desk *line.Desk) {
		for _, w := range desk.Work(group) {
			if w.Selected {
				notes = append(notes, settled(&w, lines)...)
			} else {
				notes = append(notes, choose(&w, lines, desk)...)
			}
		}
	}); err != nil || len(notes) == 0 {
		return err
	}
	_, err := s.journal.Note(ctx, notes...)
	return err
}

// choose names the keys of a request whose asker vanished before it had.
func choose(w *line.Work, lines *line.Lines, desk *line.Desk) []line.Note {
	ids, _, _ := matching(&w.Request, lines, desk)
	ids = slices.DeleteFunc(ids, func(id int64) bool { return lines.ByID(id).Since.After(w.Asked) })
	var notes []line.Note
	for part := range slices.Chunk(ids, selected) {
		notes = append(notes, line.Note{Select: &line.Select{Request: w.ID, Keys: part}})
	}
	return append(notes, line.Note{Select: &line.Select{Request: w.ID, Last: true}})
}

// settled names the keys that a request has left when all of them are drained,
// also those of which nobody said so.
func settled(w *line.Work, lines *line.Lines) []line.Note {
	if slices.ContainsFunc(w.Left, func(id int64) bool { return lines.ByID(id) != nil }) {
		return nil
	}
	return []line.Note{{Select: &line.Select{Request: w.ID, Keys: w.Left, Gone: true}}}
}

// Permit implements deadletter.Worker.
func (s *Store) Permit(ctx context.Context, request int64) (time.Duration, error) {
	q, ok := deadletter.Request{}, false
	if err := s.read(ctx, func(_ *line.Lines, desk *line.Desk) { q, ok = desk.Request(request) }); err != nil {
		return 0, err
	}
	if !ok || q.State != deadletter.Open {
		return 0, fmt.Errorf("open %w", noRequest(request))
	}
	if q.Rate <= 0 {
		return 0, nil
	}
	g, err := s.note(ctx, line.Note{Permit: request})
	if err != nil {
		return 0, err
	}
	if !g.OK {
		return 0, fmt.Errorf("open %w", noRequest(request))
	}
	return g.Wait, nil
}

// Settle implements deadletter.Worker.
func (s *Store) Settle(ctx context.Context, id int64, state deadletter.State, why string) error {
	g, err := s.note(ctx, line.Note{Settle: &line.Settle{Request: id, State: state, Error: why}})
	if err != nil {
		return err
	}
	if !g.OK {
		return fmt.Errorf("settle: open %w", noRequest(id))
	}
	return nil
}
