package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/internal/parking"
)

// Request implements deadletter.Store.
func (s *Store) Request(ctx context.Context, id int64) (r deadletter.Request, err error) {
	err = s.read(func(on session) (err error) {
		r, _, err = on.request(ctx, request, id)
		return err
	})
	if err != nil {
		return r, fmt.Errorf("read request %d: %w", id, err)
	}
	return r, nil
}

// Requests implements deadletter.Store.
func (s *Store) Requests(ctx context.Context, group string, open bool, limit int) (list []deadletter.Request, err error) {
	if err = checkLimit(limit); err == nil {
		err = s.read(func(on session) (err error) {
			list, err = each(ctx, on, func(read scan) (deadletter.Request, error) {
				r, _, err := scanRequest(read)
				return r, err
			}, requests, group, open, limit)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("list the requests of group %q: %w", group, err)
	}
	return list, nil
}

// lockRequest returns it under its lock, which comes before that of parked keys.
func (s session) lockRequest(ctx context.Context, id int64) (r deadletter.Request, selected bool, err error) {
	return s.request(ctx, lockRequest, id)
}

func (s session) request(ctx context.Context, name statement, id int64) (r deadletter.Request, selected bool, err error) {
	r, selected, err = scanRequest(s.row(ctx, name, id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		err = deadletter.ErrNotFound
	}
	return r, selected, err
}

func scanRequest(read scan) (r deadletter.Request, selected bool, err error) {
	var (
		filter  json.RawMessage
		noValue bool
	)
	err = read(&r.ID, &r.Group, &r.Kind, &r.State, instant{&r.Asked}, instant{&r.Ended}, &r.Act.Who, &r.Act.Reason, &r.Error, document{&filter}, &r.Rate,
		&r.Letter, &r.Value, &noValue, &selected, &r.Keys, &r.Busy, &r.KeysDone, &r.KeysStopped, &r.Applied, &r.Failed)
	r.Value = orEmpty(r.Value, noValue)
	if err == nil {
		err = json.Unmarshal(filter, &r.Filter)
	}
	return r, selected, err
}

// End implements deadletter.Store.
func (s *Store) End(ctx context.Context, id int64, act deadletter.Act) error {
	err := s.change(ctx, func(on session) error {
		r, _, err := on.lockRequest(ctx, id)
		if err != nil {
			return err
		}
		if err := on.finish(ctx, id, deadletter.Ended, ""); err != nil {
			return err
		}
		if _, err := on.exec(ctx, freeKeys, id); err != nil {
			return err
		}
		e := deadletter.Entry{Act: act, Action: deadletter.ActionEnd, Group: r.Group, Letter: r.Letter, Request: id}
		e.Before = json.RawMessage(`{"state":"open"}`)
		if e.After, err = json.Marshal(map[string]any{"state": deadletter.Ended, "keys_done": r.KeysDone, "keys_stopped": r.KeysStopped, "applied": r.Applied}); err != nil {
			return err
		}
		return on.audit(ctx, &e)
	})
	if err != nil {
		return fmt.Errorf("end request %d: %w", id, err)
	}
	return nil
}

// Settle implements deadletter.Worker.
func (s *Store) Settle(ctx context.Context, id int64, state deadletter.State, why string) error {
	err := s.change(ctx, func(on session) error {
		r, _, err := on.lockRequest(ctx, id)
		if err != nil {
			return err
		}
		if r.Kind != deadletter.RequestEdit || state != deadletter.Done && state != deadletter.Refused {
			return fmt.Errorf("it is a %s, and the state is %q; only requests of kind %q are settled, as %q or %q", r.Kind, state, deadletter.RequestEdit, deadletter.Done, deadletter.Refused)
		}
		if err := on.finish(ctx, id, state, parking.Text(why)); err != nil || state == deadletter.Done {
			return err
		}
		e := deadletter.Entry{Act: r.Act, Action: deadletter.ActionRefuse, Group: r.Group, Letter: r.Letter, Request: id}
		if e.After, err = json.Marshal(map[string]any{"state": state, "error": parking.Text(why)}); err != nil {
			return err
		}
		return on.audit(ctx, &e)
	})
	if err != nil {
		return fmt.Errorf("settle request %d: %w", id, err)
	}
	return nil
}

// finish wraps ErrNotFound when the request is not open.
func (s session) finish(ctx context.Context, id int64, state deadletter.State, why string) error {
	n, err := s.exec(ctx, endRequest, id, string(state), why)
	if err != nil || n == 0 {
		return orNotFound(err, "an open one")
	}
	return nil
}
