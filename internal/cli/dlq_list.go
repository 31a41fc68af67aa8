package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/internal/near"
)

// dlqList lists what is parked.
type dlqList struct {
	selection

	by    []string
	limit int
	after int64
	json  bool
}

const byAge = "age"

func (d *dlq) listCommand() *cobra.Command {
	l := &dlqList{}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what is parked, grouped or key by key",
		Long: `Lists what is parked, grouped by --by: cause, type, handler, topic, age, or any of
them together but age. --by key lists the keys one by one, oldest first, with the
ID, cause and error of each one's first event: the event that 'tidings dlq show'
shows, 'retry' tries first and 'discard' takes. It lists --limit keys, and says
how to go on after them.

A cause, type and age are those of a key's first event. BEHIND is how many events
of the key wait behind it: nothing is wrong with those.`,
		Example: `  tidings dlq list --sqlite ./orders.db
  tidings dlq list --by key --sqlite ./orders.db
  tidings dlq list --by key --cause rejected --older 24h --postgres postgres://orders@127.0.0.1/orders
  tidings dlq list --by handler --json --brokers 127.0.0.1:9092 --group mails`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error { return l.run(cmd, d) },
	}
	l.register(cmd)
	f := cmd.Flags()
	f.StringSliceVar(&l.by, "by", []string{"handler", "cause", "type"}, "group by these: cause, type, handler, topic; key and age stand alone")
	f.IntVar(&l.limit, "limit", 50, "list that many lines at most")
	f.Int64Var(&l.after, "after", 0, "with --by key: go on after this one, as the list before said")
	f.BoolVar(&l.json, "json", false, "print JSON")
	return cmd
}

var groupings = []string{string(deadletter.ByCause), string(deadletter.ByType), string(deadletter.ByHandler), string(deadletter.ByTopic), string(deadletter.ByKey), byAge}

func (l *dlqList) validate() error {
	for _, by := range l.by {
		if !slices.Contains(groupings, by) {
			return fmt.Errorf("--by %q is none; use %s%s", by, strings.Join(groupings, ", "), near.Suggest(by, groupings))
		}
	}
	alone := slices.ContainsFunc(l.by, func(by string) bool { return by == byAge || by == string(deadletter.ByKey) })
	switch {
	case len(l.by) == 0:
		return errors.New("--by is empty; use " + strings.Join(groupings, ", "))
	case alone && len(l.by) > 1:
		return fmt.Errorf("--by %s: key and age stand alone; use one of them, or the others together", strings.Join(l.by, ","))
	case l.limit < 1 || l.limit > deadletter.MaxPage:
		return fmt.Errorf("--limit %d: use 1 to %d", l.limit, deadletter.MaxPage)
	case l.after < 0 || l.after > 0 && l.by[0] != string(deadletter.ByKey):
		return errors.New("--after goes on with a list --by key: use the number that it said")
	}
	return nil
}

func (l *dlqList) run(cmd *cobra.Command, d *dlq) error {
	if err := l.validate(); err != nil {
		return usageError{err}
	}
	now := time.Now()
	f, err := l.filter(cmd, now)
	if err != nil {
		return err
	}
	k, err := d.open(cmd)
	if err != nil {
		return err
	}
	defer k.close()
	if err := k.known(f); err != nil {
		return err
	}
	f.Group = k.group
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	totals, err := k.Count(ctx, f)
	if err != nil {
		return err
	}
	var total deadletter.Count
	if len(totals) > 0 {
		total = totals[0]
	}
	if total.Keys == 0 && !l.json {
		sayf(out, "%s\n", k.nothing(l.empty()))
		return nil
	}
	if l.by[0] == string(deadletter.ByKey) {
		return l.listKeys(ctx, out, k, f, total, now)
	}
	return l.listGroups(ctx, out, k, f, total, now)
}

// nothing says that nothing is there.
func (k *desk) nothing(all bool) string {
	if all {
		return fmt.Sprintf("nothing is parked in group %s (%s)", k.group, k.place)
	}
	return fmt.Sprintf("nothing that is parked in group %s (%s) matches", k.group, k.place)
}

