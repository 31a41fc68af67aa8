package subscriber

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"regexp"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/event"
)

// Config says what to read, as whom, and within which bounds. Connection and
// Group are required; every other zero value is a sensible default.
type Config struct {
	Connection connection.Config
	// Group is the consumer group. Its members share the partitions.
	Group string
	// InstanceID, when set, makes the member static (KIP-345): when it stops, or
	// dies, its partitions wait for it. Back within Timings.Session, it takes them
	// up from its commits, without a rebalance: the others notice nothing. After
	// that they move. InstanceID must be unique in the group and the same after a
	// restart. Each subscribed topic joins under InstanceID + "-" + topic. A stop
	// does not leave the group, but for a member that has just given partitions up
	// in a rebalance: it leaves, so that others get them at once.
	InstanceID string

	// StartAt says where a partition begins for which the group has no
	// committed offset. Default: Oldest.
	StartAt Start
	// WaitForTopic makes Subscribe accept a topic that does not exist yet; it
	// is read once somebody creates it. Default: ErrTopicMissing.
	WaitForTopic bool
	// CreateTopic is what SubscribeInitialize calls. Nil: the topic is made with
	// the broker's default partitions and replication, unless it exists.
	CreateTopic func(ctx context.Context, topic string) error
	// WithoutControlTopic: the group cannot be paused for all its members, see
	// groups.Pause. For clusters on which the user may not read that topic.
	WithoutControlTopic bool

	Limits   Limits
	Fairness Fairness
	Fetch    Fetch
	Timings  Timings

	// RetryDelay is how long a lane sleeps after its attempt-th nack, unless the
	// router says otherwise. Default: 100 ms doubling to 30 s, each with jitter.
	RetryDelay func(attempt int) time.Duration

	// Unmarshal makes the watermill message of a record; it cannot fail: what
	// it cannot read it passes on as it is. It runs for every attempt. Default:
	// Unmarshal, the package's function; UnmarshalPayload under the event
	// router, which does not look at metadata.
	Unmarshal func(event.KafkaRecord) *message.Message

	// Logger: nil means slog.Default().
	Logger *slog.Logger
	// Metrics, when set, gets the tidings_subscriber_ metrics. Subscribers with
	// the same registerer share them.
	Metrics prometheus.Registerer
}

// Start is where a group begins to read.
type Start int

// The starts.
const (
	Oldest Start = iota // the first message that the broker still has
	// Newest: messages published after the member began to read the partition.
	// The place is not committed until a first message is finished: a member
	// that stops before that begins at the then newest again, and what was
	// published meanwhile is not read.
	Newest
)

// Limits bound what one Subscribe call holds in memory and runs at once.
type Limits struct {
	// Running is how many messages are with handlers at once, over all
	// partitions; a batch counts as one. Default 1000. A quarter of it is kept for partitions that use
	// little, so that one blocked partition cannot stop the others.
	Running int
	// PartitionRunning is the same for one partition. Default 250. For a handler
	// that takes batches it is 4 at most: with more they would only be smaller.
	PartitionRunning int
	// Pending is how many messages are read and not finished. Default 50,000.
	Pending int
	// PartitionPending is the same for one partition. Default 10,000.
	PartitionPending int
	// RunAhead is how far, in messages, the newest message read of a partition
	// may be ahead of the oldest unfinished one. What is finished ahead is
	// committed with the offset, as far as 2 KB tell it: the rest is repeated
	// after a crash. Default 100,000.
	RunAhead int
	// Bytes bounds what unfinished messages hold, keys, values, headers and 480
	// bytes for each, and 160 bytes for each message that is finished ahead of an
	// unfinished one. Default 256 MiB.
	Bytes int64
	// PartitionBytes is the same for one partition. Default 64 MiB.
	PartitionBytes int64
}

