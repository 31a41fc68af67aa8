package subscriber_test

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/internal/delivery"
	"github.com/tidings-bus/tidings/subscriber"
)

func TestBadConfigIsRefusedByName(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*subscriber.Config)
		want   string
	}{
		"no brokers":       {func(c *subscriber.Config) { c.Connection.Brokers = nil }, "Brokers is empty"},
		"no group":         {func(c *subscriber.Config) { c.Group = "" }, "Group is empty: name the consumer group"},
		"start":            {func(c *subscriber.Config) { c.StartAt = 7 }, "StartAt is 7: use subscriber.Oldest or subscriber.Newest"},
		"instance":         {func(c *subscriber.Config) { c.InstanceID = "a/b" }, `InstanceID is "a/b": use letters, digits, '.', '_' and '-'`},
		"negative":         {func(c *subscriber.Config) { c.Limits.Pending = -1 }, "Limits.Pending is -1"},
		"partition slots":  {func(c *subscriber.Config) { c.Limits.PartitionRunning = 2000 }, "Limits.PartitionRunning is 2000, above Limits.Running 1000"},
		"run ahead":        {func(c *subscriber.Config) { c.Limits.RunAhead = 5 }, "Limits.RunAhead is 5, below Limits.PartitionPending 10000"},
		"bytes":            {func(c *subscriber.Config) { c.Limits.PartitionBytes = 1 << 40 }, "Limits.PartitionBytes"},
		"rebalance":        {func(c *subscriber.Config) { c.Timings.Rebalance = 15 * time.Second }, "Timings.Rebalance is 15s, less than Timings.Drain 10s + 10s"},
		"patience":         {func(c *subscriber.Config) { c.Timings.DrainRetry = time.Minute }, "Timings.DrainRetry is 1m0s, above Timings.Drain 10s"},
		"session":          {func(c *subscriber.Config) { c.Timings.Session = time.Millisecond }, "Timings.Session is 1ms"},
		"fetch":            {func(c *subscriber.Config) { c.Fetch.PartitionMaxBytes = 1 << 30 }, "Fetch.PartitionMaxBytes"},
		"partition queue":  {func(c *subscriber.Config) { c.Limits.PartitionPending = 100_000 }, "Limits.PartitionPending is 100000, above Limits.Pending 50000"},
		"negative timings": {func(c *subscriber.Config) { c.Timings.Drain = -time.Second }, "Timings.Drain is -1s"},
	} {
		t.Run(name, func(t *testing.T) {
			config := subscriber.Config{Connection: connection.Config{Brokers: []string{"127.0.0.1:9092"}}, Group: "billing"}
			c.change(&config)
			_, err := subscriber.New(config)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestUnreachableBrokersAreNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	s, err := subscriber.New(subscriber.Config{
		Connection: connection.Config{Brokers: []string{addr}}, Group: "billing",
		Timings: subscriber.Timings{Connect: 300 * time.Millisecond},
	})
	require.NoError(t, err)
	require.ErrorContains(t, s.Ready(context.Background()), "nothing is subscribed yet")
	_, err = s.Subscribe(context.Background(), "orders")
	require.ErrorContains(t, err, `subscribe to topic "orders" as group "billing": no broker reachable at [`+addr+"] within 300ms: ")
	require.ErrorContains(t, err, "connection refused")
	require.ErrorContains(t, err, "check Connection.Brokers")
	// Close ends a Subscribe that still tries.
	patient, err := subscriber.New(subscriber.Config{Connection: connection.Config{Brokers: []string{addr}}, Group: "billing"})
	require.NoError(t, err)
	time.AfterFunc(50*time.Millisecond, func() { _ = patient.Close() })
	_, err = patient.Subscribe(context.Background(), "orders")
	require.ErrorIs(t, err, subscriber.ErrClosed)
	require.NoError(t, s.Close())
}

func TestWrongCredentialsSayWhat(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "billing", "right"), kfake.SeedTopics(1, "orders"))
	require.NoError(t, err)
	defer c.Close()
	try := func(a *connection.SASL) error {
		s, err := subscriber.New(subscriber.Config{
			Connection: connection.Config{Brokers: c.ListenAddrs(), SASL: a}, Group: "billing",
			Timings: subscriber.Timings{Connect: 700 * time.Millisecond},
		})
		require.NoError(t, err)
		defer s.Close()
		_, err = s.Subscribe(context.Background(), "orders")
		return err
	}
	require.NoError(t, try(&connection.SASL{Mechanism: connection.ScramSHA256, Username: "billing", Password: "right"}))
	err = try(&connection.SASL{Mechanism: connection.ScramSHA256, Username: "billing", Password: "wr0ng"})
	require.ErrorContains(t, err, "wrong credentials")
	require.ErrorContains(t, err, "Check Connection.SASL")
	require.NotContains(t, err.Error(), "wr0ng")
	require.ErrorContains(t, try(nil), "set Connection.TLS or Connection.SASL")
}

