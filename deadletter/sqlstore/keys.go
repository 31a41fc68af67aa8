package sqlstore

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/internal/parking"
)

// Keys implements deadletter.Store.
func (s *Store) Keys(ctx context.Context, f deadletter.Filter, after int64, limit int) (list []deadletter.Key, err error) {
	if err := checkLimit(limit); err != nil {
		return nil, fmt.Errorf("list parked keys: %w", err)
	}
	err = s.read(func(on session) (err error) {
		list, err = on.keys(ctx, f, after, limit)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list parked keys: %w", err)
	}
	return list, nil
}

func (s session) keys(ctx context.Context, f deadletter.Filter, after int64, limit int) ([]deadletter.Key, error) {
	return each(ctx, s, scanKey, keys, append(filterArgs(&f), after, limit)...)
}

func scanKey(read scan) (k deadletter.Key, err error) {
	err = read(&k.ID, &k.Handler.Group, &k.Handler.Name, &k.Handler.Epoch, &k.Topic, &k.Key,
		&k.Head, &k.Type, &k.Cause, &k.Error, &k.Tries, instant{&k.Since}, instant{&k.HeadAt}, instant{&k.Due}, &k.Events, &k.Bytes,
		&k.Request, &k.Member)
	return k, err
}

// filterArgs are the first nine arguments of statements that include filter.sql.
func filterArgs(f *deadletter.Filter) []any {
	keys := make([]string, 0, len(f.Keys))
	for _, k := range f.Keys {
		keys = append(keys, hex.EncodeToString(parking.Key(k)))
	}
	return []any{
		f.Group, array(f.Handlers), array(f.Topics), array(keys), array(f.Types), array(f.Causes), array(f.IDs), f.From, f.Until,
	}
}

// array is list as a JSON array, or null where it is empty.
func array[T any](list []T) json.RawMessage {
	if len(list) == 0 {
		return nil
	}
	text, _ := json.Marshal(list) //nolint:errchkjson // strings and numbers
	return text
}

// Count implements deadletter.Store.
func (s *Store) Count(ctx context.Context, f deadletter.Filter, by ...deadletter.By) (list []deadletter.Count, err error) {
	args := filterArgs(&f)
	for _, b := range groupings {
		args = append(args, slices.Contains(by, b))
	}
	for _, b := range by {
		if !slices.Contains(groupings, b) {
			return nil, fmt.Errorf("count parked keys by %q: use one of %v", b, groupings)
		}
	}
	err = s.read(func(on session) (err error) {
		list, err = each(ctx, on, func(read scan) (deadletter.Count, error) { return scanCount(read, by) }, count, args...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("count parked keys: %w", err)
	}
	if len(by) == 0 && len(list) == 0 {
		list = []deadletter.Count{{Group: map[deadletter.By]string{}}}
	}
	return list, nil
}

// groupings are in the order of count.sql's parameters.
var groupings = []deadletter.By{deadletter.ByCause, deadletter.ByType, deadletter.ByHandler, deadletter.ByTopic, deadletter.ByKey}

func scanCount(read scan, by []deadletter.By) (c deadletter.Count, err error) {
	var (
		values [4]string
		key    []byte
	)
	err = read(&values[0], &values[1], &values[2], &values[3], &key, &c.Keys, &c.Events, &c.Bytes, instant{&c.Oldest}, instant{&c.Newest})
	c.Group = map[deadletter.By]string{}
	for i, value := range append(values[:], string(key)) {
		if slices.Contains(by, groupings[i]) {
			c.Group[groupings[i]] = value
		}
	}
	return c, err
}

// Handlers implements deadletter.Store.
func (s *Store) Handlers(ctx context.Context, group string) (list []inbox.Handler, err error) {
	err = s.read(func(on session) (err error) {
		list, err = each(ctx, on, scanHandler, handlers, group)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the handlers that have parked events: %w", err)
	}
	return list, nil
}

func checkLimit(limit int) error {
	if limit < 1 || limit > deadletter.MaxPage {
		return fmt.Errorf("limit is %d; use 1 to %d, and ask for the rest after the last ID", limit, deadletter.MaxPage)
	}
	return nil
}
