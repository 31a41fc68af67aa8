package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/publisher"
)

const (
	chunkEvents = 1000
	chunkBytes  = 8 << 20
	maxReports  = 20 // bad events named; the rest is counted
)

// publish sends events in two passes over the input: everything is checked
// before the first is sent.
type publish struct {
	kafka   kafkaFlags
	form    string
	topic   string
	skipBad bool
	json    bool
	stdout  io.Writer
	stderr  io.Writer
}

func publishCommand() *cobra.Command {
	p := &publish{}
	cmd := &cobra.Command{
		Use:   "publish [FILE]",
		Short: "Publish events from a file or stdin",
		Long: `Publishes CloudEvents in JSON: one event, a batch (an array), or NDJSON (one event
a line), from FILE or stdin. It returns when every event is acknowledged by all
in-sync replicas.

The input is checked whole before anything is sent: bad events are named with
their number and the reason, and then nothing is sent (exit code 5). With
--skip-bad the good ones are sent, and the exit code is still 5. Memory stays
bounded however long the input is.

An event's topic is its aggregate's type, the key its aggregate's ID: the
attributes "aggregatetype" and "partitionkey". An event without a key is bad: its
order would be anybody's guess. The ID tells duplicates apart; a UUIDv7 serves best.

A whole event:

  {"specversion":"1.0","id":"019a9f6e-2c00-7000-8000-000000000001",
   "source":"/orders","type":"order.placed",
   "aggregatetype":"order","partitionkey":"o-1","data":{"total":100}}`,
		Example: `  tidings publish events.ndjson
  tidings tail order --from-beginning --follow=false --json | tidings publish --topic order-copy
  tidings publish --skip-bad batch.json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{fmt.Errorf("tidings publish takes one file, got %d; put them together with cat", len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			p.stdout, p.stderr = cmd.OutOrStdout(), cmd.ErrOrStderr()
			path := "-"
			if len(args) == 1 {
				path = args[0]
			}
			return p.run(cmd.Context(), path, cmd.InOrStdin())
		},
	}
	p.kafka.register(cmd)
	f := cmd.Flags()
	f.StringVar(&p.form, "format", formAuto, "form of the input: auto, event, batch or ndjson")
	f.StringVar(&p.topic, "topic", "", "send everything to this topic (default: each event's aggregate type)")
	f.BoolVar(&p.skipBad, "skip-bad", false, "send the good events although some are bad")
	f.BoolVar(&p.json, "json", false, "print the counts as JSON")
	return cmd
}

func (p *publish) run(ctx context.Context, path string, stdin io.Reader) error {
	if !slices.Contains([]string{formAuto, formEvent, formBatch, formNDJSON}, p.form) {
		return usageError{fmt.Errorf("--format %q is none of auto, event, batch, ndjson", p.form)}
	}
	in, err := openInput(path, stdin, p.form)
	if err != nil {
		return usageError{err}
	}
	defer in.close()
	c, err := p.check(ctx, in)
	if err != nil {
		return err
	}
	if c.bad > 0 && !p.skipBad {
		return inputError{fmt.Errorf("%d of %d events in %s are bad: nothing was sent; correct them, or send the others with --skip-bad", c.bad, c.bad+c.good, in.name)}
	}
	if c.good > 0 {
		if err := p.send(ctx, in, c); err != nil {
			return err
		}
	}
	if err := p.count(c); err != nil {
		return err
	}
	if c.bad > 0 {
		return inputError{fmt.Errorf("%d of %d events in %s were bad and skipped", c.bad, c.bad+c.good, in.name)}
	}
	return nil
}

// checked is the outcome of the first pass.
type checked struct {
	good, bad int
	topics    map[string]int // good events by topic
}

func (p *publish) check(ctx context.Context, in *input) (checked, error) {
	c := checked{topics: map[string]int{}}
	for it := range in.items() {
		if err := ctx.Err(); err != nil {
			return c, err
		}
		e, err := p.decode(it)
		if err != nil {
			c.bad++
			if c.bad <= maxReports {
				sayf(p.stderr, "%s: %s %d: %s\n", in.name, in.unit(), it.number, oneLine(err.Error()))
			}
			continue
		}
		c.good++
		c.topics[p.topicOf(e)]++
	}
	if c.bad > maxReports {
		sayf(p.stderr, "%s: and %d more\n", in.name, c.bad-maxReports)
	}
	return c, nil
}

func (p *publish) topicOf(e event.Event) string {
	if p.topic != "" {
		return p.topic
	}
	return e.Aggregate().Type
}

// decode returns the event of it, or why it cannot be published.
func (p *publish) decode(it item) (event.Event, error) {
	if it.err != nil {
		return event.Event{}, it.err
	}
	if !json.Valid(it.raw) {
		return event.Event{}, invalidJSON(it.raw)
	}
	e, err := event.UnmarshalCloudEvent(it.raw)
	if err != nil {
		return e, err
	}
	if e.Aggregate().ID == "" {
		return e, errors.New(`it has no key: set "partitionkey" to the ID of its aggregate`)
	}
	if p.topicOf(e) == "" {
		return e, errors.New(`it names no topic: set "aggregatetype", or choose one with --topic`)
	}
	if n := len(e.Data()); n > event.MaxDataBytes {
		return e, fmt.Errorf("event too large: its data has %d bytes, the limit is %d; send a reference to the data instead", n, event.MaxDataBytes)
	}
	return e, nil
}

// send is the second pass.
func (p *publish) send(ctx context.Context, in *input, c checked) error {
	cl, conn, err := p.kafka.client(ctx)
	if err != nil {
		return err
	}
	err = topicsExist(ctx, kadm.NewClient(cl), slices.Sorted(maps.Keys(c.topics)))
	cl.Close()
	if err != nil {
		return fmt.Errorf("%w; nothing was sent", err)
	}
	pub, err := publisher.New(publisher.Config{Connection: conn, TopicFor: p.topicOf, Logger: quietLogger(p.stderr)})
	if err != nil {
		return err
	}
	defer pub.Close(context.WithoutCancel(ctx)) //nolint:errcheck // everything was acknowledged, or the error is told already
	var (
		events  []event.Event
		numbers []int
		size    int
		sent    int
	)
	flush := func() error {
		ctx, cancel := context.WithTimeout(ctx, p.kafka.timeout)
		defer cancel()
		err := pub.Publish(ctx, events...)
		var pe *publisher.PublishError
		switch {
		case errors.As(err, &pe):
			sent += len(events) - len(pe.Failed)
			return p.notSent(in, c, sent, numbers, pe)
		case err != nil:
			return err
		}
		sent += len(events)
		events, numbers, size = events[:0], numbers[:0], 0
		return nil
	}
	for it := range in.items() {
		e, err := p.decode(it)
		if err != nil {
			continue // named in the first pass
		}
		events, numbers, size = append(events, e), append(numbers, it.number), size+len(it.raw)
		if len(events) == chunkEvents || size >= chunkBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if len(events) > 0 {
		if err := flush(); err != nil {
			return err
		}
	}
	if sent != c.good {
		return fmt.Errorf("%s changed while it was read: %d events were good at first, %d were sent", in.name, c.good, sent)
	}
	return nil
}

// notSent names what was not acknowledged.
func (p *publish) notSent(in *input, c checked, sent int, numbers []int, pe *publisher.PublishError) error {
	for i, f := range pe.Failed {
		if i == maxReports {
			sayf(p.stderr, "%s: and %d more\n", in.name, len(pe.Failed)-i)
			break
		}
		doubt := ""
		if f.InDoubt {
			doubt = " (it may be in the log all the same; sending it again is safe, consumers know it by its ID)"
		}
		sayf(p.stderr, "%s: %s %d: not sent: %s%s\n", in.name, in.unit(), numbers[f.Index], oneLine(f.Err.Error()), doubt)
	}
	return fmt.Errorf("%d of %d events were sent; the first that was not is %s %d: %w", sent, c.good, in.unit(), numbers[pe.Failed[0].Index], pe.Failed[0].Err)
}

func (p *publish) count(c checked) error {
	if p.json {
		return printJSON(p.stdout, struct {
			Sent   int            `json:"sent"`
			Bad    int            `json:"bad"`
			Topics map[string]int `json:"topics"`
		}{c.good, c.bad, c.topics})
	}
	parts := make([]string, 0, len(c.topics))
	for _, t := range slices.Sorted(maps.Keys(c.topics)) {
		parts = append(parts, fmt.Sprintf("%s %d", t, c.topics[t]))
	}
	line := fmt.Sprintf("sent %d events", c.good)
	if len(parts) > 0 {
		line += ": " + strings.Join(parts, ", ")
	}
	sayf(p.stdout, "%s\n", line)
	return nil
}
