package testenv_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/tidings-bus/tidings/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestKafkaIsSharedAndCarriesRecords(t *testing.T) {
	brokers := testenv.Kafka(t)
	require.Equal(t, brokers, testenv.Kafka(t))
	topic := createTopic(t, brokers)
	produce(t, topic, "one", kgo.SeedBrokers(brokers...))
	require.Equal(t, []string{"one"}, fetch(t, topic, 1, kgo.SeedBrokers(brokers...)))
}

func TestPostgresGivesEachTestADatabaseOfItsOwn(t *testing.T) {
	first, second := connect(t, testenv.Postgres(t)), connect(t, testenv.Postgres(t))
	_, err := first.Exec(t.Context(), "CREATE TABLE mine (id int)")
	require.NoError(t, err)
	var found bool
	require.NoError(t, second.QueryRow(t.Context(), "SELECT to_regclass('mine') IS NOT NULL").Scan(&found))
	require.False(t, found)
}

func TestARestartedBrokerKeepsItsAddressAndItsRecords(t *testing.T) {
	broker := testenv.StartKafka(t, testenv.KafkaOptions{})
	topic := createTopic(t, broker.Brokers)
	seeds := kgo.SeedBrokers(broker.Brokers...)
	produce(t, topic, "before", seeds)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, broker.Kill(ctx))
	require.NoError(t, broker.Start(ctx))
	produce(t, topic, "after the kill", seeds)
	require.NoError(t, broker.Stop(ctx))
	require.NoError(t, broker.Start(ctx))
	produce(t, topic, "after the stop", seeds)
	require.Equal(t, []string{"before", "after the kill", "after the stop"}, fetch(t, topic, 3, seeds))
}

func TestAPausedBrokerAnswersNothingUntilItGoesOn(t *testing.T) {
	broker := testenv.StartKafka(t, testenv.KafkaOptions{})
	require.NoError(t, broker.Pause(t.Context()))
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	require.Error(t, broker.Ready(short))
	require.NoError(t, broker.Unpause(t.Context()))
	long, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, broker.Ready(long))
}

func TestASecureBrokerAsksForTLSAndCredentials(t *testing.T) {
	broker := testenv.StartKafka(t, testenv.KafkaOptions{Secure: true})
	topic := createTopic(t, broker.Brokers)
	seeds := kgo.SeedBrokers(broker.Secure...)
	good := scram.Auth{User: testenv.User, Pass: testenv.Password}
	for name, mechanism := range map[string]sasl.Mechanism{
		"SCRAM-SHA-256": good.AsSha256Mechanism(),
		"SCRAM-SHA-512": good.AsSha512Mechanism(),
		"PLAIN":         plain.Auth{User: testenv.User, Pass: testenv.Password}.AsMechanism(),
	} {
		t.Run(name, func(t *testing.T) {
			produce(t, topic, name, seeds, kgo.DialTLSConfig(broker.TLS), kgo.SASL(mechanism))
		})
	}
	refused := map[string][]kgo.Opt{
		"a wrong password": {
			kgo.DialTLSConfig(broker.TLS),
			kgo.SASL(scram.Auth{User: testenv.User, Pass: "wrong"}.AsSha256Mechanism()),
		},
		"no encryption": {kgo.SASL(good.AsSha256Mechanism())},
	}
	for name, options := range refused {
		t.Run(name, func(t *testing.T) {
			cl, err := kgo.NewClient(append(options, seeds, kgo.RequestRetries(0), kgo.RetryTimeout(time.Second))...)
			require.NoError(t, err)
			defer cl.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			require.Error(t, cl.Ping(ctx))
		})
	}
}

func TestARestartedDatabaseKeepsItsAddressAndItsRows(t *testing.T) {
	server := testenv.StartPostgres(t, testenv.PostgresOptions{})
	url := server.Database(t)
	_, err := connect(t, url).Exec(t.Context(), "CREATE TABLE kept AS SELECT 1 AS id")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, server.Restart(ctx))
	var id int
	require.NoError(t, connect(t, url).QueryRow(ctx, "SELECT id FROM kept").Scan(&id))
	require.Equal(t, 1, id)
}

func createTopic(t *testing.T, brokers []string) string {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	require.NoError(t, err)
	defer cl.Close()
	topic := testenv.Name("topic")
	_, err = kadm.NewClient(cl).CreateTopic(t.Context(), 1, 1, nil, topic)
	require.NoError(t, err)
	return topic
}

func produce(t *testing.T, topic, value string, options ...kgo.Opt) {
	t.Helper()
	cl, err := kgo.NewClient(options...)
	require.NoError(t, err)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	record := &kgo.Record{Topic: topic, Value: []byte(value)}
	require.NoError(t, cl.ProduceSync(ctx, record).FirstErr())
}

func fetch(t *testing.T, topic string, count int, options ...kgo.Opt) []string {
	t.Helper()
	cl, err := kgo.NewClient(append(options, kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	require.NoError(t, err)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var values []string
	for len(values) < count {
		fetches := cl.PollFetches(ctx)
		require.NoError(t, ctx.Err())
		fetches.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	return values
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}
