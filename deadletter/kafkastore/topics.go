package kafkastore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/tidings-bus/tidings/connection"
)

const (
	// maxRecord is the largest parked event, with what is known about it. One
	// that was edited has its original with it.
	maxRecord = 8 << 20
	// A record is not compacted away before every member had time to read it, and
	// a tombstone not before one that was away for days did.
	compactionLag   = time.Hour
	deleteRetention = 7 * 24 * time.Hour
)

// Check implements inbox.Keeper: it makes the topics where they are missing, and
// fails when they are not what the store needs, or no broker is reachable within
// Config.Timeout.
func (s *Store) Check(ctx context.Context) error {
	c := &s.config
	client, err := kgo.NewClient(connectionOptions(c)...)
	if err != nil {
		return fmt.Errorf("kafkastore: connect to %v: %w", c.Connection, err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	admin := kadm.NewClient(client)
	for topic, config := range map[string]map[string]string{
		c.Topic: {
			"cleanup.policy":         "compact",
			"min.compaction.lag.ms":  ms(compactionLag),
			"delete.retention.ms":    ms(deleteRetention),
			"max.message.bytes":      strconv.Itoa(maxRecord),
			"message.timestamp.type": "LogAppendTime",
		},
		c.notes(): {
			"cleanup.policy":         "delete",
			"retention.ms":           ms(c.Retention),
			"max.message.bytes":      strconv.Itoa(maxRecord),
			"message.timestamp.type": "LogAppendTime",
		},
	} {
		if err := ensure(ctx, admin, topic, config); err != nil {
			return fmt.Errorf("kafkastore: topic %q of the dead letters of group %q: %w", topic, c.Group, err)
		}
	}
	return nil
}

// ensure makes a topic, unless it exists as it should be.
func ensure(ctx context.Context, admin *kadm.Client, topic string, config map[string]string) error {
	settings := map[string]*string{}
	for name, value := range config {
		settings[name] = new(value)
	}
	created, err := admin.CreateTopic(ctx, 1, -1, settings, topic)
	if err == nil {
		err = created.Err
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.TopicAlreadyExists):
		for {
			err := fits(ctx, admin, topic, config)
			if !errors.Is(err, kerr.UnknownTopicOrPartition) {
				return err
			}
			select { // another member makes it: not every broker knows it yet
			case <-ctx.Done():
				return err
			case <-time.After(50 * time.Millisecond):
			}
		}
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		// It may be there, made by somebody who may.
		if err := fits(ctx, admin, topic, config); err != nil {
			return fmt.Errorf("not allowed to make it, and: %w; make it with one partition, cleanup.policy=%s and max.message.bytes=%d, or grant CREATE",
				err, config["cleanup.policy"], maxRecord)
		}
		return nil
	default:
		return fmt.Errorf("make it: %w; check that the brokers listen at the addresses given", err)
	}
}

// fits reports what of an existing topic would lose letters or their order.
func fits(ctx context.Context, admin *kadm.Client, topic string, want map[string]string) error {
	topics, err := admin.ListTopics(ctx, topic)
	if err != nil {
		return fmt.Errorf("look it up: %w", err)
	}
	t := topics[topic]
	if t.Err != nil {
		return fmt.Errorf("look it up: %w", t.Err)
	}
	if n := len(t.Partitions); n != 1 {
		return fmt.Errorf("it has %d partitions, and order needs 1: name another topic", n)
	}
	configs, err := admin.DescribeTopicConfigs(ctx, topic)
	if err == nil && len(configs) == 1 {
		err = configs[0].Err
	}
	if errors.Is(err, kerr.TopicAuthorizationFailed) {
		return nil // it may be used and not described
	}
	if err != nil {
		return fmt.Errorf("look up its configuration: %w", err)
	}
	const policy = "cleanup.policy"
	for _, c := range configs[0].Configs {
		if got := c.MaybeValue(); c.Key == policy && strings.TrimSpace(got) != want[policy] {
			return fmt.Errorf("its %s is %q, and parked events would be lost: set it to %q", policy, got, want[policy])
		}
	}
	return nil
}

func ms(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

func connectionOptions(c *Config) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Connection.Brokers...),
		kgo.ClientID(c.Connection.Client()),
		kgo.WithLogger(clientLogger{c.Logger}),
		kgo.MetadataMinAge(250 * time.Millisecond), // a partition's new leader is found soon
		kgo.RetryBackoffFn(func(n int) time.Duration { return min(time.Second, 50*time.Millisecond<<min(n, 6)) }),
	}
	if c.Connection.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(c.Connection.TLS.Clone()))
	}
	if a := c.Connection.SASL; a != nil {
		opts = append(opts, kgo.SASL(mechanism(*a)))
	}
	return opts
}

func mechanism(a connection.SASL) sasl.Mechanism {
	switch a.Mechanism {
	case connection.ScramSHA256:
		return scram.Auth{User: a.Username, Pass: a.Password}.AsSha256Mechanism()
	case connection.ScramSHA512:
		return scram.Auth{User: a.Username, Pass: a.Password}.AsSha512Mechanism()
	case connection.Plain:
	}
	return plain.Auth{User: a.Username, Pass: a.Password}.AsMechanism()
}

// clientLogger passes the client's errors on.
type clientLogger struct{ log *slog.Logger }

func (l clientLogger) Level() kgo.LogLevel { return kgo.LogLevelError }

func (l clientLogger) Log(_ kgo.LogLevel, msg string, pairs ...any) {
	l.log.Error("kafka client: "+msg, pairs...)
}
