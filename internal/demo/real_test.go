package demo_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/internal/demo"
	"github.com/tidings-bus/tidings/internal/testenv"
)

func TestTheDemoRunsOnRealKafkaAndPostgresAndLeavesNothingThere(t *testing.T) {
	brokers, url := testenv.Kafka(t), testenv.Postgres(t)
	t.Setenv("TMPDIR", t.TempDir())
	opts := []kgo.Opt{kgo.SeedBrokers(brokers...)}
	var out bytes.Buffer
	rep, err := demo.Run(t.Context(), demo.Config{
		Events: 600, Orders: 60, Seed: 3, Command: program, Out: &out, Postgres: url,
		Kafka: &demo.Kafka{
			Connection: connection.Config{Brokers: brokers}, Options: opts,
			Args: []string{"--brokers", strings.Join(brokers, ",")},
		},
	})
	require.NoError(t, err, out.String())
	require.True(t, rep.OK, "%s\n%v", out.String(), rep.Audit.Mismatches)
	require.Equal(t, 600, rep.Audit.Published)
	require.Positive(t, rep.Kills)
	require.Positive(t, rep.KilledAmid)
	require.Positive(t, rep.AfterRestart)
	require.Zero(t, rep.BrokerRestarts, "the cluster is not the demo's own")

	cl, err := kgo.NewClient(opts...)
	require.NoError(t, err)
	t.Cleanup(cl.Close)
	adm := kadm.NewClient(cl)
	topics, err := adm.ListTopics(t.Context())
	require.NoError(t, err)
	for _, name := range topics.Names() {
		require.NotContains(t, name, "demo")
	}
	groups, err := adm.ListGroups(t.Context())
	require.NoError(t, err)
	for _, g := range groups.Groups() {
		require.NotContains(t, g, "demo")
	}
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	var left int
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_database WHERE datname LIKE 'tidings_demo%'`).Scan(&left))
	require.Zero(t, left)
}
