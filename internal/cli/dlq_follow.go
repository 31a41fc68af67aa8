package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

type handler = inbox.Handler

const (
	// followEvery is how often a request is looked at.
	followEvery = 200 * time.Millisecond
	// tellEvery is how often progress is told where lines are not rewritten.
	tellEvery = 5 * time.Second
)

// answerWithin is how long members have before somebody is told that none has
// answered. They look every second.
var answerWithin = 10 * time.Second

// requestJSON is a request in JSON.
type requestJSON struct {
	ID      int64             `json:"id"`
	Group   string            `json:"group"`
	Kind    deadletter.Kind   `json:"kind"`
	State   deadletter.State  `json:"state"`
	Asked   *time.Time        `json:"asked"`
	Ended   *time.Time        `json:"ended,omitempty"`
	Who     string            `json:"who"`
	Reason  string            `json:"reason,omitempty"`
	Error   string            `json:"error,omitempty"`
	Filter  deadletter.Filter `json:"filter"`
	Rate    float64           `json:"rate,omitempty"`
	Event   int64             `json:"event,omitempty"`
	Keys    int64             `json:"keys"`
	Done    int64             `json:"keys_done"`
	Stopped int64             `json:"keys_stopped"`
	Busy    int64             `json:"busy"`
	Applied int64             `json:"applied"`
	Failed  int64             `json:"failed"`
}

func requestAsJSON(q *deadletter.Request) *requestJSON {
	return &requestJSON{
		ID: q.ID, Group: q.Group, Kind: q.Kind, State: q.State, Asked: instant(q.Asked), Ended: instant(q.Ended), Who: q.Act.Who, Reason: q.Act.Reason, Error: q.Error,
		Filter: q.Filter, Rate: q.Rate, Event: q.Letter, Keys: q.Keys, Done: q.KeysDone, Stopped: q.KeysStopped, Busy: q.Busy, Applied: q.Applied, Failed: q.Failed,
	}
}

// progressText is how far a request is.
func progressText(q *deadletter.Request) string {
	if q.Kind == deadletter.RequestEdit {
		text := fmt.Sprintf("edit of event %d, %s", q.Letter, q.State)
		if q.Error != "" {
			text += ": " + oneLine(q.Error)
		}
		return text
	}
	text := fmt.Sprintf("%s: %d of %s drained", q.State, q.KeysDone, counted(q.Keys, "key"))
	if q.KeysStopped > 0 {
		text += fmt.Sprintf(", %d stopped at a failure", q.KeysStopped)
	}
	return text + fmt.Sprintf("; %s applied", counted(q.Applied, "event"))
}

// followed says that a retry was asked for, and follows it.
func (k *desk) followed(cmd *cobra.Command, q deadletter.Request, noWait, asJSON bool) error {
	out, errs := cmd.OutOrStdout(), cmd.ErrOrStderr()
	if noWait {
		if asJSON {
			return printJSON(out, requestAsJSON(&q))
		}
		sayf(out, "request %d: asked the members of group %s to retry %s; follow it by: tidings dlq requests follow %d%s\n",
			q.ID, k.group, counted(q.Keys, "key"), q.ID, k.flags)
		return nil
	}
	sayf(errs, "request %d: asked the members of group %s to retry %s\n", q.ID, k.group, counted(q.Keys, "key"))
	if q.Busy > 0 {
		sayf(errs, "%s left to other open requests: see 'tidings dlq requests%s'\n", counted(q.Busy, "more key"), k.flags)
	}
	return k.follow(cmd, q, asJSON)
}

// follow tells how far a retry is until it is done. When the context ends it says
// that the request goes on.
func (k *desk) follow(cmd *cobra.Command, q deadletter.Request, asJSON bool) error {
	ctx, out, errs := cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	told := teller{out: errs, rewrite: isTerminal(errs)}
	id, began, silent := q.ID, time.Now(), true
	for q.State == deadletter.Open {
		told.tell(fmt.Sprintf("request %d is %s", id, progressText(&q)))
		if silent && time.Since(began) > answerWithin {
			silent = false
			if taken, err := k.taken(ctx, &q); err == nil && !taken {
				told.end()
				sayf(errs, "no member of group %s has taken it up in %s: is one running, is the group paused, is an outage of what the handlers need over? The request stays.\n", k.group, answerWithin)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(followEvery):
		}
		now, err := k.Request(ctx, id)
		if ctx.Err() != nil {
			told.end()
			sayf(errs, "request %d goes on: follow it by 'tidings dlq requests follow %d%s', end it by 'tidings dlq requests end %d%s'\n", id, id, k.flags, id, k.flags)
			return &reportedError{context.Canceled}
		}
		if err != nil {
			told.end()
			return fmt.Errorf("following request %d, which goes on: %w", id, err)
		}
		q = now
	}
	told.end()
	return k.result(ctx, out, &q, asJSON)
}

// taken tells whether any member works on a request or has.
func (k *desk) taken(ctx context.Context, q *deadletter.Request) (bool, error) {
	if q.Progress != (deadletter.Progress{}) {
		return true, nil
	}
	keys, err := k.Keys(ctx, q.Filter, 0, deadletter.MaxPage)
	for i := range keys {
		if keys[i].Request == q.ID && keys[i].Member != "" {
			return true, nil
		}
	}
	return false, err
}

// result prints what a retry has come to, with the first keys that stopped.
func (k *desk) result(ctx context.Context, out io.Writer, q *deadletter.Request, asJSON bool) error {
	stopped := fmt.Errorf("request %d: %s stopped at a failure", q.ID, counted(q.KeysStopped, "key"))
	if asJSON {
		if err := printJSON(out, requestAsJSON(q)); err != nil {
			return err
		}
	} else {
		sayf(out, "request %d is %s\n", q.ID, progressText(q))
	}
	if q.KeysStopped == 0 {
		return nil
	}
	if asJSON {
		return &reportedError{stopped}
	}
	const most = 5
	f := q.Filter
	f.Group, f.Types, f.Causes, f.From, f.Until = k.group, nil, nil, time.Time{}, time.Time{} // another event may be the first by now
	keys, err := k.Keys(ctx, f, 0, deadletter.MaxPage)
	if err != nil {
		return err
	}
	var shown int64
	for i := range keys {
		p := &keys[i]
		if p.Since.After(q.Asked) || p.Request != 0 || p.Tries == 0 || shown == most {
			continue
		}
		shown++
		sayf(out, "  %s, handler %s, event %d: %s: %s\n", keyText(p.Key), p.Handler.Name, p.Head, p.Cause, ellipsis(oneLine(p.Error), 100))
	}
	if q.KeysStopped > shown {
		sayf(out, "  and more: see 'tidings dlq list --by key%s'\n", k.flags)
	}
	return stopped
}

// teller tells how far something is: on one line of a terminal, else from time
// to time.
type teller struct {
	out     io.Writer
	rewrite bool

	last string
	at   time.Time
}

func (t *teller) tell(text string) {
	switch {
	case text == t.last:
	case t.rewrite:
		sayf(t.out, "\r\x1b[K%s", text)
		t.last = text
	case time.Since(t.at) >= tellEvery:
		if !t.at.IsZero() {
			sayf(t.out, "%s\n", text)
		}
		t.last, t.at = text, time.Now()
	}
}

// end leaves the line.
func (t *teller) end() {
	if t.rewrite && t.last != "" {
		sayf(t.out, "\r\x1b[K")
		t.last = ""
	}
}
