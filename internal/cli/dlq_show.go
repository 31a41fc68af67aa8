package cli

import (
	"bytes"
	"context"
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

// which names one parked event, or one key.
type which struct {
	id      int64
	key     string
	handler string
}

func (w *which) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Int64Var(&w.id, "id", 0, "the event of this ID, for an ID that is a key, too")
	f.StringVar(&w.key, "key", "", `the events of this key, for a key that is an ID, too; "" for events without one`)
	f.StringVar(&w.handler, "handler", "", "only what is parked for this handler")
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

// oneOrFlags wants one argument, or none: the flags --id and --key are for it.
func oneOrFlags(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		given := len(args)
		for _, name := range []string{"id", "key"} {
			if onCommandLine(cmd.Flags().Lookup(name)) {
				given++
			}
		}
		switch {
		case given == 0:
			return usageError{fmt.Errorf("%s wants %s", cmd.CommandPath(), what)}
		case len(args) > 1:
			return usageError{fmt.Errorf("%s: unexpected argument %q", cmd.CommandPath(), args[1])}
		case given > 1:
			return usageError{fmt.Errorf("%s: a key or an ID, --key and --id: leave one of them", cmd.CommandPath())}
		}
		return nil
	}
}

// found is a parked event with its key.
type found struct {
	key    deadletter.Key
	letter deadletter.Letter
	behind []deadletter.Letter
}

// find returns the event of an ID, or the first events of a key, one for each
// handler that parked it. Events without a key are one each.
func (w *which) find(ctx context.Context, cmd *cobra.Command, k *desk, args []string) (list []found, byID bool, err error) {
	f := deadletter.Filter{Group: k.group}
	if w.handler != "" {
		f.Handlers = []string{w.handler}
	}
	if err := k.known(f); err != nil {
		return nil, false, err
	}
	text := w.key
	if len(args) > 0 {
		text = args[0]
	}
	asKey := len(args) > 0 || onCommandLine(cmd.Flags().Lookup("key"))
	if asKey {
		if list, err = k.first(ctx, f, text); err != nil {
			return nil, false, err
		}
	}
	id := w.id
	if len(args) > 0 {
		id, _ = strconv.ParseInt(text, 10, 64)
	}
	if id > 0 {
		one, err := k.event(ctx, id)
		switch {
		case errors.Is(err, deadletter.ErrNotFound) && asKey: // it is no ID
		case err != nil:
			return nil, false, err
		case len(list) > 0:
			return nil, false, usageError{fmt.Errorf("%d is a key as well as an event's ID: say --key %d or --id %d", id, id, id)}
		case w.handler != "" && one.key.Handler.Name != w.handler:
			return nil, false, fmt.Errorf("event %d is parked for handler %q, not for %q", id, one.key.Handler.Name, w.handler)
		default:
			return []found{one}, true, nil
		}
	}
	switch {
	case len(list) > 0:
		return list, false, nil
	case w.handler != "":
		return nil, false, fmt.Errorf("nothing is parked under key %q for handler %q", text, w.handler)
	}
	return nil, false, k.noKey(ctx, text)
}

// first are the first events of a key, as far as f selects them.
func (k *desk) first(ctx context.Context, f deadletter.Filter, text string) (list []found, err error) {
	key, err := parseKey(text)
	if err != nil {
		return nil, usageError{fmt.Errorf("key %q: %w", text, err)}
	}
	f.Keys = [][]byte{key}
	keys, err := k.Keys(ctx, f, 0, deadletter.MaxPage)
	if err != nil {
		return nil, err
	}
	for i := range keys {
		l, err := k.Letter(ctx, keys[i].Head)
		if errors.Is(err, deadletter.ErrNotFound) {
			continue // it left meanwhile
		}
		if err != nil {
			return nil, err
		}
		list = append(list, found{key: keys[i], letter: l})
	}
	return list, nil
}

// event returns a parked event of the group with its key. It wraps ErrNotFound.
func (k *desk) event(ctx context.Context, id int64) (found, error) {
	l, err := k.Letter(ctx, id)
	if err != nil {
		return found{}, err
	}
	if l.Handler.Group != k.group {
		return found{}, fmt.Errorf("event %d is parked in group %q, not in %q", id, l.Handler.Group, k.group)
	}
	f := deadletter.Filter{Group: k.group, Handlers: []string{l.Handler.Name}, Topics: []string{l.Place.Topic}, Keys: [][]byte{l.Place.Key}}
	var after int64
	for {
		keys, err := k.Keys(ctx, f, after, deadletter.MaxPage)
		if err != nil {
			return found{}, err
		}
		for i := range keys {
			mine := keys[i].Handler == l.Handler && (len(l.Place.Key) > 0 || keys[i].Head == id)
			if mine {
				return found{key: keys[i], letter: l}, nil
			}
			after = keys[i].ID
		}
		if len(keys) < deadletter.MaxPage {
			return found{}, fmt.Errorf("event %d: %w: it was applied or discarded just now", id, deadletter.ErrNotFound)
		}
	}
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
