package sqlstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/internal/parking"
)

// Audit implements deadletter.Store.
func (s *Store) Audit(ctx context.Context, group string, before int64, limit int) (list []deadletter.Entry, err error) {
	if err = checkLimit(limit); err == nil {
		err = s.read(func(on session) (err error) {
			list, err = each(ctx, on, scanEntry, audited, group, before, limit)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	return list, nil
}

func scanEntry(read scan) (e deadletter.Entry, err error) {
	err = read(&e.ID, instant{&e.At}, &e.Act.Who, &e.Act.Reason, &e.Action, &e.Group, &e.Handler, &e.Key, &e.Letter, &e.EventID, &e.Request,
		document{&e.Before}, document{&e.After})
	e.Act.Request = e.Request
	return e, err
}

// audit writes a line, in the transaction of what it tells.
func (s session) audit(ctx context.Context, e *deadletter.Entry) error {
	_, err := s.exec(ctx, auditLine, parking.Text(e.Act.Who), parking.Text(e.Act.Reason), e.Action, e.Group, e.Handler, e.Key,
		or0(e.Letter), e.EventID, or0(e.Request), e.Before, e.After)
	if err != nil {
		return fmt.Errorf("write the audit log: %w", err)
	}
	return nil
}

// entryOf is a line about one letter.
func entryOf(p *parked, action string, act deadletter.Act) deadletter.Entry {
	return deadletter.Entry{
		Act: act, Action: action, Group: p.Handler.Group, Handler: p.Handler.Name,
		Key: p.Place.Key, Letter: p.ID, EventID: p.EventID.String(), Request: act.Request,
	}
}

var errNobody = errors.New("nobody is named; say who asks, for the audit log")