// Fetch bounds what is read from the brokers ahead of the lanes, on top of
// Limits.Bytes: MaxBytes times Concurrent, as the brokers send it, and once more
// that while a part of it is handed to the lanes. That counts compressed bytes.
// Fetched batches are held uncompressed until they are in the lanes, so compressed
// topics take more by their compression ratio: with batches that shrink to a
// tenth, ten times as much. And brokers send a first batch that is larger than
// these bounds all the same (KIP-74). In the lanes messages are copies: none holds
// more of a batch than itself.
type Fetch struct {
	// MaxBytes of one fetch. Default 8 MiB.
	MaxBytes int32
	// PartitionMaxBytes of one partition in a fetch. Default 1 MiB.
	PartitionMaxBytes int32
	// Concurrent fetches, one per broker at most. Default 4.
	Concurrent int
	// MaxWait is how long a broker holds a fetch that has no data. Default 500 ms.
	MaxWait time.Duration
}

// Timings of group membership. Validation keeps them consistent: a drain must
// fit into the rebalance that waits for it.
type Timings struct {
	// Session: a member that the broker has not heard of for so long is taken
	// for dead. Default 15 s.
	Session time.Duration
	// Rebalance: how long the group waits for members to give up partitions.
	// Default 60 s; at least Drain + 10 s.
	Rebalance time.Duration
	// Drain: how long running handlers may finish when partitions are revoked
	// or the subscriber stops. What runs longer has its context cancelled.
	// It may be longer than Session: the member stays in the group meanwhile.
	// Default 10 s.
	Drain time.Duration
	// DrainRetry: how long during a drain failing messages are tried again, and
	// a message is offered that no one takes. Default 2 s, at most Drain.
	DrainRetry time.Duration
	// Commit: how often offsets are committed. They are also committed on
	// revoke and stop. Default 500 ms.
	Commit time.Duration
	// Connect: how long Subscribe tries to reach a broker. Default 10 s.
	Connect time.Duration
}

// ErrTopicMissing is wrapped by Subscribe's error for a topic that does not exist.
var ErrTopicMissing = errors.New("topic does not exist")

// ErrClosed is returned by Subscribe after Close.
var ErrClosed = errors.New("subscriber is closed")

// instanceID is what brokers accept, with room for the topic.
var instanceID = regexp.MustCompile(`^[a-zA-Z0-9._-]{0,120}$`)

const (
	drainMargin  = 10 * time.Second // commit, leave and the round trips around a drain
	minHeartbeat = 100 * time.Millisecond
	maxHeartbeat = 400 * time.Millisecond
)

