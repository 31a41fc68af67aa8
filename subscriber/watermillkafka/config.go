package watermillkafka

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"

	"github.com/tidings-bus/tidings/internal/lanes"
)

// LanesConfig bounds what one Subscribe call of a Subscriber holds in memory and
// runs at once. The zero value is a sensible default.
type LanesConfig struct {
	// Running is how many messages are with handlers at once, over all
	// partitions. Default 1000. A quarter of it is kept for partitions that use
	// little, so that one blocked partition cannot stop the others.
	Running int
	// PartitionRunning is the same for one partition. Default 250.
	PartitionRunning int
	// Pending is how many messages are read and not finished; of one key at most a
	// quarter of PartitionPending counts. Default 50,000.
	Pending int
	// PartitionPending is the same for one partition. Default 10,000.
	PartitionPending int
	// RunAhead is how far, in messages, the newest message read of a partition
	// may be ahead of the oldest unfinished one. What is finished ahead is
	// repeated after a crash. Default 100,000.
	RunAhead int
	// Bytes bounds what unfinished messages hold, keys, values, headers and 640
	// bytes for each, and 160 bytes for each message that is finished ahead of an
	// unfinished one. Default 256 MiB.
	Bytes int64
	// PartitionBytes is the same for one partition. Default 64 MiB.
	PartitionBytes int64

	// Tenant, when set, says whose a message is, and Running is shared among
	// tenants: of two that have messages to hand out, one of weight 3 starts three
	// for each of the other's. None has more than three quarters of the slots, or
	// counts for more than half of what may be pending. It is called once for each
	// message that is read, for each partition by one goroutine at a time, and must
	// be quick. "" is a tenant too.
	Tenant func(*sarama.ConsumerMessage) string
	// Weights of tenants, 1 to 1000; 1 for those that are not in it.
	Weights map[string]int

	// Drain is how long running handlers may finish when the group rebalances or
	// the subscriber stops. What runs longer has its context cancelled. At most
	// half of sarama's Consumer.Group.Rebalance.Timeout, for the group throws out
	// a member that takes all of it. Default 10 s, or that half if it is less.
	Drain time.Duration
	// DrainRetry is how long during a drain failing messages are tried again, and
	// a message is offered that no one takes. Default 2 s, at most Drain.
	DrainRetry time.Duration
}

// config is what a Subscriber works by, checked.
type config struct {
	kafka.SubscriberConfig // of which OverwriteSaramaConfig is our copy, tuned

	lanes    LanesConfig
	interval time.Duration // between commits; 0: as soon as there is something to commit
}

// sarama's defaults that tune replaces where they stand. All trade little for
// much: see there.
const (
	stockBuffer    = 256
	stockFetch     = 1 << 20
	stockHeartbeat = 3 * time.Second
	stockWait      = 500 * time.Millisecond
	stockRejoin    = 2 * time.Second

	buffer     = 16
	fetch      = 64 << 10
	heartbeat  = time.Second
	wait       = 100 * time.Millisecond
	rejoin     = 250 * time.Millisecond
	processing = time.Second
)

// newConfig fills in the defaults, watermill-kafka's own first, and checks it all.
func newConfig(theirs kafka.SubscriberConfig, bounds LanesConfig) (config, error) {
	if len(theirs.Brokers) == 0 {
		return config{}, errors.New(`Brokers is empty: name at least one broker, such as "localhost:9092"`) //nolint:staticcheck // Brokers is a field
	}
	if theirs.Unmarshaler == nil {
		theirs.Unmarshaler = kafka.DefaultMarshaler{}
	}
	if theirs.OverwriteSaramaConfig == nil {
		theirs.OverwriteSaramaConfig = kafka.DefaultSaramaSubscriberConfig()
	}
	def(&theirs.NackResendSleep, 100*time.Millisecond)
	def(&theirs.ReconnectRetrySleep, time.Second)
	if theirs.OTELEnabled && theirs.Tracer == nil { //nolint:staticcheck // deprecated, and still heeded by stock
		theirs.Tracer = kafka.NewOTELSaramaTracer()
	}
	if err := theirs.OverwriteSaramaConfig.Validate(); err != nil {
		return config{}, fmt.Errorf("OverwriteSaramaConfig: %w", err)
	}
	if theirs.ConsumerGroup != "" && cooperative(theirs.OverwriteSaramaConfig) {
		return config{}, errors.New("OverwriteSaramaConfig.Consumer.Group.Rebalance.GroupStrategies are cooperative, and sarama's cooperative rebalances " +
			"leave partitions without a reader: use sarama.NewBalanceStrategySticky(), or package subscriber, whose cooperative rebalances work")
	}
	c := config{SubscriberConfig: theirs, lanes: bounds}
	if auto := theirs.OverwriteSaramaConfig.Consumer.Offsets.AutoCommit; auto.Enable {
		c.interval = auto.Interval
	}
	c.OverwriteSaramaConfig = tune(theirs.OverwriteSaramaConfig)
	c.lanes.fill(c.OverwriteSaramaConfig.Consumer.Group.Rebalance.Timeout)
	return c, c.lanes.validate(c.OverwriteSaramaConfig.Consumer.Group.Rebalance.Timeout)
}

