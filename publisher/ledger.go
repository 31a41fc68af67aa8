package publisher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// ControlTopic is the compacted topic of one partition in which the partition
// counts of topics are recorded: key = topic name, value = JSON
// {"topic", "partitions", "at"}; the last record of a key holds, and one without
// a value says that nothing is recorded.
const ControlTopic = "tidings.topics"

// ledger reads and writes the control topic.
type ledger struct {
	wire    *wire
	gate    chan struct{} // one at a time
	trouble trouble
	next    int64 // the first offset not read; -1: nothing was read
	read    map[string]int
}

// entry is the value of a record in the control topic.
type entry struct {
	Topic      string    `json:"topic"`
	Partitions int       `json:"partitions"`
	At         time.Time `json:"at"`
}

func newLedger(w *wire) *ledger {
	return &ledger{wire: w, gate: make(chan struct{}, 1), next: -1, read: make(map[string]int)}
}

// reconcile returns the count recorded for topic. If there is none, count is
// recorded: adopted is true, and recorded is what holds then, as another may
// have done the same at the same moment.
func (l *ledger) reconcile(ctx context.Context, topic string, count int) (recorded int, adopted bool, err error) {
	err = l.exclusive(ctx, func() error {
		if err := l.catchUp(ctx); err != nil {
			return err
		}
		if n, is := l.read[topic]; is {
			recorded = n
			return nil
		}
		if err := l.append(ctx, topic, count); err != nil {
			return err
		}
		adopted = true
		if err := l.catchUp(ctx); err != nil {
			return err
		}
		recorded = l.read[topic]
		return nil
	})
	return recorded, adopted, err
}

// record writes count as topic's, whatever was recorded.
func (l *ledger) record(ctx context.Context, topic string, count int) error {
	return l.exclusive(ctx, func() error {
		if err := l.catchUp(ctx); err != nil {
			return err
		}
		return l.append(ctx, topic, count)
	})
}

// counts returns every recorded count.
func (l *ledger) counts(ctx context.Context) (map[string]int, error) {
	counts := make(map[string]int)
	err := l.exclusive(ctx, func() error {
		if _, err := l.leader(ctx); errors.Is(err, ErrUnknownTopic) {
			return nil // nothing was ever recorded
		}
		if err := l.catchUp(ctx); err != nil {
			return err
		}
		maps.Copy(counts, l.read)
		return nil
	})
	return counts, err
}

func (l *ledger) exclusive(ctx context.Context, do func() error) error {
	select {
	case l.gate <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("control topic %q: %w", ControlTopic, l.trouble.ended(ctx))
	}
	defer func() { <-l.gate }()
	err := do()
	l.trouble.note(ctx, err)
	if err != nil {
		return fmt.Errorf("control topic %q: %w", ControlTopic, err)
	}
	return nil
}

// catchUp reads from where the last read ended to the end. It makes the topic
// when it is missing.
func (l *ledger) catchUp(ctx context.Context) error {
	address, err := l.leader(ctx)
	if errors.Is(err, ErrUnknownTopic) {
		if err := l.create(ctx); err != nil {
			return err
		}
		address, err = l.leader(ctx)
	}
	if err != nil {
		return err
	}
	client := &kafka.Client{Addr: kafka.TCP(address), Transport: l.wire}
	var pause backoff
	for {
		end, err := l.bounds(ctx, client)
		if err != nil {
			return err
		}
		read := true
		for l.next < end && read {
			if read, err = l.fetch(ctx, client); err != nil {
				return err
			}
		}
		if l.next >= end {
			return nil
		}
		// A broker may answer with nothing, under a quota for one, although there
		// is something: to pass it over would be to take a new count for the first.
		if !sleep(ctx, nil, pause.next()) {
			return ended(ctx, fmt.Errorf("broker %s gives nothing of what is from offset %d to %d", address, l.next, end))
		}
	}
}

