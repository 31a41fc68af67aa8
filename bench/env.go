package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/tidings-bus/tidings/internal/testenv"
)

// env holds the broker and the database, each started when first asked for.
type env struct {
	kafka    *testenv.Broker
	postgres *testenv.Server
	peers    string // where the Java peers were built
}

func (e *env) logf(format string, args ...any) {
	_, _ = fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

func (e *env) brokers() ([]string, error) {
	if given := os.Getenv("BENCH_KAFKA"); given != "" {
		return strings.Split(given, ","), nil
	}
	if e.kafka == nil {
		b, err := testenv.LaunchKafka(testenv.KafkaOptions{})
		if err != nil {
			return nil, fmt.Errorf("start Kafka (or name one in BENCH_KAFKA): %w", err)
		}
		e.kafka = b
	}
	return e.kafka.Brokers, nil
}

func (e *env) database() (string, error) {
	if given := os.Getenv("BENCH_POSTGRES"); given != "" {
		return given, nil
	}
	if e.postgres == nil {
		s, err := testenv.LaunchPostgres(testenv.PostgresOptions{})
		if err != nil {
			return "", fmt.Errorf("start PostgreSQL (or name one in BENCH_POSTGRES): %w", err)
		}
		e.postgres = s
	}
	return e.postgres.URL, nil
}

func (e *env) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var errs []error
	if e.kafka != nil {
		errs = append(errs, e.kafka.Remove(ctx))
	}
	if e.postgres != nil {
		errs = append(errs, e.postgres.Remove(ctx))
	}
	if e.peers != "" {
		errs = append(errs, os.RemoveAll(e.peers))
	}
	return errors.Join(errs...)
}

// topic makes a topic nobody else uses and waits until its partitions have leaders.
func (e *env) topic(ctx context.Context, name string, partitions int) (topic string, brokers []string, err error) {
	brokers, err = e.brokers() //nolint:contextcheck // a container starts within its own limit
	if err != nil {
		return "", nil, err
	}
	topic = testenv.Name("bench-" + name)
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(brokers...), Transport: transport}
	made, err := client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{
		{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1},
	}})
	if err != nil {
		return "", nil, fmt.Errorf("create topic %s: %w", topic, err)
	}
	if err := made.Errors[topic]; err != nil {
		return "", nil, fmt.Errorf("create topic %s: %w", topic, err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		meta, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
		if err == nil && len(meta.Topics) == 1 && meta.Topics[0].Error == nil && led(meta.Topics[0], partitions) {
			return topic, brokers, nil
		}
		select {
		case <-ctx.Done():
			return "", nil, fmt.Errorf("topic %s got no leaders: %w", topic, ctx.Err())
		case <-tick.C:
		}
	}
}

func led(t kafka.Topic, partitions int) bool {
	for _, p := range t.Partitions {
		if p.Error != nil || p.Leader.Host == "" {
			return false
		}
	}
	return len(t.Partitions) == partitions
}

func join(errs ...error) error { return errors.Join(errs...) }
