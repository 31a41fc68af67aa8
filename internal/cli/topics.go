package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/tidings-bus/tidings/publisher"
)

func topicsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "topics",
		Short: "Create and list topics",
		Args:  noArgs,
		RunE:  showHelp,
	}
	cmd.AddCommand(topicsCreateCommand(), topicsListCommand())
	return cmd
}

func topicsCreateCommand() *cobra.Command {
	var (
		kafka       kafkaFlags
		partitions  int
		replication int
		retention   time.Duration
		settings    []string
	)
	cmd := &cobra.Command{
		Use:   "create TOPIC...",
		Short: "Create topics and record their partition counts",
		Long: `Creates the topics that are missing and records their partition counts, so that
publishers notice when a topic grows by other hands: growing moves keys, and with
them the order of events. Choose the partitions for years.

A topic that is there with the same number of partitions is fine, so the command
can run at every deployment; with another number it is an error (exit code 1).`,
		Example: `  tidings topics create order
  tidings topics create order --partitions 6 --replication 1 --retention 168h
  tidings topics create order invoice --set max.message.bytes=2097152`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("which topic? say for example: tidings topics create order")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			specs := make([]publisher.TopicSpec, len(args))
			config, err := pairs(settings)
			if err != nil {
				return usageError{err}
			}
			if partitions < 1 {
				return usageError{fmt.Errorf("--partitions %d must be 1 or more", partitions)}
			}
			if replication < 0 {
				return usageError{fmt.Errorf("--replication %d must be 1 or more, or 0 for the brokers' default", replication)}
			}
			for i, name := range args {
				specs[i] = publisher.TopicSpec{Name: name, Partitions: partitions, Replication: replication, Retention: retention, Config: config}
				if err := specs[i].Validate(); err != nil {
					return usageError{err}
				}
			}
			return kafka.topics(cmd.Context(), func(ctx context.Context, t *publisher.Topics) error {
				if err := t.Create(ctx, specs...); err != nil {
					return err
				}
				for _, name := range args {
					sayf(cmd.OutOrStdout(), "topic %s is there with %d partitions\n", name, partitions)
				}
				return nil
			})
		},
	}
	kafka.register(cmd)
	f := cmd.Flags()
	f.IntVar(&partitions, "partitions", 6, "number of partitions")
	f.IntVar(&replication, "replication", 0, "copies of each partition (0: the brokers' default)")
	f.DurationVar(&retention, "retention", 0, "how long events are kept, such as 168h (0: the brokers' default; negative: for ever)")
	f.StringSliceVar(&settings, "set", nil, "further settings by their Kafka names, name=value")
	return cmd
}

func pairs(settings []string) (map[string]string, error) {
	m := make(map[string]string, len(settings))
	for _, s := range settings {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--set %q is not name=value", s)
		}
		m[name] = value
	}
	return m, nil
}

func topicsListCommand() *cobra.Command {
	var (
		kafka  kafkaFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List topics with their partitions, as they are and as recorded",
		Long: `Lists the topics with their partition counts: as they are, and as recorded when
they were created or first published to. A topic whose two counts differ was grown
by other hands; publishers refuse it.`,
		Example: `  tidings topics list
  tidings topics list --json`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return kafka.topics(cmd.Context(), func(ctx context.Context, t *publisher.Topics) error {
				topics, err := t.List(ctx)
				if err != nil {
					return err
				}
				return printTopics(cmd.OutOrStdout(), topics, asJSON)
			})
		},
	}
	kafka.register(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printTopics(out io.Writer, topics []publisher.Topic, asJSON bool) error {
	if asJSON {
		type row struct {
			Name        string `json:"name"`
			Partitions  int    `json:"partitions"`
			Recorded    int    `json:"recorded"` // 0: none
			Replication int    `json:"replication"`
		}
		rows := make([]row, len(topics))
		for i, t := range topics {
			rows[i] = row{t.Name, t.Partitions, t.Recorded, t.Replication}
		}
		return printJSON(out, rows)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	sayf(w, "%s\n", "TOPIC\tPARTITIONS\tRECORDED\tREPLICATION\t")
	for _, t := range topics {
		recorded := strconv.Itoa(t.Recorded)
		switch {
		case t.Recorded == 0:
			recorded = "-"
		case t.Recorded != t.Partitions:
			recorded += " (grown by other hands: publishers refuse it)"
		}
		sayf(w, "%s\t%d\t%s\t%d\t\n", t.Name, t.Partitions, recorded, t.Replication)
	}
	return w.Flush()
}

// topics runs do with a publisher.Topics, once a broker has answered.
func (k *kafkaFlags) topics(ctx context.Context, do func(context.Context, *publisher.Topics) error) error {
	cl, conn, err := k.client(ctx)
	if err != nil {
		return err
	}
	cl.Close()
	t, err := publisher.NewTopics(publisher.TopicsConfig{Connection: conn})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	return errors.Join(do(ctx, t), t.Close())
}

// topicsExist fails for the first topic that is missing.
func topicsExist(ctx context.Context, adm *kadm.Client, topics []string) error {
	details, err := adm.ListTopics(ctx, topics...)
	if err != nil {
		return fmt.Errorf("asking for the topics: %w", err)
	}
	for _, t := range topics {
		if !details.Has(t) {
			return noTopic(t)
		}
	}
	return nil
}

// quietLogger lets through what a person should see.
func quietLogger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelError}))
}
