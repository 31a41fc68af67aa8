package publisher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/tidings-bus/tidings/connection"
)

// Topics creates and lists topics, and keeps their recorded partition counts. It
// is safe for concurrent use and starts no goroutine.
type Topics struct {
	wire   *wire
	ledger *ledger // nil: without the control topic
}

// TopicsConfig says how Topics reaches the cluster.
type TopicsConfig struct {
	Connection connection.Config
	// RequestTimeout bounds one request. 0: 30 s.
	RequestTimeout time.Duration
	// DialTimeout bounds connecting. 0: 5 s.
	DialTimeout time.Duration
	// WithoutControlTopic records no partition counts, as in Config.
	WithoutControlTopic bool
}

// TopicSpec is a topic to be.
type TopicSpec struct {
	Name string
	// Partitions is how many keys' lanes can be spread over processes. Growing
	// later moves keys: choose for years. 0: 6.
	Partitions int
	// Replication is the number of brokers that hold a copy. 0: the brokers'
	// default.
	Replication int
	// Retention is how long events are kept. 0: the brokers' default. Negative:
	// for ever.
	Retention time.Duration
	// Config holds further settings by their Kafka names, such as
	// "max.message.bytes".
	Config map[string]string
}

// Topic is a topic that is there.
type Topic struct {
	Name        string
	Partitions  int
	Replication int
	// Recorded is the recorded partition count; 0 when none is, as before the
	// first event. Publishers refuse a topic whose Partitions differ from it.
	Recorded int
}

const defaultPartitions = 6