// As real brokers answer; the embedded one hangs up.
func TestRefusedLoginFailsAtOnce(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("PLAIN", "billing", "right"), kfake.SeedTopics(1, "orders"))
	require.NoError(t, err)
	defer c.Close()
	c.ControlKey(kmsg.SASLAuthenticate.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
		return resp, nil, true
	})
	s, err := subscriber.New(subscriber.Config{
		Connection: connection.Config{Brokers: c.ListenAddrs(), SASL: &connection.SASL{Mechanism: connection.Plain, Username: "billing", Password: "wr0ng"}},
		Group:      "billing",
		Timings:    subscriber.Timings{Connect: time.Hour},
	})
	require.NoError(t, err)
	_, err = s.Subscribe(context.Background(), "orders")
	require.ErrorIs(t, err, kerr.SaslAuthenticationFailed)
	require.ErrorContains(t, err, `wrong credentials for user "billing" by PLAIN at `)
	require.NotContains(t, err.Error(), "wr0ng")
}

func TestTLSMismatchIsExplained(t *testing.T) {
	c := newCluster(t, 1, "orders")
	config := c.config("billing")
	config.Connection.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	config.Timings.Connect = time.Second
	s, err := subscriber.New(config)
	require.NoError(t, err)
	_, err = s.Subscribe(context.Background(), "orders")
	require.ErrorContains(t, err, "TLS")
}

func TestMissingTopicIsAnErrorUnlessAwaited(t *testing.T) {
	c := newCluster(t, 1, "orders")
	s, err := subscriber.New(c.config("billing"))
	require.NoError(t, err)
	defer s.Close()
	_, err = s.Subscribe(context.Background(), "odrers")
	require.ErrorIs(t, err, subscriber.ErrTopicMissing)
	require.ErrorContains(t, err, "create it with `tidings topics create odrers`")
	_, err = s.Subscribe(context.Background(), "")
	require.ErrorContains(t, err, "the topic has no name")

	config := c.config("billing")
	config.WaitForTopic = true
	waiting, out := subscribe(t, config, "later")
	require.NoError(t, waiting.SubscribeInitialize("later"))
	require.NoError(t, waiting.SubscribeInitialize("later"), "a topic that is there is fine")
	c.produce("later", 0, 1, 1)
	receive(t, out).Ack()
}

