package deadletter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tidings-bus/tidings/handlers/inbox"
)

// Schedule retries parked keys by itself, by a request that it records. Whatever
// the number of members, about one is recorded in Every.
type Schedule struct {
	// Every is the time between requests. Zero: none are made.
	Every time.Duration
	// Causes are those of the heads that are retried. Empty: error, timeout and panic.
	Causes []inbox.Cause
	// Attempts bounds it: a head that was tried so often in all, the tries
	// before it was parked included, waits for somebody. Zero: 20.
	Attempts int
	// Rate bounds the events retried per second, over all members. Zero: 10.
	Rate float64
}

const (
	defaultScheduleAttempts = 20
	defaultScheduleRate     = 10
	minEvery                = time.Second
	// scheduled is who asks in the audit log.
	scheduled = "schedule"
	// scheduledKeys is how many keys one request of the schedule retries at most.
	scheduledKeys = 1000
)

func (s Schedule) withDefaults() Schedule {
	if len(s.Causes) == 0 {
		s.Causes = []inbox.Cause{inbox.CauseError, inbox.CauseTimeout, inbox.CausePanic}
	}
	setZero(&s.Attempts, defaultScheduleAttempts)
	setZero(&s.Rate, defaultScheduleRate)
	return s
}

func (s Schedule) validate() error {
	known := []inbox.Cause{
		inbox.CauseError, inbox.CauseTimeout, inbox.CausePanic, inbox.CauseRejected, inbox.CauseLater, inbox.CauseDeadline,
		inbox.CauseLate, inbox.CauseUndecodable, inbox.CauseUnknownType, inbox.CauseBehind,
	}
	for _, c := range s.Causes {
		if !slices.Contains(known, c) {
			return fmt.Errorf("deadletter: Schedule.Causes has %q: use causes of package inbox, such as %q", c, inbox.CauseTimeout)
		}
	}
	switch {
	case s.Every < 0 || s.Every > 0 && s.Every < minEvery:
		return fmt.Errorf("deadletter: Schedule.Every is %v: use %v or more, or 0 for no schedule", s.Every, minEvery)
	case s.Attempts < 1:
		return fmt.Errorf("deadletter: Schedule.Attempts is %d: use 1 or more, or 0 for %d", s.Attempts, defaultScheduleAttempts)
	case s.Rate < 0:
		return fmt.Errorf("deadletter: Schedule.Rate is %v: use events per second, or 0 for %d", s.Rate, defaultScheduleRate)
	}
	return nil
}

func (r *Runner) schedule(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(around(r.config.Schedule.Every)): // members drift apart: two rarely ask at once
		}
		if err := r.askAgain(ctx); ctx.Err() == nil {
			r.failed(err)
		}
	}
}

// hasAll tells whether this member has all handlers named.
func (r *Runner) hasAll(names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(r.names, name) })
}

// askAgain records a request for the heads that the schedule wants, unless
// another member has done so.
func (r *Runner) askAgain(ctx context.Context) error {
	c, s := &r.config, &r.config.Schedule
	recent, err := c.Store.Requests(ctx, c.Group, false, openRequests)
	if err != nil {
		return fmt.Errorf("read the requests: %w", err)
	}
	now := time.Now()
	for _, q := range recent {
		if q.Act.Who != scheduled {
			continue
		}
		if q.State == Open && !r.hasAll(q.Filter.Handlers) { // nobody would carry it out to its end
			if err := c.Store.End(ctx, q.ID, Act{Who: scheduled, Reason: "it names a handler that is no longer in the group"}); err != nil && !errors.Is(err, ErrNotFound) {
				return fmt.Errorf("end request %d of the schedule: %w", q.ID, err)
			}
			continue
		}
		if q.State == Open || now.Sub(q.Asked) < s.Every/2 {
			return nil
		}
	}
	f := Filter{Group: c.Group, Handlers: r.names, Causes: s.Causes}
	ids, err := r.wanted(ctx, f)
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		return nil
	}
	f.IDs = ids
	_, err = c.Store.Ask(ctx, Request{Group: c.Group, Kind: RequestRetry, Filter: f, Rate: s.Rate},
		Act{Who: scheduled, Reason: fmt.Sprintf("every %v, up to %d attempts", s.Every, s.Attempts)})
	if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrBusy) { // those: somebody was quicker
		return fmt.Errorf("record a request: %w", err)
	}
	return nil
}

// wanted lists the parked keys of f that the schedule retries now.
func (r *Runner) wanted(ctx context.Context, f Filter) (ids []int64, err error) {
	for after := int64(0); len(ids) < scheduledKeys; {
		keys, err := r.config.Store.Keys(ctx, f, after, scheduledKeys)
		if err != nil {
			return nil, fmt.Errorf("list parked keys: %w", err)
		}
		if len(keys) == 0 {
			break
		}
		for _, k := range keys {
			after = k.ID
			if k.Tries < r.config.Schedule.Attempts && k.Request == 0 && k.Member == "" && k.Due.IsZero() && len(ids) < scheduledKeys {
				ids = append(ids, k.ID)
			}
		}
	}
	return ids, nil
}
