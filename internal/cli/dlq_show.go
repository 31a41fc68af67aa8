package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/tidings-bus/tidings/deadletter"
)

// dlqShow shows a parked event, or the first one of a key.
type dlqShow struct {
	which

	full   bool
	behind int
	json   bool
}

func (d *dlq) showCommand() *cobra.Command {
	s := &dlqShow{}
	cmd := &cobra.Command{
		Use:   "show KEY|ID",
		Short: "Show a parked event: cause, error, content, and what waits behind it",
		Long: `Shows the first parked event of a key, for each handler that has parked it, or the
event of an ID: why it was parked, the last error (with the stack of a panic), the
event with its headers as it was read, what waits behind it, and the request that
the key is part of. 'tidings dlq list --by key' has keys and IDs.

With --json the event is in the form of 'tidings dlq export'.`,
		Example: `  tidings dlq show o-17 --sqlite ./orders.db
  tidings dlq show 41 --sqlite ./orders.db
  tidings dlq show o-17 --handler charge --json --sqlite ./orders.db`,
		Args: oneOrFlags("a key or an ID: tidings dlq show o-17"),
		RunE: func(cmd *cobra.Command, args []string) error { return s.run(cmd, d, args) },
	}
	s.register(cmd)
	f := cmd.Flags()
	f.BoolVar(&s.full, "full", false, "show all of the event's content, also when it is long")
	f.IntVar(&s.behind, "behind", 5, "show that many of the events behind it")
	f.BoolVar(&s.json, "json", false, "print JSON")
	return cmd
}

func (s *dlqShow) run(cmd *cobra.Command, d *dlq, args []string) error {
	if s.behind < 0 || s.behind > deadletter.MaxPage {
		return usageError{fmt.Errorf("--behind %d: use 0 to %d", s.behind, deadletter.MaxPage)}
	}
	k, err := d.open(cmd)
	if err != nil {
		return err
	}
	defer k.close()
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	list, _, err := s.find(ctx, cmd, k, args)
	if err != nil {
		return err
	}
	shown := make([]json.RawMessage, 0, len(list))
	for i := range list {
		one := &list[i]
		if s.behind > 0 {
			if one.behind, err = k.Letters(ctx, one.key.ID, one.letter.ID, s.behind); err != nil && !errors.Is(err, deadletter.ErrNotFound) {
				return err
			}
		}
		var q deadletter.Request
		if id := one.key.Request; id != 0 {
			if q, err = k.Request(ctx, id); err != nil {
				return err
			}
		}
		if s.json {
			raw, err := one.json(&q)
			if err != nil {
				return err
			}
			shown = append(shown, raw)
			continue
		}
		if i > 0 {
			sayf(out, "\n")
		}
		s.print(out, k, one, &q, time.Now())
	}
	if s.json {
		return printJSON(out, map[string]any{"group": k.group, "parked": shown})
	}
	return nil
}

func (o *found) json(q *deadletter.Request) (json.RawMessage, error) {
	raw, err := deadletter.MarshalLetter(o.letter)
	if err != nil {
		return nil, err
	}
	behind := make([]json.RawMessage, 0, len(o.behind))
	for _, l := range o.behind {
		one, err := deadletter.MarshalLetter(l)
		if err != nil {
			return nil, err
		}
		behind = append(behind, one)
	}
	v := struct {
		Key     keyJSON           `json:"key"`
		First   bool              `json:"first"`
		Event   json.RawMessage   `json:"event"`
		Behind  []json.RawMessage `json:"behind"`
		Request *requestJSON      `json:"request,omitempty"`
	}{keyAsJSON(&o.key), o.key.Head == o.letter.ID, raw, behind, nil}
	if q.ID != 0 {
		v.Request = requestAsJSON(q)
	}
	return json.Marshal(v)
}