// NewTopics makes a Topics. It does not connect.
func NewTopics(config TopicsConfig) (*Topics, error) {
	errs := []error{config.Connection.Validate()}
	for name, d := range map[string]time.Duration{"RequestTimeout": config.RequestTimeout, "DialTimeout": config.DialTimeout} {
		if d < 0 {
			errs = append(errs, fmt.Errorf("publisher: TopicsConfig.%s is %s: set a positive duration, or 0 for the default", name, d))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	w, err := newWire(config.Connection, orElse(config.DialTimeout, 5*time.Second), orElse(config.RequestTimeout, 30*time.Second))
	if err != nil {
		return nil, fmt.Errorf("publisher: %w", err)
	}
	t := &Topics{wire: w}
	if !config.WithoutControlTopic {
		t.ledger = newLedger(w)
	}
	return t, nil
}

// Create makes the topics that are missing, waits until each of their partitions
// has a leader, and records their partition counts. A topic that is there with
// the same partition count is fine, whatever its other settings; with another
// count it is an error that names both. Topics before a failure may have been
// made: calling again is safe.
func (t *Topics) Create(ctx context.Context, specs ...TopicSpec) error {
	if len(specs) == 0 {
		return nil
	}
	var errs []error
	wanted := make(map[string]int, len(specs))
	names := make([]string, 0, len(specs))
	configs := make([]kafka.TopicConfig, 0, len(specs))
	for _, s := range specs {
		if err := s.Validate(); err != nil {
			errs = append(errs, err)
			continue
		}
		if _, twice := wanted[s.Name]; twice {
			errs = append(errs, fmt.Errorf("create topic %q: it is listed twice", s.Name))
			continue
		}
		wanted[s.Name] = orElse(s.Partitions, defaultPartitions)
		names = append(names, s.Name)
		configs = append(configs, s.config())
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	there, err := t.partitions(ctx, names)
	if err != nil {
		return err
	}
	configs = slices.DeleteFunc(configs, func(c kafka.TopicConfig) bool { return there[c.Topic] > 0 })
	if len(configs) > 0 {
		err := createTopics(ctx, t.wire, configs...)
		if err != nil && !onlyExisting(err) {
			return err
		}
		if err := awaitTopic(ctx, t.wire, names...); err != nil {
			return fmt.Errorf("create topics %s: %w", strings.Join(names, ", "), err)
		}
		if there, err = t.partitions(ctx, names); err != nil {
			return err
		}
	}
	for _, name := range names {
		if there[name] != wanted[name] {
			errs = append(errs, fmt.Errorf("create topic %q with %d partitions: it is there with %d: %w: ask for %d, or choose another name",
				name, wanted[name], there[name], kafka.TopicAlreadyExists, there[name]))
			continue
		}
		errs = append(errs, t.recordFirst(ctx, name, there[name]))
	}
	return errors.Join(errs...)
}

// recordFirst records count unless a count is recorded, which must be the same.
func (t *Topics) recordFirst(ctx context.Context, name string, count int) error {
	if t.ledger == nil {
		return nil
	}
	recorded, _, err := t.ledger.reconcile(ctx, name, count)
	if err != nil {
		return fmt.Errorf("record partition count of topic %q: %w", name, err)
	}
	if recorded != count {
		return fmt.Errorf("topic %q has %d partitions, recorded are %d: %w: publishers refuse it: make it anew with %d partitions, or, when every consumer group has read it to its end, call publisher.Topics.Accept",
			name, count, recorded, ErrPartitionsChanged, recorded)
	}
	return nil
}

// Accept records the present partition count of a topic, whatever was recorded:
// publishers go on with it within their MetadataMaxAge, and keys may be in other
// partitions from then on. Call it when no publisher is writing the topic and
// every consumer group has read it to its end; otherwise a key's later events
// may be handled before its earlier ones.
func (t *Topics) Accept(ctx context.Context, name string) error {
	if t.ledger == nil {
		return fmt.Errorf("accept topic %q: TopicsConfig.WithoutControlTopic is set: there is no record to change", name)
	}
	there, err := t.partitions(ctx, []string{name})
	if err != nil {
		return err
	}
	if there[name] == 0 {
		return fmt.Errorf("accept topic %q: %w: create it first", name, ErrUnknownTopic)
	}
	if err := t.ledger.record(ctx, name, there[name]); err != nil {
		return fmt.Errorf("accept topic %q: %w", name, err)
	}
	return nil
}

// List returns the cluster's topics by name, without Kafka's internal ones and
// the control topic.
func (t *Topics) List(ctx context.Context) ([]Topic, error) {
	res, err := t.wire.metadata(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	recorded := make(map[string]int)
	if t.ledger != nil {
		if recorded, err = t.ledger.counts(ctx); err != nil {
			return nil, fmt.Errorf("list topics: %w", err)
		}
	}
	var topics []Topic
	for _, d := range res.Topics {
		if d.IsInternal || d.ErrorCode != 0 || d.Name == ControlTopic || strings.HasPrefix(d.Name, "__") {
			continue
		}
		replication := 0
		if len(d.Partitions) > 0 {
			replication = len(d.Partitions[0].ReplicaNodes)
		}
		topics = append(topics, Topic{Name: d.Name, Partitions: len(d.Partitions), Replication: replication, Recorded: recorded[d.Name]})
	}
	slices.SortFunc(topics, func(a, b Topic) int { return strings.Compare(a.Name, b.Name) })
	return topics, nil
}

// Close closes the connections. Calls that run fail with ErrClosed or a network
// error.
func (t *Topics) Close() error {
	t.wire.close()
	return nil
}

// partitions returns the partition counts of those of names that are there.
func (t *Topics) partitions(ctx context.Context, names []string) (map[string]int, error) {
	res, err := t.wire.metadata(ctx, names)
	if err != nil {
		return nil, fmt.Errorf("describe topics %s: %w", strings.Join(names, ", "), err)
	}
	counts := make(map[string]int, len(names))
	for _, name := range names {
		d, err := describedTopic(res, name)
		if errors.Is(err, ErrUnknownTopic) {
			continue
		}
		if err != nil {
			return nil, err
		}
		counts[name] = len(d.Partitions)
	}
	return counts, nil
}

// Validate reports the first field that cannot be used, and what would do.
func (s TopicSpec) Validate() error {
	if err := validTopic(s.Name); err != nil {
		return fmt.Errorf("create topic: %w", err)
	}
	if s.Name == ControlTopic {
		return fmt.Errorf("create topic %q: the name is taken by the control topic, which is made when it is first needed", s.Name)
	}
	if s.Partitions < 0 || s.Partitions > 100_000 {
		return fmt.Errorf("create topic %q: Partitions is %d: set 1 or more, or 0 for %d", s.Name, s.Partitions, defaultPartitions)
	}
	if s.Replication < 0 || s.Replication > 1000 {
		return fmt.Errorf("create topic %q: Replication is %d: set 1 or more, or 0 for the brokers' default", s.Name, s.Replication)
	}
	if _, both := s.Config["retention.ms"]; both && s.Retention != 0 {
		return fmt.Errorf("create topic %q: Retention is %s and Config has retention.ms: set one of them", s.Name, s.Retention)
	}
	return nil
}

func (s TopicSpec) config() kafka.TopicConfig {
	c := kafka.TopicConfig{
		Topic:             s.Name,
		NumPartitions:     orElse(s.Partitions, defaultPartitions),
		ReplicationFactor: s.Replication,
	}
	if s.Replication == 0 {
		c.ReplicationFactor = -1 // the brokers' default (KIP-464)
	}
	for name, value := range s.Config {
		c.ConfigEntries = append(c.ConfigEntries, kafka.ConfigEntry{ConfigName: name, ConfigValue: value})
	}
	if s.Retention != 0 {
		ms := int64(-1)
		if s.Retention > 0 {
			ms = s.Retention.Milliseconds()
		}
		c.ConfigEntries = append(c.ConfigEntries, kafka.ConfigEntry{ConfigName: "retention.ms", ConfigValue: strconv.FormatInt(ms, 10)})
	}
	return c
}

// onlyExisting says that the only trouble was that another made the topics first.
func onlyExisting(err error) bool {
	joined, is := err.(interface{ Unwrap() []error }) // createTopics joins them itself
	if !is {
		return errors.Is(err, kafka.TopicAlreadyExists)
	}
	for _, e := range joined.Unwrap() {
		if !errors.Is(e, kafka.TopicAlreadyExists) {
			return false
		}
	}
	return true
}