func (l *dlqList) listKeys(ctx context.Context, out io.Writer, k *desk, f deadletter.Filter, total deadletter.Count, now time.Time) error {
	list, err := k.Keys(ctx, f, l.after, l.limit)
	if err != nil {
		return err
	}
	var next int64
	if len(list) == l.limit {
		next = list[len(list)-1].ID
	}
	if l.json {
		rows := make([]keyJSON, 0, len(list))
		for i := range list {
			rows = append(rows, keyAsJSON(&list[i]))
		}
		return printJSON(out, struct {
			Group string    `json:"group"`
			Keys  []keyJSON `json:"keys"`
			Total totalJSON `json:"total"`
			Next  int64     `json:"next,omitempty"`
		}{k.group, rows, totalAsJSON(total), next})
	}
	if err := printKeys(out, list, now); err != nil {
		return err
	}
	sayf(out, "\n%s with %s (%s) parked in group %s\n", counted(total.Keys, "key"), counted(total.Events, "event"), size(total.Bytes), k.group)
	if next > 0 && total.Keys > int64(len(list)) {
		sayf(out, "for those that follow, add: --after %d\n", next)
	}
	return nil
}

func printKeys(out io.Writer, list []deadletter.Key, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	sayf(w, "ID\tKEY\tHANDLER\tTOPIC\tCAUSE\tTYPE\tBEHIND\tTRIES\tPARKED\tERROR\n")
	for i := range list {
		p := &list[i]
		sayf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", p.Head, ellipsis(keyText(p.Key), 40), p.Handler.Name, p.Topic, p.Cause, typeText(p.Type),
			p.Events-1, p.Tries, age(p.HeadAt, now), noted(p, now))
	}
	return w.Flush()
}

// noted is what else there is to say about a key, and its error.
func noted(p *deadletter.Key, now time.Time) string {
	var notes []string
	switch {
	case p.Member != "":
		notes = append(notes, "[retried now]")
	case p.Request != 0:
		notes = append(notes, fmt.Sprintf("[request %d]", p.Request))
	case !p.Due.IsZero():
		notes = append(notes, "[due "+in(p.Due, now)+"]")
	}
	return strings.Join(append(notes, ellipsis(oneLine(p.Error), 70)), " ")
}

func typeText(typ string) string {
	if typ == "" {
		return "(undecodable)"
	}
	return typ
}

// row is a group of parked keys; age is set of those by age only.
type row struct {
	deadletter.Count

	age string
}

