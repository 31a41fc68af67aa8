package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/internal/parking"
)

// parked is a letter with what else its rows say.
type parked struct {
	deadletter.Letter

	handler int32
	bytes   int64

	key     int64 // the parked key
	keyless bool
	rowKey  []byte // as the key row has it; of an event without a key: its ID
}

// Letters implements deadletter.Store.
func (s *Store) Letters(ctx context.Context, key, after int64, limit int) (list []deadletter.Letter, err error) {
	if err := checkLimit(limit); err != nil {
		return nil, fmt.Errorf("list the letters of key %d: %w", key, err)
	}
	err = s.read(func(on session) error {
		rows, err := each(ctx, on, scanLetter, letters, key, after, limit)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			if there, err := one[bool](on.row(ctx, hasKey, key).Scan); err != nil || !there {
				return errors.Join(err, deadletter.ErrNotFound)
			}
		}
		for i := range rows {
			list = append(list, rows[i].Letter)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the letters of key %d: %w", key, err)
	}
	return list, nil
}

// Letter implements deadletter.Store.
func (s *Store) Letter(ctx context.Context, id int64) (l deadletter.Letter, err error) {
	err = s.read(func(on session) error {
		p, err := on.letter(ctx, id)
		l = p.Letter
		return err
	})
	if err != nil {
		return l, fmt.Errorf("read letter %d: %w", id, err)
	}
	return l, nil
}

// letter wraps ErrNotFound.
func (s session) letter(ctx context.Context, id int64) (parked, error) {
	p, err := scanLetter(s.row(ctx, letter, id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return p, fmt.Errorf("%w: it was applied or discarded, or was never there", deadletter.ErrNotFound)
	}
	return p, err
}

// held returns a letter under the lock of its key. It wraps ErrNotFound.
func (s session) held(ctx context.Context, id int64) (parked, error) {
	p, err := s.letter(ctx, id)
	if err != nil {
		return p, err
	}
	if err := s.lock(ctx, p.handler, &p.Letter, p.keyless, p.rowKey); err != nil {
		return p, err
	}
	return s.letter(ctx, id) // as it is now
}

// lock takes the lock that an admission of l takes.
func (s session) lock(ctx context.Context, handler int32, l *deadletter.Letter, keyless bool, rowKey []byte) (err error) {
	switch {
	case s.lockFile: // the file is locked already
	case keyless:
		class, number := parking.EventLock(handler, l.EventID)
		_, err = s.exec(ctx, lockEvent, class, number)
	default:
		_, err = s.exec(ctx, lockKey, handler, l.Place.Topic, rowKey)
	}
	if err != nil {
		return fmt.Errorf("lock the key: %w", err)
	}
	return nil
}

func scanLetter(read scan) (p parked, err error) {
	var (
		l                 = &p.Letter
		headers, original json.RawMessage
		noKey, noValue    bool
	)
	err = read(&l.ID, &l.Handler.Group, &l.Handler.Name, &l.Handler.Epoch, &l.Place.Topic, &l.Place.Key, &l.Place.Partition, &l.Place.Offset,
		&l.EventID, &l.Type, &l.Source, &l.AggregateType, &l.AggregateID, &l.Sequence,
		&l.Record.Key, &noKey, &l.Record.Value, &noValue, document{&headers}, document{&original}, instant{&l.Time},
		&l.Cause, &l.Error, &l.Stack, &l.Attempts, instant{&l.First}, instant{&l.Last}, instant{&l.Due}, instant{&l.Parked},
		&p.handler, &p.bytes, &p.key, &p.keyless, &p.rowKey)
	if err != nil {
		return p, err
	}
	l.Record.Key, l.Record.Value = orEmpty(l.Record.Key, noKey), orEmpty(l.Record.Value, noValue)
	if l.Record.Headers, err = parking.ParseHeaders(string(headers)); err != nil {
		return p, fmt.Errorf("letter %d: %w", l.ID, err)
	}
	if original != nil {
		var r event.KafkaRecord
		if r, err = parking.ParseOriginal(string(original)); err != nil {
			return p, fmt.Errorf("letter %d: %w", l.ID, err)
		}
		r.Key = l.Record.Key
		l.Original = &r
	}
	return p, nil
}
