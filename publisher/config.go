package publisher

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go/compress"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/event"
)

// Config says how a Publisher works. Only Connection has no useful zero value.
type Config struct {
	Connection connection.Config

	// TopicFor chooses an event's topic. It must give the same topic for every
	// event of an aggregate, or their order is lost. nil: TopicPrefix and then
	// the aggregate's type, so that events of an "order" are in topic "order".
	TopicFor func(event.Event) string
	// TopicPrefix stands before the aggregate type. Not used with TopicFor.
	TopicPrefix string

	// Compression of the batches. Zero: none.
	Compression Compression

	// MaxBatchBytes bounds one batch before compression, framing included. 0:
	// 1,000,000, just under the brokers' default message.max.bytes of 1,048,588.
	// A single event over it is sent alone, and the broker decides.
	MaxBatchBytes int
	// MaxBatchEvents bounds the events of one batch. 0: 10,000.
	MaxBatchEvents int

	// MaxBufferedEvents and MaxBufferedBytes bound what waits or is in flight
	// in the whole publisher, over all callers. 0: 100,000 and 64 MiB. A full
	// buffer blocks Publish until there is room or its context ends.
	MaxBufferedEvents int
	MaxBufferedBytes  int

	// RequestTimeout bounds one request and its answer; after it the outcome is
	// unknown and the batch is sent again. 0: 10 s.
	RequestTimeout time.Duration
	// DialTimeout bounds connecting, TLS and authentication included. 0: 5 s.
	DialTimeout time.Duration
	// MetadataMaxAge is how old the knowledge of a topic may be when an event
	// for it is accepted: so soon a grown topic is noticed. 0: 30 s.
	MetadataMaxAge time.Duration

	// WithoutControlTopic does without the control topic, for clusters whose
	// ACLs forbid it. Partition counts are then remembered by this process
	// alone: growth is noticed while it runs, not across a restart.
	WithoutControlTopic bool

	// Logger receives retries, refused topics and adopted partition counts.
	// nil: slog.Default().
	Logger *slog.Logger
	// Metrics receives the tidings_publisher_ metrics. nil: none.
	Metrics prometheus.Registerer
}

// Compression names a codec for batches.
type Compression string

// The codecs of Kafka's record batches (KIP-98, KIP-110). "" is NoCompression.
const (
	NoCompression Compression = "none"
	Gzip          Compression = "gzip"
	Snappy        Compression = "snappy"
	LZ4           Compression = "lz4"
	Zstd          Compression = "zstd"
)

func (c Compression) codec() (compress.Compression, error) {
	switch c {
	case "", NoCompression:
		return compress.None, nil
	case Gzip:
		return compress.Gzip, nil
	case Snappy:
		return compress.Snappy, nil
	case LZ4:
		return compress.Lz4, nil
	case Zstd:
		return compress.Zstd, nil
	}
	return 0, fmt.Errorf("publisher: Compression is %q: set one of %s, %s, %s, %s, %s",
		string(c), NoCompression, Gzip, Snappy, LZ4, Zstd)
}

// validate reports everything that is wrong with c, before defaults.
func (c Config) validate() error {
	errs := []error{c.Connection.Validate()}
	if _, err := c.Compression.codec(); err != nil {
		errs = append(errs, err)
	}
	if c.TopicPrefix != "" {
		if err := validTopic(c.TopicPrefix + "x"); err != nil {
			errs = append(errs, fmt.Errorf("publisher: TopicPrefix is %q: %w", c.TopicPrefix, err))
		}
		if c.TopicFor != nil {
			errs = append(errs, fmt.Errorf("publisher: TopicPrefix is %q but TopicFor is set: put the prefix into TopicFor", c.TopicPrefix))
		}
	}
	for _, n := range []struct {
		name  string
		value int
		limit int
	}{
		{"MaxBatchBytes", c.MaxBatchBytes, 1 << 30},
		{"MaxBatchEvents", c.MaxBatchEvents, 1_000_000},
		{"MaxBufferedEvents", c.MaxBufferedEvents, 1 << 30},
		{"MaxBufferedBytes", c.MaxBufferedBytes, 1 << 40},
	} {
		if n.value < 0 || n.value > n.limit {
			errs = append(errs, fmt.Errorf("publisher: %s is %d: set 1 to %d, or 0 for the default", n.name, n.value, n.limit))
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"RequestTimeout", c.RequestTimeout},
		{"DialTimeout", c.DialTimeout},
		{"MetadataMaxAge", c.MetadataMaxAge},
	} {
		if d.value < 0 {
			errs = append(errs, fmt.Errorf("publisher: %s is %s: set a positive duration, or 0 for the default", d.name, d.value))
		}
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.TopicFor == nil {
		prefix := c.TopicPrefix
		c.TopicFor = func(e event.Event) string { return prefix + e.Aggregate().Type }
	}
	c.MaxBatchBytes = orElse(c.MaxBatchBytes, 1_000_000)
	c.MaxBatchEvents = orElse(c.MaxBatchEvents, 10_000)
	c.MaxBufferedEvents = orElse(c.MaxBufferedEvents, 100_000)
	c.MaxBufferedBytes = orElse(c.MaxBufferedBytes, 64<<20)
	c.RequestTimeout = orElse(c.RequestTimeout, 10*time.Second)
	c.DialTimeout = orElse(c.DialTimeout, 5*time.Second)
	c.MetadataMaxAge = orElse(c.MetadataMaxAge, 30*time.Second)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func orElse[T int | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// validTopic reports why name is no topic name, by the rules of Kafka's
// Topic.validate.
func validTopic(name string) error {
	switch {
	case name == "":
		return errors.New("the topic name is empty: the aggregate type, or what TopicFor returns, must name a topic")
	case name == "." || name == "..":
		return fmt.Errorf("topic name %q is not allowed by Kafka", name)
	case len(name) > 249:
		return fmt.Errorf("topic name %q is %d characters long: Kafka allows 249", name[:40]+"...", len(name))
	}
	for _, r := range name {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '_' && r != '-' {
			return fmt.Errorf("topic name %q has %q in it: Kafka allows letters, digits, '.', '_' and '-'", name, r)
		}
	}
	return nil
}