func (l *dlqList) listGroups(ctx context.Context, out io.Writer, k *desk, f deadletter.Filter, total deadletter.Count, now time.Time) error {
	rows, err := l.rows(ctx, k, f, now)
	if err != nil {
		return err
	}
	more := len(rows) - l.limit
	rows = rows[:min(len(rows), l.limit)]
	if l.json {
		return l.groupsJSON(out, k, rows, total, max(0, more))
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	sayf(w, "%s\tKEYS\tEVENTS\tSIZE\tOLDEST\tNEWEST\n", strings.ToUpper(strings.Join(l.by, "\t")))
	for _, r := range rows {
		for _, by := range l.by {
			value := r.Group[deadletter.By(by)]
			switch by {
			case byAge:
				value = r.age
			case string(deadletter.ByType):
				value = typeText(value)
			}
			sayf(w, "%s\t", value)
		}
		sayf(w, "%d\t%d\t%s\t%s\t%s\n", r.Keys, r.Events, size(r.Bytes), age(r.Oldest, now), age(r.Newest, now))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if more > 0 {
		sayf(out, "and %d more: see them with a higher --limit\n", more)
	}
	sayf(out, "\n%s with %s (%s) parked in group %s; see them by: tidings dlq list --by key%s\n",
		counted(total.Keys, "key"), counted(total.Events, "event"), size(total.Bytes), k.group, k.flags)
	return nil
}

func (l *dlqList) rows(ctx context.Context, k *desk, f deadletter.Filter, now time.Time) ([]row, error) {
	if l.by[0] == byAge {
		return byAges(ctx, k, f, now)
	}
	by := make([]deadletter.By, 0, len(l.by))
	for _, b := range l.by {
		by = append(by, deadletter.By(b))
	}
	counts, err := k.Count(ctx, f, by...)
	rows := make([]row, 0, len(counts))
	for _, c := range counts {
		rows = append(rows, row{Count: c})
	}
	return rows, err
}

// ages are the bounds of --by age, the youngest first.
var ages = []struct {
	name string
	upTo time.Duration
}{{"under 1h", time.Hour}, {"1h to 24h", 24 * time.Hour}, {"1d to 7d", 7 * 24 * time.Hour}, {"over 7d", 0}}

func byAges(ctx context.Context, k *desk, f deadletter.Filter, now time.Time) ([]row, error) {
	var rows []row
	until := f.Until
	for _, a := range ages {
		part := f
		part.Until = until
		if a.upTo > 0 {
			from := now.Add(-a.upTo)
			if from.After(part.From) {
				part.From = from
			}
			if until.IsZero() || from.Before(until) {
				until = from
			}
		}
		if !part.Until.IsZero() && !part.From.Before(part.Until) {
			continue
		}
		counts, err := k.Count(ctx, part)
		if err != nil {
			return nil, err
		}
		if len(counts) > 0 && counts[0].Keys > 0 {
			rows = append(rows, row{counts[0], a.name})
		}
	}
	return rows, nil
}

func (l *dlqList) groupsJSON(out io.Writer, k *desk, rows []row, total deadletter.Count, more int) error {
	list := make([]map[string]any, 0, len(rows))
	for _, r := range rows {
		m := map[string]any{"keys": r.Keys, "events": r.Events, "bytes": r.Bytes, "oldest": instant(r.Oldest), "newest": instant(r.Newest)}
		for _, by := range l.by {
			m[by] = r.Group[deadletter.By(by)]
		}
		if r.age != "" {
			m[byAge] = r.age
		}
		list = append(list, m)
	}
	return printJSON(out, struct {
		Group  string           `json:"group"`
		By     []string         `json:"by"`
		Groups []map[string]any `json:"groups"`
		More   int              `json:"more,omitempty"`
		Total  totalJSON        `json:"total"`
	}{k.group, l.by, list, more, totalAsJSON(total)})
}

type totalJSON struct {
	Keys   int64 `json:"keys"`
	Events int64 `json:"events"`
	Bytes  int64 `json:"bytes"`
}

func totalAsJSON(c deadletter.Count) totalJSON { return totalJSON{c.Keys, c.Events, c.Bytes} }

// keyJSON is a parked key in JSON.
type keyJSON struct {
	ID      int64           `json:"id"`
	Handler string          `json:"handler"`
	Epoch   int             `json:"epoch,omitempty"`
	Topic   string          `json:"topic"`
	Key     json.RawMessage `json:"key"`
	Head    int64           `json:"head"`
	Type    string          `json:"type"`
	Cause   string          `json:"cause"`
	Error   string          `json:"error"`
	Tries   int             `json:"tries"`
	Since   *time.Time      `json:"since"`
	HeadAt  *time.Time      `json:"head_at"`
	Due     *time.Time      `json:"due,omitempty"`
	Events  int64           `json:"events"`
	Bytes   int64           `json:"bytes"`
	Request int64           `json:"request,omitempty"`
	Member  string          `json:"member,omitempty"`
}

func keyAsJSON(k *deadletter.Key) keyJSON {
	return keyJSON{
		ID: k.ID, Handler: k.Handler.Name, Epoch: k.Handler.Epoch, Topic: k.Topic, Key: bytesJSON(k.Key), Head: k.Head, Type: k.Type, Cause: string(k.Cause),
		Error: k.Error, Tries: k.Tries, Since: instant(k.Since), HeadAt: instant(k.HeadAt), Due: instant(k.Due), Events: k.Events, Bytes: k.Bytes,
		Request: k.Request, Member: k.Member,
	}
}