// bounds returns the topic's end, and moves to its start where that is ahead.
func (l *ledger) bounds(ctx context.Context, client *kafka.Client) (end int64, err error) {
	first, err := l.offset(ctx, client, kafka.FirstOffset)
	if err != nil {
		return 0, err
	}
	if end, err = l.offset(ctx, client, kafka.LastOffset); err != nil {
		return 0, err
	}
	if end < l.next || l.next < 0 { // never read, or made anew
		l.next = first
		clear(l.read)
	}
	l.next = max(l.next, first)
	return end, nil
}

// fetch reads on; false when the answer held nothing.
func (l *ledger) fetch(ctx context.Context, client *kafka.Client) (read bool, err error) {
	res, err := client.Fetch(ctx, &kafka.FetchRequest{
		Topic: ControlTopic, Offset: l.next, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: 500 * time.Millisecond,
	})
	if errors.Is(err, protocol.ErrNoTopic) || errors.Is(err, protocol.ErrNoPartition) || (err == nil && errors.Is(res.Error, kafka.OffsetOutOfRange)) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if res.Error != nil {
		return false, res.Error
	}
	for {
		r, err := res.Records.ReadRecord()
		if errors.Is(err, io.EOF) {
			return read, nil
		}
		if err != nil {
			return read, err
		}
		key, err := protocol.ReadAll(r.Key)
		if err != nil {
			return read, err
		}
		value, err := protocol.ReadAll(r.Value)
		if err != nil {
			return read, err
		}
		if r.Offset < l.next {
			continue // the batch began before what was asked for
		}
		l.next, read = r.Offset+1, true
		l.apply(string(key), value)
	}
}

// apply takes one record in. What is no entry is passed over: it records nothing.
func (l *ledger) apply(topic string, value []byte) {
	if value == nil {
		delete(l.read, topic)
		return
	}
	var e entry
	if json.Unmarshal(value, &e) == nil && e.Partitions > 0 {
		l.read[topic] = e.Partitions
	}
}

func (l *ledger) append(ctx context.Context, topic string, count int) error {
	address, err := l.leader(ctx)
	if err != nil {
		return err
	}
	value, err := json.Marshal(entry{Topic: topic, Partitions: count, At: time.Now().UTC()})
	if err != nil {
		return err
	}
	client := &kafka.Client{Addr: kafka.TCP(address), Transport: l.wire, Timeout: l.wire.requestTimeout}
	res, err := client.Produce(ctx, &kafka.ProduceRequest{
		Topic: ControlTopic, RequiredAcks: kafka.RequireAll,
		Records: kafka.NewRecordReader(kafka.Record{Key: kafka.NewBytes([]byte(topic)), Value: kafka.NewBytes(value)}),
	})
	if err != nil {
		return err
	}
	if errors.Is(res.Error, kafka.TopicAuthorizationFailed) {
		return fmt.Errorf("%w to write it: %w: %s", ErrNotAuthorized, res.Error, withoutIt)
	}
	return res.Error
}

const withoutIt = "grant the user CREATE, DESCRIBE, READ and WRITE on it, or set WithoutControlTopic"

func (l *ledger) leader(ctx context.Context) (string, error) {
	res, err := l.wire.metadata(ctx, []string{ControlTopic})
	if err != nil {
		return "", err
	}
	d, err := describedTopic(res, ControlTopic)
	if errors.Is(err, ErrNotAuthorized) {
		return "", fmt.Errorf("%w: %s", err, withoutIt)
	}
	if err != nil {
		return "", err
	}
	address := leaderOf(res, d.Partitions[0])
	if address == nil {
		return "", fmt.Errorf("no leader: %w", kafka.LeaderNotAvailable)
	}
	return *address, nil
}

