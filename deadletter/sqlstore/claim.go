package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tidings-bus/tidings/deadletter"
)

// Claim implements deadletter.Worker.
func (s *Store) Claim(ctx context.Context, group string, handlers []string, member string, lease time.Duration, limit int) (list []deadletter.Key, err error) {
	err = checkLimit(limit)
	switch {
	case err != nil:
	case member == "":
		err = errors.New("the member is not named")
	case lease < time.Millisecond:
		err = fmt.Errorf("the lease is %v; use a millisecond or more", lease)
	case len(handlers) == 0:
		return nil, nil
	default:
		err = s.change(ctx, func(on session) (err error) {
			list, err = on.claim(ctx, group, handlers, member, lease, limit)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("claim parked keys of group %q: %w", group, err)
	}
	return list, nil
}

func (s session) claim(ctx context.Context, group string, handlers []string, member string, lease time.Duration, limit int) ([]deadletter.Key, error) {
	var ids []int64
	for _, name := range []statement{claimRequested, claimDue} {
		if len(ids) >= limit {
			break
		}
		more, err := each(ctx, s, one[int64], name, group, array(handlers), member, lease.Milliseconds(), limit-len(ids))
		if err != nil {
			return nil, err
		}
		ids = append(ids, more...)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	list, err := s.keys(ctx, deadletter.Filter{IDs: ids}, 0, len(ids))
	slices.SortStableFunc(list, func(a, b deadletter.Key) int {
		switch {
		case a.Request != 0 && b.Request != 0:
			return int(a.Request - b.Request)
		case a.Request != 0:
			return -1
		case b.Request != 0:
			return 1
		}
		return a.Due.Compare(b.Due)
	})
	return list, err
}

// Renew implements deadletter.Worker.
func (s *Store) Renew(ctx context.Context, member string, ids []int64, lease time.Duration) (kept []int64, err error) {
	err = s.read(func(on session) error {
		// One by one: a statement that waits for one key while it has another
		// could wait for somebody who waits for that.
		for _, id := range ids {
			var n int64
			err := on.patiently(ctx, func() (err error) {
				n, err = on.exec(ctx, renew, id, member, lease.Milliseconds())
				return err
			})
			if err != nil {
				return err
			}
			if n > 0 {
				kept = append(kept, id)
			}
		}
		return nil
	})
	if err != nil {
		return kept, fmt.Errorf("renew claims of member %q: %w", member, err)
	}
	return kept, nil
}

// Release implements deadletter.Worker.
func (s *Store) Release(ctx context.Context, member string, key deadletter.Key, done bool, p deadletter.Progress) error {
	err := s.change(ctx, func(on session) error {
		if key.Request != 0 { // locked before the key, as by all who need both
			if _, err := on.exec(ctx, progress, key.Request, p.KeysDone, p.KeysStopped, p.Applied, p.Failed); err != nil {
				return err
			}
		}
		n, err := on.exec(ctx, release, key.ID, member, done, key.Request)
		if err != nil || n > 0 {
			return err
		}
		there, err := one[bool](on.row(ctx, hasKey, key.ID).Scan)
		if err == nil && there {
			err = fmt.Errorf("it is another member's by now, or nobody's: the claim is %w", deadletter.ErrNotFound)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("release key %d: %w", key.ID, err)
	}
	return nil
}

// Advance implements deadletter.Worker.
func (s *Store) Advance(ctx context.Context, group string) error {
	type retry struct {
		id              int64
		selected, empty bool
	}
	var list []retry
	err := s.read(func(on session) (err error) {
		list, err = each(ctx, on, func(read scan) (r retry, err error) {
			err = read(&r.id, &r.selected, &r.empty)
			return r, err
		}, openRetries, group)
		return err
	})
	for i := 0; i < len(list) && err == nil; i++ {
		switch r := list[i]; {
		case !r.selected:
			for more := true; more && err == nil; {
				more, err = s.selectMore(ctx, r.id)
			}
		case r.empty:
			err = s.finishRetry(ctx, r.id)
		}
	}
	if err != nil {
		return fmt.Errorf("carry on the requests of group %q: %w", group, err)
	}
	return nil
}

func (s *Store) finishRetry(ctx context.Context, id int64) error {
	return s.change(ctx, func(on session) error {
		if _, _, err := on.lockRequest(ctx, id); err != nil {
			return err
		}
		_, err := on.exec(ctx, finishRequest, id)
		return err
	})
}

// Permit implements deadletter.Worker.
func (s *Store) Permit(ctx context.Context, id int64) (wait time.Duration, err error) {
	err = s.read(func(on session) error {
		perSecond, err := one[float64](on.row(ctx, rate, id).Scan)
		if err != nil || perSecond == 0 {
			return open(err)
		}
		return on.patiently(ctx, func() error {
			step := int64(float64(time.Second/time.Microsecond) / perSecond)
			micros, err := one[int64](on.row(ctx, statement("permit_"+on.name), id, step).Scan)
			wait = max(0, time.Duration(micros)*time.Microsecond)
			return open(err)
		})
	})
	if err != nil {
		return 0, fmt.Errorf("take a turn of request %d: %w", id, err)
	}
	return wait, nil
}

// open wraps ErrNotFound when there is no open request.
func open(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("an open one: %w", deadletter.ErrNotFound)
	}
	return err
}
