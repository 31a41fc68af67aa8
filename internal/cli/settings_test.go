package cli_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/internal/cli"
)

// The address that a failing command names is the one it took.
func addressTaken(t *testing.T, args ...string) string {
	t.Helper()
	r := run(t, "", append([]string{"topics", "list"}, args...)...)
	require.Equal(t, cli.ExitUnreachable, r.code, r.stderr)
	_, rest, found := strings.Cut(r.stderr, "no broker reachable at ")
	require.True(t, found, r.stderr)
	addr, _, _ := strings.Cut(rest, ": ")
	return addr
}

func TestFlagsWinOverEnvironmentOverFileOverDefault(t *testing.T) {
	file := write(t, "tidings.yaml", "brokers: [127.0.0.1:3, 127.0.0.1:4]\nclient-id: from-file\npartitions: 12\n")
	require.Equal(t, "127.0.0.1:3,127.0.0.1:4", addressTaken(t, "--config", file))
	t.Setenv("TIDINGS_CONFIG", file)
	require.Equal(t, "127.0.0.1:3,127.0.0.1:4", addressTaken(t))
	t.Setenv("TIDINGS_BROKERS", "127.0.0.1:2,127.0.0.1:5")
	require.Equal(t, "127.0.0.1:2,127.0.0.1:5", addressTaken(t))
	require.Equal(t, "127.0.0.1:1", addressTaken(t, "--brokers", "127.0.0.1:1"))
	t.Setenv("TIDINGS_BROKERS", "")
	require.Equal(t, "127.0.0.1:3,127.0.0.1:4", addressTaken(t), "an empty variable is not set")
}

func TestTheFileSetsFlagsOfEveryType(t *testing.T) {
	startBroker(t)
	t.Setenv("TIDINGS_CONFIG", write(t, "t.yaml", "partitions: 12\nretention: 1h\nset: [segment.bytes=1048576]\njson: true\n"))
	require.Equal(t, "topic order is there with 12 partitions\n", ok(t, "", "topics", "create", "order"))
	require.JSONEq(t, `[{"name":"order","partitions":12,"recorded":12,"replication":1}]`, ok(t, "", "topics", "list"))
}

func TestSettingsThatCannotBeUsedNameWhereTheyCameFrom(t *testing.T) {
	good := write(t, "good.yaml", "partitions: many\n")
	unknown := write(t, "unknown.yaml", "broker: 127.0.0.1:1\n")
	broken := write(t, "broken.yaml", "brokers: [\n")
	for name, c := range map[string]struct {
		env  map[string]string
		args []string
		want string
	}{
		"environment": {
			map[string]string{"TIDINGS_PARTITIONS": "lots"},
			[]string{"topics", "create", "order"},
			`tidings: TIDINGS_PARTITIONS: value "lots" of --partitions cannot be used: strconv.ParseInt: parsing "lots": invalid syntax`,
		},
		"file": {
			nil,
			[]string{"topics", "create", "order", "--config", good},
			`tidings: ` + good + `: value "many" of --partitions cannot be used: strconv.ParseInt: parsing "many": invalid syntax`,
		},
		"unknown key": {
			nil,
			[]string{"topics", "list", "--config", unknown},
			`tidings: settings file ` + unknown + `: unknown key "broker"; keys are the names of flags, see 'tidings help configuration'`,
		},
		"no YAML": {
			nil,
			[]string{"topics", "list", "--config", broken},
			`tidings: reading the settings file ` + broken + `: `,
		},
		"no file": {
			nil,
			[]string{"topics", "list", "--config", "/nowhere.yaml"},
			`tidings: reading the settings file /nowhere.yaml: no such file or directory`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			r := run(t, "", c.args...)
			require.Equal(t, cli.ExitUsage, r.code, r.stderr)
			require.Contains(t, r.stderr, c.want)
			require.Contains(t, r.stderr, "\nsee 'tidings topics ")
			require.Empty(t, r.stdout)
		})
	}
}
