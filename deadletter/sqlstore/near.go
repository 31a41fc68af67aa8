package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/internal/near"
)

// Known lists the handlers that the database has ever seen, of a group or, if it
// is empty, of all: also those that have nothing parked.
func (s *Store) Known(ctx context.Context, group string) (list []inbox.Handler, err error) {
	err = s.read(func(on session) (err error) {
		list, err = each(ctx, on, scanHandler, known, group)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the handlers of the database: %w", err)
	}
	return list, nil
}

func scanHandler(read scan) (h inbox.Handler, err error) {
	err = read(&h.Group, &h.Name, &h.Epoch)
	return h, err
}

// handler returns a handler's ID. It wraps ErrNotFound, and names near ones.
func (s session) handler(ctx context.Context, h inbox.Handler) (int32, error) {
	id, err := one[int32](s.row(ctx, handlerID, h.Group, h.Name, h.Epoch).Scan)
	if !errors.Is(err, sql.ErrNoRows) {
		return id, err
	}
	if err := s.known(ctx, h.Group, []string{h.Name}); err != nil {
		return 0, err
	}
	return 0, fmt.Errorf("handler %q of group %q has no epoch %d: %w", h.Name, h.Group, h.Epoch, deadletter.ErrNotFound)
}

// known wraps ErrNotFound for a group without handlers, and for a name that is
// none of its handlers'.
func (s session) known(ctx context.Context, group string, handlers []string) error {
	have, err := each(ctx, s, one[string], names, group)
	if err != nil {
		return err
	}
	if len(have) == 0 {
		others, err := each(ctx, s, one[string], groups)
		if err != nil {
			return err
		}
		return fmt.Errorf("group %q %w in this database%s", group, deadletter.ErrNotFound, near.Suggest(group, others))
	}
	for _, name := range handlers {
		if !slices.Contains(have, name) {
			return fmt.Errorf("handler %q of group %q %w%s", name, group, deadletter.ErrNotFound, near.Suggest(name, have))
		}
	}
	return nil
}
