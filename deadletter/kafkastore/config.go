package kafkastore

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"github.com/tidings-bus/tidings/connection"
)

// Config makes a Store. Connection and Group are required; every other zero
// value is a sensible default.
type Config struct {
	Connection connection.Config
	// Group is the consumer group whose events are parked.
	Group string
	// Topic is the topic of the letters; that of the log is Topic + ".log".
	// Empty: "tidings.parked." + Group.
	Topic string
	// Retention is how long requests, claims and the audit log are kept: the
	// topic's, when it is made. At least an hour. Zero: 30 days.
	Retention time.Duration
	// MaxBytes bounds the parked events of all handlers, as every member has them
	// in memory: records, errors and stacks, and 1 KiB for each. Zero: 256 MiB.
	MaxBytes int64
	// Timeout bounds each wait for the brokers. Zero: 10 s.
	Timeout time.Duration
	// Logger: nil means slog.Default().
	Logger *slog.Logger
}

const (
	defaultPrefix    = "tidings.parked."
	defaultRetention = 30 * 24 * time.Hour
	minRetention     = time.Hour
	defaultMaxBytes  = 256 << 20
	defaultTimeout   = 10 * time.Second
)

var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,245}$`)

func (c Config) withDefaults() Config {
	if c.Topic == "" {
		c.Topic = defaultPrefix + c.Group
	}
	if c.Retention == 0 {
		c.Retention = defaultRetention
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = defaultMaxBytes
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c Config) validate() error {
	if err := c.Connection.Validate(); err != nil {
		return fmt.Errorf("kafkastore: %w", err)
	}
	switch {
	case c.Group == "":
		return errors.New("kafkastore: Group is empty: name the consumer group whose events are parked")
	case !topicName.MatchString(c.Topic):
		return fmt.Errorf("kafkastore: Topic is %q: use letters, digits, '.', '_' and '-', at most 245 of them", c.Topic)
	case c.Retention < minRetention:
		return fmt.Errorf("kafkastore: Retention is %v: use %v or more, or 0 for %v", c.Retention, minRetention, defaultRetention)
	case c.MaxBytes < 0:
		return fmt.Errorf("kafkastore: MaxBytes is %d: use a positive number, or 0 for %d", c.MaxBytes, defaultMaxBytes)
	case c.Timeout < 0:
		return fmt.Errorf("kafkastore: Timeout is %v: use a positive duration, or 0 for %v", c.Timeout, defaultTimeout)
	}
	return nil
}

func (c Config) notes() string { return c.Topic + ".log" }