func TestNewestSkipsHistoryOldestDoesNot(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 3, 1)
	config := c.config("late")
	config.StartAt = subscriber.Newest
	s, out := subscribe(t, config, "orders")
	await(t, "joined", func() bool { return s.Ready(context.Background()) == nil })
	// Its place is known once the first fetch has been asked for.
	n := 3
	for {
		c.produce("orders", n, 1, 1)
		n++
		select {
		case m := <-out:
			require.GreaterOrEqual(t, number(m), 3)
			m.Ack()
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func TestMetricsTellWhatHappens(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 10, 10)
	registry := prometheus.NewRegistry()
	config := c.config("billing")
	config.Metrics = registry
	s, out := subscribe(t, config, "orders")
	_, err := subscriber.New(config) // shares them
	require.NoError(t, err)
	held := receive(t, out)
	receive(t, out).Nack()
	for range 9 {
		receive(t, out).Ack()
	}
	expect := func(text string) func() bool {
		names := []string{strings.Fields(text)[2]}
		return func() bool { return testutil.GatherAndCompare(registry, strings.NewReader(text+"\n"), names...) == nil }
	}
	gauge := func(name, help, value string) string {
		return "# HELP tidings_subscriber_partition_" + name + " " + help + "\n# TYPE tidings_subscriber_partition_" + name + " gauge\n" +
			"tidings_subscriber_partition_" + name + `{group="billing",partition="0",topic="orders"} ` + value
	}
	await(t, "outcomes", expect(`# HELP tidings_subscriber_outcomes_total Attempts by their outcome, ack or nack.
# TYPE tidings_subscriber_outcomes_total counter
tidings_subscriber_outcomes_total{group="billing",outcome="ack",topic="orders"} 9
tidings_subscriber_outcomes_total{group="billing",outcome="nack",topic="orders"} 1`))
	await(t, "pending", expect(gauge("pending", "Messages read and not finished.", "1")))
	held.Ack()
	await(t, "lag", expect(gauge("lag", "Messages of the log that are not finished, as far as known.", "0")))
	await(t, "uncommitted", expect(gauge("uncommitted", "Offsets finished and not committed.", "0")))
	problems, err := testutil.GatherAndLint(registry)
	require.NoError(t, err)
	require.Empty(t, problems)
	require.NoError(t, s.Close())
	n, err := testutil.GatherAndCount(registry, "tidings_subscriber_partition_pending")
	require.NoError(t, err)
	require.Zero(t, n, "a partition that is gone has no gauges")
}

func TestReadyTellsOfABrokerThatIsAway(t *testing.T) {
	c := newCluster(t, 1, "orders")
	s, out := subscribe(t, c.config("billing"), "orders")
	await(t, "joined", func() bool { return s.Ready(context.Background()) == nil })
	_ = out
	c.Close()
	await(t, "not ready", func() bool {
		err := s.Ready(context.Background())
		return err != nil && strings.Contains(err.Error(), "no broker has answered since")
	})
}

func TestMetadataAreLeftOutForWhoDoesNotReadThem(t *testing.T) {
	c := newCluster(t, 1, "orders")
	c.produce("orders", 0, 1, 1)
	s, err := subscriber.New(c.config("billing"))
	require.NoError(t, err)
	defer s.Close()
	out, err := s.Subscribe(delivery.WithoutMetadata(context.Background()), "orders")
	require.NoError(t, err)
	m := receive(t, out)
	require.Empty(t, m.Metadata)
	require.Equal(t, "k0", string(delivery.FromContext(m.Context()).Record.Key))
	m.Ack()
}

func TestUnmarshalReadsEventsAndStockMessages(t *testing.T) {
	h := func(k, v string) event.KafkaHeader { return event.KafkaHeader{Key: k, Value: []byte(v)} }
	stock := event.KafkaRecord{Value: []byte("v"), Headers: []event.KafkaHeader{h("_watermill_message_uuid", "u"), h("a", "1"), h("a", "2")}}
	m := subscriber.Unmarshal(stock)
	require.Equal(t, "u", m.UUID)
	require.Equal(t, map[string]string{"a": "2"}, map[string]string(m.Metadata))
	require.Equal(t, "u", subscriber.UnmarshalPayload(stock).UUID)
	both := event.KafkaRecord{Headers: []event.KafkaHeader{h("ce_id", "e"), h("_watermill_message_uuid", "u")}}
	require.Equal(t, "e", subscriber.Unmarshal(both).UUID)
	require.Equal(t, "e", subscriber.UnmarshalPayload(both).UUID)
	require.Nil(t, subscriber.Unmarshal(both).Payload)
}
