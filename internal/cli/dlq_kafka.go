package cli

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/tidings-bus/tidings/deadletter/kafkastore"
	"github.com/tidings-bus/tidings/internal/near"
)

// parkedIn begins the names of the topics that groups park in.
const parkedIn = "tidings.parked."

// openKafka reads what a group has parked in Kafka. The topics must be there: a
// mistyped name makes none.
func (d *dlq) openKafka(ctx context.Context, cmd *cobra.Command) (*desk, error) { //nolint:contextcheck // the store runs as long as the desk is open, ctx ends when it is
	client, conn, err := d.kafka.client(ctx)
	if err != nil {
		return nil, err
	}
	topics, err := kadm.NewClient(client).ListTopics(ctx)
	client.Close()
	if err != nil {
		return nil, fmt.Errorf("asking for the topics: %w", err)
	}
	var groups []string
	for _, name := range topics.Names() {
		if group, is := strings.CutPrefix(name, parkedIn); is && !strings.HasSuffix(name, ".log") {
			groups = append(groups, group)
		}
	}
	place := "kafka " + strings.Join(conn.Brokers, ",")
	group := d.group
	switch {
	case len(groups) == 0:
		return nil, fmt.Errorf("%s: no group parks here (there is no topic %s*); is what you look for in a database? say --postgres or --sqlite", place, parkedIn)
	case group == "" && len(groups) > 1:
		return nil, usageError{fmt.Errorf("which group? %s has several: say --group %s", place, strings.Join(groups, " or --group "))}
	case group == "":
		group = groups[0]
	case !topics.Has(parkedIn + group):
		return nil, fmt.Errorf("group %q parks nothing in Kafka: there is no topic %s%s%s", group, parkedIn, group, near.Suggest(group, groups))
	}
	store, err := kafkastore.New(kafkastore.Config{Connection: conn, Group: group, Timeout: d.kafka.timeout, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, usageError{err}
	}
	running, stop := context.WithCancel(context.WithoutCancel(cmd.Context()))
	var failed error // when ended
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		failed = store.Run(running)
	}()
	k := &desk{Store: store.Letters(), group: group, place: place, flags: d.again(cmd), close: func() {
		stop()
		<-ended
	}}
	for {
		select {
		case <-ended:
			stop()
			return nil, fmt.Errorf("reading what group %q has parked: %w", group, failed)
		default:
		}
		if err = store.Ready(ctx); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			k.close()
			if cmd.Context().Err() != nil {
				return nil, cmd.Context().Err()
			}
			return nil, unreachableError{fmt.Errorf("reading what group %q has parked took more than %s (--timeout): %w", group, d.kafka.timeout, err)}
		case <-time.After(20 * time.Millisecond):
		}
	}
	if k.handlers, err = k.Handlers(ctx, group); err != nil {
		k.close()
		return nil, err
	}
	return k, nil
}