func (s *dlqShow) print(out io.Writer, k *desk, o *found, q *deadletter.Request, now time.Time) {
	l := &o.letter
	line := func(name, format string, args ...any) {
		sayf(out, "%-10s"+format+"\n", append([]any{name}, args...)...)
	}
	line("key", "%s", keyText(o.key.Key))
	line("handler", "%s of group %s", l.Handler.Name, l.Handler.Group)
	line("parked", "%s, %s ago", stamp(l.Parked), age(l.Parked, now))
	line("cause", "%s%s", l.Cause, attempts(l.Attempts, l.First, l.Last))
	if l.Error != "" {
		line("error", "%s", indentRest(l.Error))
	}
	if !l.Due.IsZero() {
		line("due", "%s (%s): it is tried again by itself", stamp(l.Due), in(l.Due, now))
	}
	switch first := o.key.Head == l.ID; {
	case !first:
		line("place", "not first of its key: event %d is, and has to leave before", o.key.Head)
	case o.key.Events > 1:
		line("behind it", "%s", counted(o.key.Events-1, "event"))
	default:
		line("behind it", "nothing")
	}
	if q.ID != 0 {
		line("request", "%d, %s, asked %s ago by %s", q.ID, progressText(q), age(q.Asked, now), q.Act.Who)
	}
	if o.key.Member != "" {
		line("member", "%s retries it now", o.key.Member)
	}

	sayf(out, "\nevent %d\n", l.ID)
	part := func(name, value string) {
		if value != "" {
			sayf(out, "  %-10s%s\n", name, value)
		}
	}
	part("type", typeText(l.Type))
	part("event ID", l.EventID.String())
	if l.AggregateID != "" {
		part("aggregate", strings.TrimSpace(l.AggregateType+" "+l.AggregateID)+sequenceText(l.Sequence))
	}
	part("source", l.Source)
	part("read from", fmt.Sprintf("%s, partition %d, offset %d, written %s", l.Place.Topic, l.Place.Partition, l.Place.Offset, stamp(l.Time)))
	for i, h := range l.Record.Headers {
		name := ""
		if i == 0 {
			name = "headers"
		}
		sayf(out, "  %-10s%s: %s\n", name, oneLine(h.Key), s.cut(contentText(h.Value)))
	}
	s.value(out, "content", l.Record.Value)
	if l.Original != nil {
		s.value(out, "content before it was edited", l.Original.Value)
	}
	if l.Stack != "" {
		sayf(out, "\nstack\n%s\n", indent(strings.TrimRight(l.Stack, "\n")))
	}
	if len(o.behind) > 0 {
		sayf(out, "\nbehind it\n")
		for i := range o.behind {
			b := &o.behind[i]
			sayf(out, "  %-8d%s%s  parked %s ago%s\n", b.ID, typeText(b.Type), sequenceText(b.Sequence), age(b.Parked, now), behindNote(b))
		}
		if o.key.Head == l.ID {
			if more := o.key.Events - 1 - int64(len(o.behind)); more > 0 {
				sayf(out, "  and %d more: see them with a higher --behind\n", more)
			}
		}
	}
	if o.key.Request == 0 {
		others := ""
		if len(o.key.Key) == 0 {
			others = "   (with all others that have no key)"
		}
		sayf(out, "\nretry it:   tidings dlq retry --key %s --handler %s%s%s\ndiscard it: tidings dlq discard %d --reason ...%s\n",
			shellWord(orEmptyWord(o.key.Key)), shellWord(l.Handler.Name), k.flags, others, l.ID, k.flags)
	}
}

func orEmptyWord(key []byte) string {
	if len(key) == 0 {
		return ""
	}
	return keyText(key)
}

// behindNote tells an event that was parked for a reason of its own.
func behindNote(l *deadletter.Letter) string {
	if l.Error == "" {
		return ""
	}
	return ", " + string(l.Cause) + ": " + ellipsis(oneLine(l.Error), 60)
}

func attempts(n int, first, last time.Time) string {
	switch {
	case n == 0:
		return ""
	case n == 1 || first.Equal(last):
		return fmt.Sprintf(", after %s; failed %s", tries(n), stamp(last))
	}
	return fmt.Sprintf(", after %s; first failed %s, last %s", tries(n), stamp(first), stamp(last))
}

func tries(n int) string {
	if n == 1 {
		return "1 try"
	}
	return fmt.Sprintf("%d tries", n)
}

func sequenceText(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" #%d", n)
}

// longest is how much of a content is shown without --full.
const longest = 4000

func (s *dlqShow) value(out io.Writer, name string, value []byte) {
	if value == nil {
		sayf(out, "  %s: null\n", name)
		return
	}
	sayf(out, "  %s (%s)\n%s\n", name, size(int64(len(value))), indent(indent(s.cut(contentText(value)))))
}

func (s *dlqShow) cut(text string) string {
	if s.full || len(text) <= longest {
		return text
	}
	return ellipsis(text, longest) + "\n(see all of it with --full)"
}

// contentText is bytes for people: JSON on lines, text, or bytes in quotes.
func contentText(b []byte) string {
	var pretty bytes.Buffer
	switch {
	case len(b) > 0 && (b[0] == '{' || b[0] == '[') && json.Indent(&pretty, b, "", "  ") == nil:
		return pretty.String()
	case utf8.Valid(b) && !bytes.ContainsFunc(b, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' }):
		return string(b)
	}
	return strconv.Quote(string(b))
}

func indent(text string) string { return "  " + strings.ReplaceAll(text, "\n", "\n  ") }

// indentRest puts the lines after the first below it.
func indentRest(text string) string {
	return strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n"+strings.Repeat(" ", 10))
}