func (l *ledger) offset(ctx context.Context, client *kafka.Client, which int64) (int64, error) {
	res, err := client.ListOffsets(ctx, &kafka.ListOffsetsRequest{
		Topics: map[string][]kafka.OffsetRequest{ControlTopic: {{Partition: 0, Timestamp: which}}},
	})
	if err != nil {
		return 0, err
	}
	partitions := res.Topics[ControlTopic]
	if len(partitions) == 0 {
		return 0, errors.New("the broker gave no offset")
	}
	p := partitions[0]
	if errors.Is(p.Error, kafka.TopicAuthorizationFailed) {
		return 0, fmt.Errorf("%w to read it: %w: %s", ErrNotAuthorized, p.Error, withoutIt)
	}
	if p.Error != nil {
		return 0, p.Error
	}
	// Brokers answer with timestamp -1, which kafka-go takes for the last offset,
	// whichever was asked for.
	return max(p.FirstOffset, p.LastOffset), nil
}

// create makes the control topic; another may do so at the same moment.
func (l *ledger) create(ctx context.Context) error {
	err := createTopics(ctx, l.wire, kafka.TopicConfig{
		Topic: ControlTopic, NumPartitions: 1, ReplicationFactor: -1,
		ConfigEntries: []kafka.ConfigEntry{{ConfigName: "cleanup.policy", ConfigValue: "compact"}},
	})
	if errors.Is(err, kafka.TopicAlreadyExists) {
		err = nil
	}
	if errors.Is(err, ErrNotAuthorized) {
		return fmt.Errorf("%w: %s", err, withoutIt)
	}
	if err != nil {
		return err
	}
	return awaitTopic(ctx, l.wire, ControlTopic)
}

// createTopics asks the controller for topics and joins its refusals.
func createTopics(ctx context.Context, w *wire, topics ...kafka.TopicConfig) error {
	meta, err := w.metadata(ctx, []string{})
	if err != nil {
		return err
	}
	address := ""
	for _, b := range meta.Brokers {
		if address == "" || b.NodeID == meta.ControllerID {
			address = brokerAddress(b)
		}
	}
	client := &kafka.Client{Addr: kafka.TCP(address), Transport: w, Timeout: w.requestTimeout}
	res, err := client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: topics})
	if err != nil {
		return fmt.Errorf("create topics: %w", err)
	}
	var errs []error
	for _, t := range topics {
		err := res.Errors[t.Topic]
		switch {
		case err == nil:
		case errors.Is(err, kafka.TopicAuthorizationFailed), errors.Is(err, kafka.ClusterAuthorizationFailed):
			errs = append(errs, fmt.Errorf("%w to create topic %q: %w", ErrNotAuthorized, t.Topic, err))
		case errors.Is(err, kafka.InvalidReplicationFactor):
			errs = append(errs, fmt.Errorf("create topic %q: %w: %s", t.Topic, err, tooManyCopies(t.ReplicationFactor, len(meta.Brokers))))
		default:
			errs = append(errs, fmt.Errorf("create topic %q: %w", t.Topic, err))
		}
	}
	return errors.Join(errs...)
}

// tooManyCopies is the way out when a topic was to have more copies than there
// are brokers; -1 is the brokers' default.
func tooManyCopies(copies, brokers int) string {
	there := "1 broker"
	if brokers != 1 {
		there = strconv.Itoa(brokers) + " brokers"
	}
	if copies < 0 {
		return fmt.Sprintf("the cluster has %s, the brokers' default asks for more: set a replication of at most %d", there, brokers)
	}
	return fmt.Sprintf("the cluster has %s: lower the replication from %d, or set 0 for the brokers' default", there, copies)
}

// awaitTopic waits until the brokers know a leader for each partition of names.
func awaitTopic(ctx context.Context, w *wire, names ...string) error {
	var pause backoff
	for {
		res, err := w.metadata(ctx, names)
		if err == nil {
			var missing []string
			for _, name := range names {
				if !hasLeaders(res, name) {
					missing = append(missing, name)
				}
			}
			if len(missing) == 0 {
				return nil
			}
			err = fmt.Errorf("no leader yet for every partition of %s", strings.Join(missing, ", "))
		}
		if !temporary(err) {
			return err
		}
		if !sleep(ctx, nil, pause.next()) {
			return ended(ctx, err)
		}
	}
}