// tune returns a copy of a sarama configuration that suits lanes. What is not at
// sarama's default was chosen by somebody, and stays; but for two fields that
// lanes take the meaning from: nobody waits for a handler any more before reading
// on, and offsets are committed here.
func tune(c *sarama.Config) *sarama.Config {
	t := *c
	// Little is read ahead of the lanes, whose bounds would otherwise be a small
	// part of what is held, and what one partition holds up is short.
	replace(&t.ChannelBufferSize, stockBuffer, buffer)
	replace(&t.Consumer.Fetch.Default, stockFetch, fetch)
	// A member hears of a rebalance by a heartbeat, and leaves a partition only
	// when a fetch that waits for messages has ended.
	replace(&t.Consumer.Group.Heartbeat.Interval, stockHeartbeat, heartbeat)
	replace(&t.Consumer.MaxWaitTime, stockWait, wait)
	// So long a member waits that was overtaken by another rebalance.
	replace(&t.Consumer.Group.Rebalance.Retry.Backoff, stockRejoin, rejoin)
	// Lanes take every message at once. That this was late says only that the
	// machine is busy, and costs all partitions of the broker a tenth of a second.
	t.Consumer.MaxProcessingTime = max(t.Consumer.MaxProcessingTime, processing)
	t.Consumer.Offsets.AutoCommit.Enable = false
	return &t
}

func replace[T comparable](v *T, stock, ours T) {
	if *v == stock {
		*v = ours
	}
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// cooperative tells whether sarama would choose the cooperative protocol: when
// every strategy can.
func cooperative(c *sarama.Config) bool {
	strategies := c.Consumer.Group.Rebalance.GroupStrategies
	if s := c.Consumer.Group.Rebalance.Strategy; s != nil { // deprecated, and heeded by sarama before the other
		strategies = []sarama.BalanceStrategy{s}
	}
	return len(strategies) > 0 && !slices.ContainsFunc(strategies, func(s sarama.BalanceStrategy) bool {
		p, ok := s.(sarama.RebalanceProtocolBalanceStrategy)
		return !ok || !slices.Contains(p.SupportedProtocols(), sarama.RebalanceProtocolCooperative)
	})
}

func (l *LanesConfig) fill(rebalance time.Duration) {
	def(&l.Running, 1000)
	def(&l.PartitionRunning, min(250, l.Running))
	def(&l.Pending, 50_000)
	def(&l.PartitionPending, min(10_000, l.Pending))
	def(&l.RunAhead, max(100_000, l.PartitionPending))
	def(&l.Bytes, 256<<20)
	def(&l.PartitionBytes, min(64<<20, l.Bytes))
	def(&l.Drain, min(10*time.Second, rebalance/2))
	def(&l.DrainRetry, min(2*time.Second, l.Drain))
}

// maxWeight keeps the turns of the lightest within sight.
const maxWeight = 1000

// shares is how the lanes are told of tenants; nil when all messages are one's.
func (l *LanesConfig) shares() *lanes.Fairness {
	if l.Tenant == nil {
		return nil
	}
	return &lanes.Fairness{Weights: l.Weights}
}

// validate reports the first field that cannot work; it expects the defaults filled in.
func (l *LanesConfig) validate(rebalance time.Duration) error {
	for _, n := range []struct {
		name     string
		negative bool
		value    any
	}{
		{"Running", l.Running < 0, l.Running},
		{"PartitionRunning", l.PartitionRunning < 0, l.PartitionRunning},
		{"Pending", l.Pending < 0, l.Pending},
		{"PartitionPending", l.PartitionPending < 0, l.PartitionPending},
		{"RunAhead", l.RunAhead < 0, l.RunAhead},
		{"Bytes", l.Bytes < 0, l.Bytes},
		{"PartitionBytes", l.PartitionBytes < 0, l.PartitionBytes},
		{"Drain", l.Drain < 0, l.Drain},
		{"DrainRetry", l.DrainRetry < 0, l.DrainRetry},
	} {
		if n.negative {
			return fmt.Errorf("LanesConfig.%s is %v: leave it zero for the default, or use a positive value", n.name, n.value)
		}
	}
	if l.Tenant == nil && len(l.Weights) > 0 {
		return errors.New("LanesConfig.Weights is set without Tenant: say whose a message is")
	}
	for tenant, w := range l.Weights {
		if w < 1 || w > maxWeight {
			return fmt.Errorf("LanesConfig.Weights[%q] is %d: use 1 to %d", tenant, w, maxWeight)
		}
	}
	switch {
	case l.PartitionRunning > l.Running:
		return fmt.Errorf("LanesConfig.PartitionRunning is %d, above Running %d: raise Running", l.PartitionRunning, l.Running)
	case l.PartitionPending > l.Pending:
		return fmt.Errorf("LanesConfig.PartitionPending is %d, above Pending %d: raise Pending", l.PartitionPending, l.Pending)
	case l.RunAhead < l.PartitionPending:
		return fmt.Errorf("LanesConfig.RunAhead is %d, below PartitionPending %d: raise RunAhead, it counts the pending too", l.RunAhead, l.PartitionPending)
	case l.PartitionBytes > l.Bytes:
		return fmt.Errorf("LanesConfig.PartitionBytes is %d, above Bytes %d: raise Bytes", l.PartitionBytes, l.Bytes)
	case l.DrainRetry > l.Drain:
		return fmt.Errorf("LanesConfig.DrainRetry is %v, above Drain %v: raise Drain", l.DrainRetry, l.Drain)
	case l.Drain > rebalance/2:
		return fmt.Errorf("LanesConfig.Drain is %v, above half of OverwriteSaramaConfig.Consumer.Group.Rebalance.Timeout %v: "+
			"the group would throw the member out while it drains; lower Drain or raise the timeout", l.Drain, rebalance)
	}
	return nil
}
