package sqlstore

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/internal/parking"
)

// Edit implements deadletter.Store.
func (s *Store) Edit(ctx context.Context, id int64, to deadletter.Edited, act deadletter.Act) error {
	err := s.change(ctx, func(on session) error {
		p, err := on.held(ctx, id)
		if err != nil {
			return err
		}
		// Without this lock a member might claim the key, and read the old value.
		k, err := on.lockParked(ctx, p.key)
		if err != nil {
			return err
		}
		if k.member != "" {
			return fmt.Errorf("its key %d %w by member %q; ask again when that is over", p.key, deadletter.ErrBusy, k.member)
		}
		if act.Request != 0 {
			if n, err := on.exec(ctx, endRequest, act.Request, deadletter.Done, ""); err != nil || n == 0 {
				return orNotFound(err, "request %d is not open", act.Request)
			}
		}
		edited := p.Record
		edited.Value = to.Value
		size := p.bytes - parking.Size(p.Record) + parking.Size(edited)
		if _, err := on.exec(ctx, editLetter, id, to.Value, size, json.RawMessage(parking.Original(p.Record))); err != nil {
			return err
		}
		if _, err := on.exec(ctx, resizeKey, p.key, size-p.bytes); err != nil {
			return err
		}
		e := entryOf(&p, deadletter.ActionEdit, act)
		if e.Before, err = deadletter.MarshalBytes("value", p.Record.Value); err != nil {
			return err
		}
		if e.After, err = deadletter.MarshalBytes("value", to.Value); err != nil {
			return err
		}
		return on.audit(ctx, &e)
	})
	if err != nil {
		return fmt.Errorf("edit letter %d: %w", id, err)
	}
	return nil
}

// orNotFound is err, or else an error that wraps ErrNotFound.
func orNotFound(err error, format string, args ...any) error {
	if err != nil {
		return err
	}
	return fmt.Errorf(format+": %w", append(args, deadletter.ErrNotFound)...)
}
