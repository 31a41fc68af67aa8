package sqlstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/internal/parking"
)

// Discard implements deadletter.Store. The audit log keeps the letter, in the
// form of an export.
func (s *Store) Discard(ctx context.Context, id int64, act deadletter.Act) error {
	if strings.TrimSpace(act.Reason) == "" {
		return fmt.Errorf("discard letter %d: %w", id, errNoReason)
	}
	err := s.change(ctx, func(on session) error {
		p, err := on.held(ctx, id)
		if err != nil {
			return err
		}
		before, err := deadletter.MarshalLetter(p.Letter)
		if err != nil {
			return err
		}
		if err := on.settle(ctx, &p); err != nil {
			return fmt.Errorf("write its inbox row: %w", err)
		}
		if err := on.leave(ctx, &p); err != nil {
			return fmt.Errorf("take it out: %w", err)
		}
		e := entryOf(&p, deadletter.ActionDiscard, act)
		e.Before = before
		return on.audit(ctx, &e)
	})
	if err != nil {
		return fmt.Errorf("discard letter %d: %w", id, err)
	}
	return nil
}

var errNoReason = errors.New("no reason is given; say why, for the audit log")

// settle writes the inbox row of p's event, and what its key has seen with it.
func (s session) settle(ctx context.Context, p *parked) error {
	var key []byte
	if !p.keyless {
		key = p.rowKey
	}
	var (
		l      = &p.Letter
		source = parking.Name(l.Source)
		typ    = parking.Name(l.AggregateType)
		id     = parking.Name(l.AggregateID)
	)
	if !s.lockFile {
		_, err := one[bool](s.row(ctx, settle, l.EventID, milliseconds(l.EventID), p.handler, l.Place.Topic, key, l.Place.Partition, l.Place.Offset,
			l.Attempts, source, typ, id, l.Sequence).Scan)
		return err
	}
	if _, err := s.exec(ctx, settleEvent, l.EventID, p.handler, l.Place.Topic, l.Place.Partition, l.Place.Offset, l.Attempts); err != nil || key == nil {
		return err
	}
	if _, err := s.exec(ctx, settleKey, p.handler, l.Place.Topic, key, l.Place.Partition, l.Place.Offset, source, typ, id, l.Sequence); err != nil || l.Sequence == 0 {
		return err
	}
	_, err := s.exec(ctx, settleStream, p.handler, l.Place.Topic, key, source, typ, id, l.Sequence)
	return err
}

// leave takes a letter out; the next one becomes its key's first.
func (s session) leave(ctx context.Context, p *parked) error {
	if _, err := s.exec(ctx, removeLetter, p.ID); err != nil {
		return err
	}
	left, err := s.exec(ctx, nextHead, p.key, 1, p.bytes)
	if err == nil && left == 0 {
		_, err = s.exec(ctx, removeKey, p.key)
	}
	if err == nil && !p.keyless {
		_, err = s.exec(ctx, countKey, p.handler, p.Place.Topic, p.rowKey, -1)
	}
	return err
}

// milliseconds is the time in a UUIDv7 (RFC 9562, 5.7), or nil for other IDs.
func milliseconds(id uuid.UUID) any {
	if id.Version() != 7 || id.Variant() != uuid.RFC4122 {
		return nil
	}
	return int64(binary.BigEndian.Uint64(id[:8]) >> 16)
}
