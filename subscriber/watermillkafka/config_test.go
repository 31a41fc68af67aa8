package watermillkafka_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/subscriber/watermillkafka"
)

func TestConfigurationThatCannotWorkIsRefusedWithTheWayOut(t *testing.T) {
	brokers := []string{"localhost:9092"}
	with := func(change func(*sarama.Config)) kafka.SubscriberConfig {
		c := kafka.DefaultSaramaSubscriberConfig()
		change(c)
		return kafka.SubscriberConfig{Brokers: brokers, ConsumerGroup: "billing", OverwriteSaramaConfig: c}
	}
	good := with(func(*sarama.Config) {})
	for name, c := range map[string]struct {
		config kafka.SubscriberConfig
		lanes  watermillkafka.LanesConfig
		want   []string
	}{
		"no brokers": {config: kafka.SubscriberConfig{ConsumerGroup: "billing"}, want: []string{"Brokers is empty", "name at least one"}},
		"cooperative": {
			config: with(func(c *sarama.Config) {
				c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyCooperativeSticky()}
			}),
			want: []string{"GroupStrategies are cooperative", "NewBalanceStrategySticky"},
		},
		"what sarama refuses": {
			config: with(func(c *sarama.Config) { c.Consumer.Group.Heartbeat.Interval = time.Hour }),
			want:   []string{"OverwriteSaramaConfig", "Heartbeat"},
		},
		"a negative bound":                 {config: good, lanes: watermillkafka.LanesConfig{Bytes: -1}, want: []string{"LanesConfig.Bytes is -1", "positive"}},
		"a partition above the whole":      {config: good, lanes: watermillkafka.LanesConfig{Running: 5, PartitionRunning: 6}, want: []string{"PartitionRunning is 6", "raise Running"}},
		"pending above the whole":          {config: good, lanes: watermillkafka.LanesConfig{Pending: 5, PartitionPending: 6}, want: []string{"PartitionPending is 6", "raise Pending"}},
		"run-ahead below what may be held": {config: good, lanes: watermillkafka.LanesConfig{RunAhead: 5}, want: []string{"RunAhead is 5", "raise RunAhead"}},
		"bytes above the whole":            {config: good, lanes: watermillkafka.LanesConfig{Bytes: 5, PartitionBytes: 6}, want: []string{"PartitionBytes is 6", "raise Bytes"}},
		"retries longer than the drain":    {config: good, lanes: watermillkafka.LanesConfig{Drain: 1, DrainRetry: 2}, want: []string{"DrainRetry is 2ns", "raise Drain"}},
		"weights of nobody":                {config: good, lanes: watermillkafka.LanesConfig{Weights: map[string]int{"a": 2}}, want: []string{"without Tenant"}},
		"a weight that is none": {
			config: good,
			lanes: watermillkafka.LanesConfig{
				Tenant: func(*sarama.ConsumerMessage) string { return "" }, Weights: map[string]int{"a": 0},
			},
			want: []string{`Weights["a"] is 0`, "use 1 to 1000"},
		},
		"a drain that the group does not wait for": {
			config: with(func(c *sarama.Config) { c.Consumer.Group.Rebalance.Timeout = 10 * time.Second }),
			lanes:  watermillkafka.LanesConfig{Drain: 6 * time.Second},
			want:   []string{"Drain is 6s", "Rebalance.Timeout 10s", "lower Drain or raise"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := watermillkafka.NewSubscriber(c.config, c.lanes, nil)
			require.Error(t, err)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

func TestConfigurationThatWorkedForStockWorks(t *testing.T) {
	brokers := []string{"localhost:9092"}
	short := kafka.DefaultSaramaSubscriberConfig()
	short.Consumer.Group.Rebalance.Timeout = 4 * time.Second
	mixed := kafka.DefaultSaramaSubscriberConfig() // sarama chooses eager for these
	mixed.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{
		sarama.NewBalanceStrategyCooperativeSticky(), sarama.NewBalanceStrategyRange(),
	}
	for name, c := range map[string]kafka.SubscriberConfig{
		"the least":               {Brokers: brokers},
		"a group":                 {Brokers: brokers, ConsumerGroup: "billing"},
		"a short rebalance":       {Brokers: brokers, ConsumerGroup: "billing", OverwriteSaramaConfig: short},
		"strategies of two kinds": {Brokers: brokers, ConsumerGroup: "billing", OverwriteSaramaConfig: mixed},
		"our sarama settings":     {Brokers: brokers, ConsumerGroup: "billing", OverwriteSaramaConfig: watermillkafka.SubscriberConfig()},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := watermillkafka.NewSubscriber(c, watermillkafka.LanesConfig{}, nil)
			require.NoError(t, err)
			require.NoError(t, s.Close())
		})
	}
}

// What was given stays as it was given: a service may use it for a publisher, too.
func TestConfigurationIsNotChanged(t *testing.T) {
	mine := kafka.DefaultSaramaSubscriberConfig()
	before := *mine
	_, err := watermillkafka.NewSubscriber(kafka.SubscriberConfig{Brokers: []string{"localhost:9092"}, OverwriteSaramaConfig: mine}, watermillkafka.LanesConfig{}, nil)
	require.NoError(t, err)
	require.Equal(t, before.ChannelBufferSize, mine.ChannelBufferSize)
	require.Equal(t, before.Consumer, mine.Consumer)
}

// The drop-in has every method that stock's subscriber has.
func TestDropInHasEveryMethodOfStock(t *testing.T) {
	stock, ours := reflect.TypeFor[*kafka.Subscriber](), reflect.TypeFor[*watermillkafka.Subscriber]()
	for theirs := range stock.Methods() {
		m, ok := ours.MethodByName(theirs.Name)
		require.True(t, ok, theirs.Name)
		require.Equal(t, theirs.Type.NumIn(), m.Type.NumIn(), theirs.Name)
		for j := 1; j < theirs.Type.NumIn(); j++ { // the first is the receiver
			require.Equal(t, theirs.Type.In(j), m.Type.In(j), theirs.Name)
		}
		for j := range theirs.Type.NumOut() {
			require.Equal(t, theirs.Type.Out(j), m.Type.Out(j), theirs.Name)
		}
	}
}

// A new field of stock's configuration must be thought about: it keeps its
// meaning here, or is refused.
func TestEveryFieldOfStocksConfigurationIsKnown(t *testing.T) {
	known := map[string]string{
		"Brokers": "connect", "Unmarshaler": "unmarshal", "OverwriteSaramaConfig": "tune", "ConsumerGroup": "connect",
		"NackResendSleep": "nacked", "ReconnectRetrySleep": "reconnect",
		"InitializeTopicDetails": "stock", "DoNotWaitForTopicCreation": "stock", "WaitForTopicCreationTimeout": "stock",
		"OTELEnabled": "newConfig", "Tracer": "consume",
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[kafka.SubscriberConfig]()) {
		require.Contains(t, known, f.Name)
	}
}
