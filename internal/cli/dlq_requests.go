package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidings-bus/tidings/deadletter"
)

func (d *dlq) requestsCommand() *cobra.Command {
	var (
		open   bool
		limit  int
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "requests",
		Short: "List what was asked of the group's members, follow or end it",
		Long: `Lists the requests to retry and to edit, newest first, and how far each is. A
request stays open until the members have carried it out, or somebody ends it.`,
		Example: `  tidings dlq requests --sqlite ./orders.db
  tidings dlq requests --open --json --sqlite ./orders.db`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > deadletter.MaxPage {
				return usageError{fmt.Errorf("--limit %d: use 1 to %d", limit, deadletter.MaxPage)}
			}
			k, err := d.open(cmd)
			if err != nil {
				return err
			}
			defer k.close()
			list, err := k.Requests(cmd.Context(), k.group, open, limit)
			if err != nil {
				return err
			}
			out, now := cmd.OutOrStdout(), time.Now()
			if asJSON {
				rows := make([]*requestJSON, 0, len(list))
				for i := range list {
					rows = append(rows, requestAsJSON(&list[i]))
				}
				return printJSON(out, map[string]any{"group": k.group, "requests": rows})
			}
			if len(list) == 0 {
				sayf(out, "no requests in group %s (%s)\n", k.group, k.place)
				return nil
			}
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			sayf(w, "ID\tKIND\tASKED\tBY\tSTATE\n")
			for i := range list {
				q := &list[i]
				sayf(w, "%d\t%s\t%s ago\t%s\t%s\n", q.ID, q.Kind, age(q.Asked, now), q.Act.Who, progressText(q))
			}
			return w.Flush()
		},
	}
	f := cmd.Flags()
	f.BoolVar(&open, "open", false, "only those that are not done")
	f.IntVar(&limit, "limit", 20, "list that many at most")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	cmd.AddCommand(d.requestsFollowCommand(), d.requestsEndCommand())
	return cmd
}

