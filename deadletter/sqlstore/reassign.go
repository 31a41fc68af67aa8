package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// movedAtOnce is how many keys one transaction moves.
const movedAtOnce = 50

// parkedKey is a row of parked_key, as far as it is moved.
type parkedKey struct {
	id      int64
	topic   string
	keyless bool
	key     []byte
	raw     []byte
	letters int64
	bytes   int64
	request int64
	member  string // that has it claimed
}

// Reassign implements deadletter.Store.
func (s *Store) Reassign(ctx context.Context, from, to inbox.Handler, act deadletter.Act) (moved int64, err error) {
	fail := func(err error) (int64, error) {
		return moved, fmt.Errorf("hand the parked events of handler %q (epoch %d) of group %q to %q (epoch %d): %w", from.Name, from.Epoch, from.Group, to.Name, to.Epoch, err)
	}
	switch {
	case from.Group != to.Group:
		return fail(fmt.Errorf("that one is of group %q; only a handler of the same group gets the events of its topics", to.Group))
	case from == to:
		return fail(errors.New("they are the same; name another handler"))
	}
	var ids [2]int32
	err = s.read(func(on session) (err error) {
		for i, h := range []inbox.Handler{from, to} {
			if ids[i], err = on.handler(ctx, h); err != nil {
				return err
			}
		}
		var key, request int64
		if err = on.row(ctx, busyKey, ids[0]).Scan(&key, &request); err == nil {
			return busy(key, request)
		}
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		return fail(err)
	}
	for {
		var keys, letters int64
		err := s.change(ctx, func(on session) (err error) {
			keys, letters, err = on.reassign(ctx, from, to, ids, act)
			return err
		})
		if err != nil {
			return fail(err)
		}
		moved += letters
		if keys < movedAtOnce {
			return moved, nil
		}
	}
}

// busy names what retries a key.
func busy(key, request int64) error {
	if request == 0 {
		return fmt.Errorf("key %d %w by a member; ask again when that is over", key, deadletter.ErrBusy)
	}
	return fmt.Errorf("key %d %w by request %d; wait for it, or end it", key, deadletter.ErrBusy, request)
}

// reassign moves some keys in the caller's transaction.
func (s session) reassign(ctx context.Context, from, to inbox.Handler, ids [2]int32, act deadletter.Act) (keys, moved int64, err error) {
	list, err := each(ctx, s, scanParkedKey, moveKeys, ids[0], movedAtOnce)
	if err != nil {
		return 0, 0, err
	}
	for i := range list {
		n, err := s.reassignKey(ctx, &list[i], from, to, ids, act)
		if err != nil {
			return 0, 0, err
		}
		moved += n
	}
	return int64(len(list)), moved, nil
}

func scanParkedKey(read scan) (k parkedKey, err error) {
	err = read(&k.id, &k.topic, &k.keyless, &k.key, &k.raw)
	return k, err
}

func (s session) reassignKey(ctx context.Context, k *parkedKey, from, to inbox.Handler, ids [2]int32, act deadletter.Act) (int64, error) {
	if err := s.lockBoth(ctx, k, ids); err != nil {
		return 0, err
	}
	now, err := s.lockParked(ctx, k.id)
	switch {
	case errors.Is(err, deadletter.ErrNotFound):
		return 0, nil // drained meanwhile
	case err != nil:
		return 0, err
	case now.request != 0 || now.member != "":
		return 0, busy(k.id, now.request)
	}
	var letters, bytes int64
	if err := s.row(ctx, movedSize, k.id, ids[1]).Scan(&letters, &bytes); err != nil {
		return 0, err
	}
	if letters > 0 {
		target, err := one[int64](s.row(ctx, addKey, ids[1], k.topic, k.keyless, k.key, k.raw, letters, bytes).Scan)
		if err != nil {
			return 0, err
		}
		if _, err := s.exec(ctx, moveLetters, k.id, target, ids[1]); err != nil {
			return 0, err
		}
		if _, err := s.exec(ctx, nextHead, target, 0, 0); err != nil {
			return 0, err
		}
	}
	if _, err := s.exec(ctx, removeLetters, k.id); err != nil {
		return 0, err
	}
	if _, err := s.exec(ctx, removeKey, k.id); err != nil {
		return 0, err
	}
	if !k.keyless {
		if _, err := s.exec(ctx, countKey, ids[0], k.topic, k.key, -now.letters); err != nil {
			return 0, err
		}
		if _, err := s.exec(ctx, countKey, ids[1], k.topic, k.key, letters); err != nil {
			return 0, err
		}
	}
	e := deadletter.Entry{Act: act, Action: deadletter.ActionReassign, Group: from.Group, Handler: from.Name, Key: k.raw}
	e.Before, _ = json.Marshal(map[string]any{"handler": from.Name, "epoch": from.Epoch, "topic": k.topic, "letters": now.letters}) //nolint:errchkjson // strings and numbers
	e.After, _ = json.Marshal(map[string]any{"handler": to.Name, "epoch": to.Epoch, "topic": k.topic, "letters": letters})          //nolint:errchkjson // strings and numbers
	return letters, s.audit(ctx, &e)
}

// lockBoth locks the key of both handlers, always in the order of their IDs.
func (s session) lockBoth(ctx context.Context, k *parkedKey, ids [2]int32) error {
	var l deadletter.Letter
	l.Place.Topic = k.topic
	if k.keyless {
		copy(l.EventID[:], k.key)
	}
	for _, id := range []int32{min(ids[0], ids[1]), max(ids[0], ids[1])} {
		if err := s.lock(ctx, id, &l, k.keyless, k.key); err != nil {
			return err
		}
	}
	return nil
}

// lockParked locks a parked key as Claim does: nobody claims it meanwhile.
func (s session) lockParked(ctx context.Context, key int64) (k parkedKey, err error) {
	k.id = key
	err = s.row(ctx, lockParked, key).Scan(&k.letters, &k.bytes, &k.request, &k.member)
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("key %d: %w", key, deadletter.ErrNotFound)
	}
	return k, err
}
