package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidings-bus/tidings/deadletter"
)

// dlqRetry asks the members of the group to retry parked keys.
type dlqRetry struct {
	selection
	actor

	all    bool
	rate   float64
	dryRun bool
	noWait bool
	json   bool
}

func (d *dlq) retryCommand() *cobra.Command {
	r := &dlqRetry{}
	cmd := &cobra.Command{
		Use:   "retry",
		Short: "Retry parked keys, each from its first event, in order",
		Long: `Asks the members of the group to retry the parked keys that the flags select; --all
selects everything. Each key is retried from its first event, in order, and stops
at its first failure; new events of it wait behind until it is drained. Events are
applied with the inbox as always: each effect happens once.

The command follows until the request is done, and exits 1 when keys have stopped at
failures. Ctrl-C stops following; the request goes on. Keys that are part of another
open request are left to it.

--dry-run prints what would be retried, and asks for nothing.`,
		Example: `  tidings dlq retry --key o-17 --sqlite ./orders.db
  tidings dlq retry --handler charge --cause error --newer 2h --rate 20 --sqlite ./orders.db
  tidings dlq retry --all --dry-run --sqlite ./orders.db`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error { return r.run(cmd, d) },
	}
	r.selection.register(cmd)
	r.actor.register(cmd, "why, for the audit log")
	f := cmd.Flags()
	f.BoolVar(&r.all, "all", false, "retry everything that is parked in the group")
	f.Float64Var(&r.rate, "rate", 0, "events per second at most, over all members (0: no bound)")
	f.BoolVar(&r.dryRun, "dry-run", false, "only print what would be retried")
	f.BoolVar(&r.noWait, "no-wait", false, "do not follow: print the request's number and end")
	f.BoolVar(&r.json, "json", false, "print the request in JSON at its end")
	return cmd
}

func (r *dlqRetry) run(cmd *cobra.Command, d *dlq) error {
	switch {
	case r.empty() && !r.all:
		return usageError{errors.New("which keys? say --key, --handler, --cause, --type, --topic, --older or --newer, or --all for everything")}
	case !r.empty() && r.all:
		return usageError{errors.New("--all is everything: leave it out, or the flags that select")}
	case r.rate < 0:
		return usageError{fmt.Errorf("--rate %v: use events per second, or 0 for no bound", r.rate)}
	case r.dryRun && r.noWait:
		return usageError{errors.New("--dry-run asks for nothing, so that there is nothing to wait for: leave --no-wait out")}
	}
	f, err := r.filter(cmd, time.Now())
	if err != nil {
		return err
	}
	k, err := d.open(cmd)
	if err != nil {
		return err
	}
	defer k.close()
	ctx := cmd.Context()
	if err := k.known(f); err != nil {
		return err
	}
	if err := k.parked(ctx, f.Keys); err != nil {
		return err
	}
	f.Group = k.group
	if r.dryRun {
		return r.preview(ctx, cmd.OutOrStdout(), k, f)
	}
	q, err := k.Ask(ctx, deadletter.Request{Group: k.group, Kind: deadletter.RequestRetry, Filter: f, Rate: r.rate}, r.act())
	if errors.Is(err, deadletter.ErrNotFound) {
		return fmt.Errorf("nothing to retry: %s", k.nothing(r.all))
	}
	if err != nil {
		return err
	}
	return k.followed(cmd, q, r.noWait, r.json)
}

// previewed is how many keys a dry run lists.
const previewed = 20

// preview prints what would be retried now.
func (r *dlqRetry) preview(ctx context.Context, out io.Writer, k *desk, f deadletter.Filter) error {
	var (
		first              []deadletter.Key
		keys, events, busy int64
		old                int64
		after              int64
	)
	for {
		page, err := k.Keys(ctx, f, after, deadletter.MaxPage)
		if err != nil {
			return err
		}
		for i := range page {
			p := &page[i]
			after = p.ID
			switch {
			case k.outdated(p):
				old++
			case p.Request != 0:
				busy++
			default:
				keys++
				events += p.Events
				if len(first) < previewed {
					first = append(first, *p)
				}
			}
		}
		if len(page) < deadletter.MaxPage {
			break
		}
	}
	if r.json {
		rows := make([]keyJSON, 0, len(first))
		for i := range first {
			rows = append(rows, keyAsJSON(&first[i]))
		}
		return printJSON(out, struct {
			Group    string    `json:"group"`
			Keys     int64     `json:"keys"`
			Events   int64     `json:"events"`
			Busy     int64     `json:"busy"`
			Outdated int64     `json:"outdated"`
			First    []keyJSON `json:"first"`
		}{k.group, keys, events, busy, old, rows})
	}
	if keys+busy+old == 0 {
		sayf(out, "%s\n", k.nothing(r.all))
		return nil
	}
	if keys > 0 {
		if err := printKeys(out, first, time.Now()); err != nil {
			return err
		}
		if more := keys - int64(len(first)); more > 0 {
			sayf(out, "and %d more\n", more)
		}
		sayf(out, "\n")
	}
	sayf(out, "would retry %s with %s; asked for nothing\n", counted(keys, "key"), counted(events, "event"))
	if busy > 0 {
		sayf(out, "%s %s part of another open request: see 'tidings dlq requests%s'\n", counted(busy, "more key"), isAre(busy), k.flags)
	}
	if old > 0 {
		sayf(out, "%s %s of an earlier epoch of the handler, which no member retries: hand them on by 'tidings dlq reassign', or discard them\n", counted(old, "more key"), isAre(old))
	}
	return nil
}

func isAre(n int64) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// outdated tells a key of an epoch of its handler that is not the newest.
func (k *desk) outdated(p *deadletter.Key) bool {
	return slices.ContainsFunc(k.handlers, func(h handler) bool { return h.Name == p.Handler.Name && h.Epoch > p.Handler.Epoch })
}
