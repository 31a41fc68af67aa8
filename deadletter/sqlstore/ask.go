package sqlstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/internal/parking"
)

// selectedAtOnce is how many keys one transaction gives to a request.
const selectedAtOnce = 1000

// Ask implements deadletter.Store. The keys of a small request are selected
// when it returns; Advance goes on with others.
func (s *Store) Ask(ctx context.Context, r deadletter.Request, act deadletter.Act) (asked deadletter.Request, err error) {
	fail := func(err error) (deadletter.Request, error) {
		return deadletter.Request{}, fmt.Errorf("ask for %s of group %q: %w", describe(&r), r.Group, err)
	}
	if err := checkRequest(&r, act); err != nil {
		return fail(err)
	}
	var id int64
	err = s.change(ctx, func(on session) (err error) {
		if r.Kind == deadletter.RequestEdit {
			id, err = on.askEdit(ctx, &r, act)
		} else {
			id, err = on.askRetry(ctx, &r, act)
		}
		return err
	})
	if err != nil {
		return fail(err)
	}
	if r.Kind == deadletter.RequestRetry {
		// What fails now is carried on by Advance: the request is there.
		for more := true; more; {
			if more, err = s.selectMore(ctx, id); err != nil {
				break
			}
		}
	}
	return s.Request(ctx, id)
}

func describe(r *deadletter.Request) string {
	if r.Kind == deadletter.RequestEdit {
		return fmt.Sprintf("an edit of letter %d", r.Letter)
	}
	return "a retry"
}

func checkRequest(r *deadletter.Request, act deadletter.Act) error {
	switch {
	case act.Who == "":
		return errNobody
	case r.Group == "":
		return errors.New("its Group is empty; name the group whose members carry it out")
	case r.Kind != deadletter.RequestRetry && r.Kind != deadletter.RequestEdit:
		return fmt.Errorf("its Kind is %q; use %q or %q", r.Kind, deadletter.RequestRetry, deadletter.RequestEdit)
	case r.Rate < 0 || math.IsNaN(r.Rate) || math.IsInf(r.Rate, 0):
		return fmt.Errorf("its Rate is %v; use events per second, or 0 for no bound", r.Rate)
	case r.Rate > 0 && r.Rate < leastRate:
		return fmt.Errorf("its Rate is %v events per second; use %v or more, or 0 for no bound", r.Rate, leastRate)
	case r.Kind == deadletter.RequestRetry && r.Filter.Group != "" && r.Filter.Group != r.Group:
		return fmt.Errorf("its Filter.Group is %q; leave it empty, or use the request's group", r.Filter.Group)
	}
	return nil
}

// leastRate is one event in about three hours.
const leastRate = 0.0001

func (s session) askEdit(ctx context.Context, r *deadletter.Request, act deadletter.Act) (id int64, err error) {
	p, err := s.letter(ctx, r.Letter)
	if err != nil {
		return 0, err
	}
	if p.Handler.Group != r.Group {
		return 0, fmt.Errorf("it is of group %q: %w in this one", p.Handler.Group, deadletter.ErrNotFound)
	}
	if id, err = s.insertRequest(ctx, r, act, "{}", 0); err != nil {
		return 0, err
	}
	e := entryOf(&p, r.Kind.Action(), act)
	e.Request = id
	if e.Before, err = deadletter.MarshalBytes("value", p.Record.Value); err != nil {
		return 0, err
	}
	if e.After, err = deadletter.MarshalBytes("value", r.Value); err != nil {
		return 0, err
	}
	return id, s.audit(ctx, &e)
}

func (s session) askRetry(ctx context.Context, r *deadletter.Request, act deadletter.Act) (id int64, err error) {
	r.Filter.Group = r.Group
	if err := s.known(ctx, r.Group, r.Filter.Handlers); err != nil {
		return 0, err
	}
	var all, others, other int64
	if err := s.row(ctx, selectable, filterArgs(&r.Filter)...).Scan(&all, &others, &other); err != nil {
		return 0, err
	}
	switch all {
	case 0:
		return 0, fmt.Errorf("a parked key that matches was %w; see what is parked by `tidings dlq list`", deadletter.ErrNotFound)
	case others:
		return 0, fmt.Errorf("all %d keys that match: each %w, by request %d at the earliest; wait for it, or end it", all, deadletter.ErrBusy, other)
	}
	filter, err := json.Marshal(r.Filter)
	if err != nil {
		return 0, err
	}
	if id, err = s.insertRequest(ctx, r, act, string(filter), others); err != nil {
		return 0, err
	}
	e := deadletter.Entry{Act: act, Action: r.Kind.Action(), Group: r.Group, Request: id}
	if e.After, err = json.Marshal(map[string]any{"filter": r.Filter, "rate": r.Rate, "keys": all - others, "busy": others}); err != nil {
		return 0, err
	}
	return id, s.audit(ctx, &e)
}

func (s session) insertRequest(ctx context.Context, r *deadletter.Request, act deadletter.Act, filter string, busy int64) (int64, error) {
	return one[int64](s.row(ctx, ask, r.Group, string(r.Kind), parking.Text(act.Who), parking.Text(act.Reason), filter, r.Rate, or0(r.Letter), r.Value, busy).Scan)
}

// selectMore gives a request some more of its keys. More: there are others.
func (s *Store) selectMore(ctx context.Context, id int64) (more bool, err error) {
	err = s.change(ctx, func(on session) error {
		r, selected, err := on.lockRequest(ctx, id)
		if err != nil || selected || r.State != deadletter.Open {
			return err
		}
		args := append(filterArgs(&r.Filter), id, r.Asked)
		n, err := on.exec(ctx, selectKeys, append(args, selectedAtOnce)...)
		if err != nil {
			return err
		}
		left, err := one[bool](on.row(ctx, leftKeys, args...).Scan)
		if err != nil {
			return err
		}
		more = left && n > 0 // else somebody changes those: another time
		_, err = on.exec(ctx, addSelected, id, n, !left)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("select the keys of request %d: %w", id, err)
	}
	return more, nil
}