func (d *dlq) requestsFollowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "follow ID",
		Short: "Follow a request until it is done",
		Long: `Tells how far a request is until it is done, as the command that asked for it does.
Ctrl-C stops following; the request goes on. It exits 1 when keys have stopped at
failures, and 5 when an edit was refused.`,
		Example: `  tidings dlq requests follow 7 --sqlite ./orders.db`,
		Args:    exactArgs("the ID of a request: tidings dlq requests follow 7"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return d.request(cmd, args[0], func(k *desk, q deadletter.Request) error {
				if q.Kind == deadletter.RequestEdit {
					return k.awaitEdit(cmd, q, asJSON)
				}
				return k.follow(cmd, q, asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the request in JSON at its end")
	return cmd
}

func (d *dlq) requestsEndCommand() *cobra.Command {
	var a actor
	cmd := &cobra.Command{
		Use:   "end ID",
		Short: "End a request: what was not tried stays as it is",
		Long: `Ends an open request. Keys that were not tried stay parked as they are, and what
is being tried ends after its event.`,
		Example: `  tidings dlq requests end 7 --reason "the bank is down again" --sqlite ./orders.db`,
		Args:    exactArgs("the ID of a request: tidings dlq requests end 7"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return d.request(cmd, args[0], func(k *desk, q deadletter.Request) error {
				if q.State != deadletter.Open {
					return fmt.Errorf("request %d is not open any more: it is %s", q.ID, progressText(&q))
				}
				if err := k.End(cmd.Context(), q.ID, a.act()); err != nil {
					return err
				}
				q, err := k.Request(cmd.Context(), q.ID)
				if err == nil {
					sayf(cmd.OutOrStdout(), "request %d is %s\n", q.ID, progressText(&q))
				}
				return err
			})
		},
	}
	a.register(cmd, "why, for the audit log")
	return cmd
}

// request runs do with a request of the group.
func (d *dlq) request(cmd *cobra.Command, text string, do func(*desk, deadletter.Request) error) error {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id < 1 {
		return usageError{fmt.Errorf("%q is no request's ID: use a number that 'tidings dlq requests' lists", text)}
	}
	k, err := d.open(cmd)
	if err != nil {
		return err
	}
	defer k.close()
	q, err := k.Request(cmd.Context(), id)
	if err == nil && q.Group == k.group {
		return do(k, q)
	}
	if err == nil {
		return fmt.Errorf("request %d is one of group %q, not of %q", id, q.Group, k.group)
	}
	if errors.Is(err, deadletter.ErrNotFound) {
		return fmt.Errorf("request %d was %w in group %q%s", id, deadletter.ErrNotFound, k.group, k.recent(cmd.Context()))
	}
	return err
}

// recent names the newest requests.
func (k *desk) recent(ctx context.Context) string {
	list, err := k.Requests(ctx, k.group, false, 3)
	if err != nil || len(list) == 0 {
		return ": there are none"
	}
	ids := make([]string, 0, len(list))
	for i := range list {
		ids = append(ids, strconv.FormatInt(list[i].ID, 10))
	}
	return "; the newest are " + strings.Join(ids, ", ")
}

func (d *dlq) auditCommand() *cobra.Command {
	var (
		limit  int
		before int64
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "List who did what to the dead letters, when and why",
		Long: `Lists the audit log, newest first: requests to retry and to edit, edits, discards,
imports, keys handed to another handler, and ended requests. With --json each is one
line, with what it changed before and after; a discarded event is in it whole.`,
		Example: `  tidings dlq audit --sqlite ./orders.db
  tidings dlq audit --limit 1000 --json --sqlite ./orders.db`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case limit < 1 || limit > deadletter.MaxPage:
				return usageError{fmt.Errorf("--limit %d: use 1 to %d", limit, deadletter.MaxPage)}
			case before < 0:
				return usageError{fmt.Errorf("--before %d: use the ID of an entry", before)}
			}
			k, err := d.open(cmd)
			if err != nil {
				return err
			}
			defer k.close()
			list, err := k.Audit(cmd.Context(), k.group, before, limit)
			if err != nil {
				return err
			}
			return k.printAudit(cmd, list, limit, asJSON)
		},
	}
	f := cmd.Flags()
	f.IntVar(&limit, "limit", 50, "list that many at most")
	f.Int64Var(&before, "before", 0, "only what is older than the entry of this ID")
	f.BoolVar(&asJSON, "json", false, "print JSON, one line for each")
	return cmd
}

func (k *desk) printAudit(cmd *cobra.Command, list []deadletter.Entry, limit int, asJSON bool) error {
	out := cmd.OutOrStdout()
	if asJSON {
		for i := range list {
			if err := printLine(out, entryAsJSON(&list[i])); err != nil {
				return err
			}
		}
		return nil
	}
	if len(list) == 0 {
		sayf(out, "nothing was done in group %s (%s)\n", k.group, k.place)
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	sayf(w, "ID\tWHEN\tWHO\tWHAT\tREASON\n")
	for i := range list {
		e := &list[i]
		sayf(w, "%d\t%s\t%s\t%s\t%s\n", e.ID, stamp(e.At), e.Act.Who, actText(e), ellipsis(oneLine(e.Act.Reason), 80))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(list) == limit {
		sayf(out, "\nfor older ones, add: --before %d\n", list[len(list)-1].ID)
	}
	return nil
}

func actText(e *deadletter.Entry) string {
	text := e.Action
	if e.Letter != 0 {
		text += fmt.Sprintf(" event %d", e.Letter)
	}
	if e.Key != nil {
		text += " of key " + ellipsis(keyText(e.Key), 40)
	}
	if e.Handler != "" {
		text += ", handler " + e.Handler
	}
	if e.Request != 0 {
		text += fmt.Sprintf(", request %d", e.Request)
	}
	return text
}

// entryAsJSON is a line of the audit log in JSON.
func entryAsJSON(e *deadletter.Entry) map[string]any {
	m := map[string]any{"id": e.ID, "at": e.At.UTC(), "who": e.Act.Who, "reason": e.Act.Reason, "action": e.Action, "group": e.Group}
	if e.Handler != "" {
		m["handler"] = e.Handler
	}
	if e.Key != nil {
		m["key"] = bytesJSON(e.Key)
	}
	for name, n := range map[string]int64{"event": e.Letter, "request": e.Request} {
		if n != 0 {
			m[name] = n
		}
	}
	if e.EventID != "" {
		m["event_id"] = e.EventID
	}
	if len(e.Before) > 0 {
		m["before"] = e.Before
	}
	if len(e.After) > 0 {
		m["after"] = e.After
	}
	return m
}
