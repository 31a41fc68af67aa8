package sqlstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/internal/parking"
)

// importedAtOnce is how many letters one transaction adds at most.
const importedAtOnce = 100

// Import implements deadletter.Store.
func (s *Store) Import(ctx context.Context, list []deadletter.Letter, act deadletter.Act) (added int64, err error) {
	ids := map[inbox.Handler]int32{}
	for i := range list {
		if err := importable(&list[i]); err != nil {
			return 0, fmt.Errorf("import letter %d of %d: %w", i+1, len(list), err)
		}
		h := list[i].Handler
		if _, known := ids[h]; known {
			continue
		}
		err := s.read(func(on session) (err error) {
			ids[h], err = on.handler(ctx, h)
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("import letter %d of %d: %w", i+1, len(list), err)
		}
	}
	for at := 0; at < len(list); {
		run := list[at : at+runOf(list[at:])]
		var n int64
		err := s.change(ctx, func(on session) (err error) {
			n, err = on.importRun(ctx, ids[run[0].Handler], run, act)
			return err
		})
		if err != nil {
			return added, fmt.Errorf("import letters %d to %d of %d: %w; those before them are in, and are left out when all are imported again", at+1, at+len(run), len(list), err)
		}
		added += n
		at += len(run)
	}
	return added, nil
}

func importable(l *deadletter.Letter) error {
	switch {
	case l.EventID == uuid.Nil:
		return errors.New("its EventID is zero; without one nobody can tell whether it was applied")
	case l.Place.Topic == "":
		return fmt.Errorf("event %s: its topic is empty", l.EventID)
	case l.Cause == "":
		return fmt.Errorf("event %s: its cause is empty; use one such as %q", l.EventID, inbox.CauseError)
	}
	return nil
}

// runOf is how many letters at the begin of list are of one key.
func runOf(list []deadletter.Letter) int {
	n := 1
	first := &list[0]
	for n < len(list) && n < importedAtOnce && len(first.Place.Key) > 0 && list[n].Handler == first.Handler &&
		list[n].Place.Topic == first.Place.Topic && bytes.Equal(list[n].Place.Key, first.Place.Key) {
		n++
	}
	return n
}

// importRun parks letters of one key in the caller's transaction.
func (s session) importRun(ctx context.Context, handler int32, run []deadletter.Letter, act deadletter.Act) (added int64, err error) {
	var (
		first   = &run[0]
		raw     = first.Place.Key
		key     = parking.Key(raw)
		keyless = key == nil
	)
	if keyless {
		raw, key = nil, first.EventID[:]
	}
	if err := s.lock(ctx, handler, first, keyless, key); err != nil {
		return 0, err
	}
	var target int64
	for i := range run {
		l := &run[i]
		var applied, parked bool
		if err := s.row(ctx, knows, l.EventID, handler).Scan(&applied, &parked); err != nil {
			return 0, err
		}
		if applied || parked {
			continue
		}
		size := parking.Size(l.Record)
		if target, err = one[int64](s.row(ctx, addKey, handler, l.Place.Topic, keyless, key, raw, 1, size).Scan); err != nil {
			return 0, err
		}
		if err := s.addLetter(ctx, target, handler, l, size); err != nil {
			return 0, fmt.Errorf("event %s: %w", l.EventID, err)
		}
		added++
	}
	if added == 0 {
		return 0, nil
	}
	if _, err := s.exec(ctx, nextHead, target, 0, 0); err != nil {
		return 0, err
	}
	if !keyless {
		if _, err := s.exec(ctx, countKey, handler, first.Place.Topic, key, added); err != nil {
			return 0, err
		}
	}
	e := deadletter.Entry{Act: act, Action: deadletter.ActionImport, Group: first.Handler.Group, Handler: first.Handler.Name, Key: raw}
	if keyless {
		e.EventID = first.EventID.String()
	}
	e.After, _ = json.Marshal(map[string]any{"topic": first.Place.Topic, "letters": added}) //nolint:errchkjson // a string and a number
	return added, s.audit(ctx, &e)
}

func (s session) addLetter(ctx context.Context, key int64, handler int32, l *deadletter.Letter, size int64) error {
	var original json.RawMessage
	if l.Original != nil {
		original = json.RawMessage(parking.Original(*l.Original))
	}
	text := parking.Text
	recorded := l.Time // a column that is never null
	if recorded.IsZero() {
		recorded = time.UnixMilli(0)
	}
	_, err := s.exec(ctx, addLetter, key, handler, l.EventID, text(l.Type), text(l.Source), text(l.AggregateType), text(l.AggregateID), l.Sequence,
		l.Place.Partition, l.Place.Offset, recorded, l.Record.Key, l.Record.Value, json.RawMessage(parking.Headers(l.Record.Headers)), original, size,
		string(l.Cause), text(l.Error), text(l.Stack), l.Attempts, l.First, l.Last, l.Due, l.Parked)
	return err
}