func (c Config) withDefaults() Config {
	def(&c.Limits.Running, 1000)
	def(&c.Limits.PartitionRunning, min(250, c.Limits.Running))
	def(&c.Limits.Pending, 50_000)
	def(&c.Limits.PartitionPending, min(10_000, c.Limits.Pending))
	def(&c.Limits.RunAhead, max(100_000, c.Limits.PartitionPending))
	def(&c.Limits.Bytes, 256<<20)
	def(&c.Limits.PartitionBytes, min(64<<20, c.Limits.Bytes))
	def(&c.Fetch.MaxBytes, 8<<20)
	def(&c.Fetch.PartitionMaxBytes, min(1<<20, c.Fetch.MaxBytes))
	def(&c.Fetch.Concurrent, 4)
	def(&c.Fetch.MaxWait, 500*time.Millisecond)
	def(&c.Timings.Session, 15*time.Second)
	def(&c.Timings.Drain, 10*time.Second)
	def(&c.Timings.Rebalance, max(60*time.Second, c.Timings.Drain+drainMargin))
	def(&c.Timings.DrainRetry, min(2*time.Second, c.Timings.Drain))
	def(&c.Timings.Commit, 500*time.Millisecond)
	def(&c.Timings.Connect, 10*time.Second)
	if c.RetryDelay == nil {
		c.RetryDelay = defaultRetryDelay
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// defaultRetryDelay doubles from 100 ms to 30 s, and takes a random half off.
func defaultRetryDelay(attempt int) time.Duration {
	d := 30 * time.Second
	if attempt < 10 {
		d = min(d, 100*time.Millisecond<<max(0, attempt-1))
	}
	return d/2 + rand.N(d/2) //nolint:gosec // jitter is no secret
}

// validate reports the first field that cannot work; it expects the defaults filled in.
func (c Config) validate() error {
	if err := c.Connection.Validate(); err != nil {
		return err
	}
	if c.Group == "" {
		return errors.New(`Group is empty: name the consumer group that shares the work, such as "billing"`) //nolint:staticcheck // Group is a field
	}
	if c.StartAt != Oldest && c.StartAt != Newest {
		return fmt.Errorf("StartAt is %d: use subscriber.Oldest or subscriber.Newest", c.StartAt)
	}
	if !instanceID.MatchString(c.InstanceID) {
		return fmt.Errorf("InstanceID is %q: use letters, digits, '.', '_' and '-', at most 120 of them", c.InstanceID)
	}
	l, f, t := c.Limits, c.Fetch, c.Timings
	for _, n := range []struct {
		name     string
		negative bool
		value    any
	}{
		{"Limits.Running", l.Running < 0, l.Running},
		{"Limits.PartitionRunning", l.PartitionRunning < 0, l.PartitionRunning},
		{"Limits.Pending", l.Pending < 0, l.Pending},
		{"Limits.PartitionPending", l.PartitionPending < 0, l.PartitionPending},
		{"Limits.RunAhead", l.RunAhead < 0, l.RunAhead},
		{"Limits.Bytes", l.Bytes < 0, l.Bytes},
		{"Limits.PartitionBytes", l.PartitionBytes < 0, l.PartitionBytes},
		{"Fetch.MaxBytes", f.MaxBytes < 0, f.MaxBytes},
		{"Fetch.PartitionMaxBytes", f.PartitionMaxBytes < 0, f.PartitionMaxBytes},
		{"Fetch.Concurrent", f.Concurrent < 0, f.Concurrent},
		{"Fetch.MaxWait", f.MaxWait < 0, f.MaxWait},
		{"Timings.Session", t.Session < 0, t.Session},
		{"Timings.Rebalance", t.Rebalance < 0, t.Rebalance},
		{"Timings.Drain", t.Drain < 0, t.Drain},
		{"Timings.DrainRetry", t.DrainRetry < 0, t.DrainRetry},
		{"Timings.Commit", t.Commit < 0, t.Commit},
		{"Timings.Connect", t.Connect < 0, t.Connect},
	} {
		if n.negative {
			return fmt.Errorf("%s is %v: leave it zero for the default, or use a positive value", n.name, n.value)
		}
	}
	if err := c.Fairness.validate(); err != nil {
		return err
	}
	switch {
	case l.PartitionRunning > l.Running:
		return fmt.Errorf("Limits.PartitionRunning is %d, above Limits.Running %d: raise Limits.Running", l.PartitionRunning, l.Running)
	case l.PartitionPending > l.Pending:
		return fmt.Errorf("Limits.PartitionPending is %d, above Limits.Pending %d: raise Limits.Pending", l.PartitionPending, l.Pending)
	case l.RunAhead < l.PartitionPending:
		return fmt.Errorf("Limits.RunAhead is %d, below Limits.PartitionPending %d: raise Limits.RunAhead, it counts the pending too", l.RunAhead, l.PartitionPending)
	case l.PartitionBytes > l.Bytes:
		return fmt.Errorf("Limits.PartitionBytes is %d, above Limits.Bytes %d: raise Limits.Bytes", l.PartitionBytes, l.Bytes)
	case f.PartitionMaxBytes > f.MaxBytes:
		return fmt.Errorf("Fetch.PartitionMaxBytes is %d, above Fetch.MaxBytes %d: raise Fetch.MaxBytes", f.PartitionMaxBytes, f.MaxBytes)
	case t.DrainRetry > t.Drain:
		return fmt.Errorf("Timings.DrainRetry is %v, above Timings.Drain %v: raise Timings.Drain", t.DrainRetry, t.Drain)
	case t.Rebalance < t.Drain+drainMargin:
		return fmt.Errorf("Timings.Rebalance is %v, less than Timings.Drain %v + %v: the group would throw the member out while it drains; raise Timings.Rebalance", t.Rebalance, t.Drain, drainMargin)
	case t.Session < 10*minHeartbeat:
		return fmt.Errorf("Timings.Session is %v: use at least %v (brokers usually demand 6s)", t.Session, 10*minHeartbeat)
	}
	return nil
}

// heartbeat is a fifth of the session at most, so that four may be lost. A member
// hears of a rebalance by its next heartbeat, and a partition that moves stands
// until all members have come, twice: a second or two with the usual 3 s.
func (t Timings) heartbeat() time.Duration {
	return min(maxHeartbeat, max(minHeartbeat, t.Session/5))
}
