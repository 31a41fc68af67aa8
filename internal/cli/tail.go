package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// tail follows a topic by direct reads: no consumer group, so it never takes a
// partition from a service and leaves no offsets behind.
type tail struct {
	kafka         kafkaFlags
	types         []string
	keys          []string
	fromBeginning bool
	since         string
	follow        bool
	count         int
	json          bool
}

func tailCommand() *cobra.Command {
	t := &tail{}
	cmd := &cobra.Command{
		Use:   "tail TOPIC",
		Short: "Follow the events of a topic",
		Long: `Prints the events of a topic as they arrive, one line each, until it is
interrupted. It reads without a consumer group and shows only what is committed
(aborted transactions are left out). Order holds within a key, not across
partitions. A message that is no event is shown as "undecodable" with the reason,
unless --type asks for certain types.

With --json each line is a CloudEvent, which 'tidings publish' takes back; an
undecodable message is an object with the field "undecodable".`,
		Example: `  tidings tail order
  tidings tail order --from-beginning --follow=false
  tidings tail order --since 10m --type order.canceled
  tidings tail order --key o-17 -n 5 --json`,
		Args: exactArgs("a topic: tidings tail order"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.run(cmd.Context(), cmd.OutOrStdout(), args[0])
		},
	}
	t.kafka.register(cmd)
	f := cmd.Flags()
	f.StringSliceVar(&t.types, "type", nil, "only events of these types")
	f.StringSliceVar(&t.keys, "key", nil, "only messages with these keys (aggregate IDs)")
	f.BoolVar(&t.fromBeginning, "from-beginning", false, "start at the oldest message instead of now")
	f.StringVar(&t.since, "since", "", "start this long ago (10m, 24h) or at a time (2026-11-21T09:00:00Z)")
	f.BoolVar(&t.follow, "follow", true, "wait for more at the end; --follow=false stops there")
	f.IntVarP(&t.count, "count", "n", 0, "stop after this many lines (0: no limit)")
	f.BoolVar(&t.json, "json", false, "print each event as a CloudEvent in JSON, one a line")
	return cmd
}

func (t *tail) run(ctx context.Context, out io.Writer, topic string) error {
	start, err := t.start(time.Now())
	if err != nil {
		return usageError{err}
	}
	cl, _, err := t.kafka.client(ctx,
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxWait(500*time.Millisecond),
		// Control records are skipped below; they are wanted because the end of
		// a partition may be one.
		kgo.KeepControlRecords())
	if err != nil {
		return err
	}
	defer cl.Close()
	from, to, err := t.bounds(ctx, kadm.NewClient(cl), topic, start)
	if err != nil {
		return err
	}
	if !t.follow {
		for p, end := range to {
			if from[p] >= end {
				delete(from, p)
			}
		}
		if len(from) == 0 {
			return nil
		}
	}
	offsets := make(map[int32]kgo.Offset, len(from))
	for p, o := range from {
		offsets[p] = kgo.NewOffset().At(o)
	}
	cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: offsets})
	return t.print(ctx, cl, out, from, to)
}

// start returns when to start: the zero time for the beginning, a time in the
// past, or now for the end.
func (t *tail) start(now time.Time) (time.Time, error) {
	switch {
	case t.count < 0:
		return now, fmt.Errorf("--count %d must not be negative", t.count)
	case t.fromBeginning && t.since != "":
		return now, errors.New("--from-beginning and --since are both set; leave one out")
	case t.fromBeginning:
		return time.Time{}, nil
	case t.since == "":
		return now, nil
	}
	return moment("--since", t.since, now)
}

// moment reads a time, or how long ago one was, from a flag.
func moment(flag, text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return now, fmt.Errorf("%s %q is neither a duration such as 10m nor a time such as %s", flag, text, now.UTC().Format(time.RFC3339))
	}
	return at, nil
}

func (t *tail) bounds(ctx context.Context, adm *kadm.Client, topic string, start time.Time) (from, to map[int32]int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, t.kafka.timeout)
	defer cancel()
	ends, err := adm.ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return nil, nil, noTopic(topic)
	case err != nil:
		return nil, nil, fmt.Errorf("asking for the offsets of topic %q: %w", topic, err)
	}
	to = offsetsOf(ends, topic)
	switch {
	case start.IsZero():
		starts, err := adm.ListStartOffsets(ctx, topic)
		if err == nil {
			err = starts.Error()
		}
		if err != nil {
			return nil, nil, fmt.Errorf("asking for the oldest offsets of topic %q: %w", topic, err)
		}
		return offsetsOf(starts, topic), to, nil
	case t.since != "":
		after, err := adm.ListOffsetsAfterMilli(ctx, start.UnixMilli(), topic)
		if err == nil {
			err = after.Error()
		}
		if err != nil {
			return nil, nil, fmt.Errorf("asking for the offsets of topic %q at %s: %w", topic, start.Format(time.RFC3339), err)
		}
		return offsetsOf(after, topic), to, nil
	}
	return maps.Clone(to), to, nil
}

func offsetsOf(l kadm.ListedOffsets, topic string) map[int32]int64 {
	m := make(map[int32]int64, len(l[topic]))
	for p, o := range l[topic] {
		m[p] = o.Offset
	}
	return m
}

func noTopic(topic string) error {
	return fmt.Errorf("topic %q does not exist; 'tidings topics list' shows those that do, 'tidings topics create %s' makes it", topic, topic)
}

func (t *tail) print(ctx context.Context, cl *kgo.Client, out io.Writer, from, to map[int32]int64) error {
	pr := &printer{tail: t, out: out, to: to, open: maps.Clone(from)}
	for {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // being interrupted is how following ends
		}
		for _, fe := range fetches.Errors() {
			if !kerr.IsRetriable(fe.Err) {
				return fmt.Errorf("reading topic %q partition %d: %w", fe.Topic, fe.Partition, fe.Err)
			}
		}
		for it := fetches.RecordIter(); !it.Done() && !pr.enough(); {
			if err := pr.take(it.Next()); err != nil {
				return err
			}
		}
		if pr.enough() || !t.follow && len(pr.open) == 0 {
			return nil
		}
	}
}

// printer knows how far the printing is.
type printer struct {
	*tail

	out     io.Writer
	to      map[int32]int64 // ends of the partitions, as they were at the start
	open    map[int32]int64 // partitions that are not read up to there
	printed int
}

func (p *printer) enough() bool { return p.count > 0 && p.printed == p.count }

func (p *printer) take(r *kgo.Record) error {
	if !p.follow && r.Offset >= p.to[r.Partition] {
		return nil
	}
	if r.Offset+1 >= p.to[r.Partition] {
		delete(p.open, r.Partition)
	}
	if r.Attrs.IsControl() || !p.wanted(r) {
		return nil
	}
	shown, err := p.show(p.out, r)
	if shown {
		p.printed++
	}
	return err
}

func (t *tail) wanted(r *kgo.Record) bool {
	return len(t.keys) == 0 || slices.Contains(t.keys, string(r.Key))
}

// ellipsis shortens s to n runes and marks that it did.
func ellipsis(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
