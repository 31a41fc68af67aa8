package cli_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/internal/cli"
)

// commands yields every command that a user may run.
func commands(cmd *cobra.Command, yield func(*cobra.Command)) {
	if cmd.Runnable() {
		yield(cmd)
	}
	for _, sub := range cmd.Commands() {
		commands(sub, yield)
	}
}

func TestEveryCommandHasHelpWithAnExampleThatParses(t *testing.T) {
	commands(cli.Root(), func(cmd *cobra.Command) {
		if len(cmd.Commands()) > 0 || cmd.Name() == "help" || cmd.Parent().Name() == "completion" || cmd.Hidden {
			return
		}
		t.Run(cmd.CommandPath(), func(t *testing.T) {
			require.NotEmpty(t, cmd.Short)
			require.NotEmpty(t, cmd.Example)
			require.Contains(t, ok(t, "", append(strings.Fields(cmd.CommandPath())[1:], "--help")...), "\nExamples:\n")
			for line := range strings.Lines(cmd.Example) {
				parseExample(t, cmd, line)
			}
		})
	})
}

// parseExample checks each tidings of a line: the command is there, and takes
// these flags and arguments.
func parseExample(t *testing.T, cmd *cobra.Command, line string) {
	t.Helper()
	for part := range strings.SplitSeq(line, "|") {
		words := shellFields(part)
		require.Equal(t, "tidings", words[0], line)
		found, rest, err := cli.Root().Find(words[1:])
		require.NoError(t, err, line)
		require.NoError(t, found.ParseFlags(rest), line)
		require.NoError(t, found.ValidateArgs(found.Flags().Args()), line)
		if part == line {
			require.Equal(t, cmd.CommandPath(), found.CommandPath(), line)
		}
	}
}

// shellFields are the words of a line, of which some are in double quotes.
func shellFields(line string) []string {
	words := regexp.MustCompile(`"[^"]*"|\S+`).FindAllString(line, -1)
	for i := range words {
		words[i] = strings.Trim(words[i], `"`)
	}
	return words
}

// TestExamplesRun runs, as they stand, the examples that need no more than a
// broker and a directory.
func TestExamplesRun(t *testing.T) {
	startBroker(t)
	t.Chdir(t.TempDir())
	event := cloudEvent("a1", "o-17", "order.placed", 1) + "\n"
	require.NoError(t, os.WriteFile("events.ndjson", []byte(event), 0o600))
	require.NoError(t, os.WriteFile("batch.json", []byte("["+event+"]"), 0o600))
	ok(t, "", "topics", "create", "order-copy")
	for _, path := range []string{"topics create", "topics list", "publish", "tail", "migrate", "version"} {
		cmd, _, err := cli.Root().Find(strings.Fields(path))
		require.NoError(t, err)
		for line := range strings.Lines(cmd.Example) {
			var skip bool
			for _, needs := range []string{"postgres", "|", "-n 5"} {
				skip = skip || strings.Contains(line, needs)
			}
			words := strings.Fields(line)[1:]
			if words[0] == "tail" && !strings.Contains(line, "--follow=false") {
				skip = true // follows until it is interrupted
			}
			if !skip {
				ok(t, "", words...)
			}
		}
	}
}

func TestTheRootShowsEveryCommand(t *testing.T) {
	out := ok(t, "")
	for _, name := range []string{"publish", "tail", "dlq", "topics", "migrate", "health", "demo", "broker", "version", "completion", "exit-codes", "configuration"} {
		require.Contains(t, out, " "+name+" ", name)
	}
	require.NotContains(t, ok(t, "", "demo", "--help"), "\n  service ", "the demo's own processes are hidden")
	require.Contains(t, ok(t, "", "help", "configuration"), "TIDINGS_SASL_PASSWORD_FILE")
}

func TestCompletionIsThereForTheShells(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		require.Contains(t, ok(t, "", "completion", shell), "tidings")
	}
	require.Contains(t, run(t, "", "__complete", "topics", "").stdout, "create\tCreate topics")
}

func TestVersionIsThereForPeopleAndScripts(t *testing.T) {
	require.True(t, strings.HasPrefix(ok(t, "", "version"), "tidings "))
	var v map[string]any
	require.NoError(t, json.Unmarshal([]byte(ok(t, "", "version", "--json")), &v))
	require.NotEmpty(t, v["version"])
	require.NotEmpty(t, v["go"])
}

func TestHealthFollowsTheAdminPort(t *testing.T) {
	ready := false
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health/ready" && !ready {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(`{"status":"failing"}`))
			return
		}
		_, _ = w.Write([]byte(`{"status":"ok"}`))
	}))
	t.Cleanup(srv.Close)
	addr := srv.Listener.Addr().String()
	golden{
		args: []string{"health", "--addr", addr}, code: cli.ExitFailed,
		stderr: "tidings: not ready: http://" + addr + "/health/ready answered 503 Service Unavailable: {\"status\":\"failing\"}\n",
	}.check(t)
	require.Equal(t, "live {\"status\":\"ok\"}\n", ok(t, "", "health", "--live", "--addr", addr))
	ready = true
	require.Equal(t, "ready {\"status\":\"ok\"}\n", ok(t, "", "health", "--addr", addr))
	http.DefaultClient.CloseIdleConnections()
}

func TestTheDemoReportsInJSONAndTheUsersSettingsDoNotReachItsProcesses(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("TIDINGS_SASL_MECHANISM", "PLAIN")
	t.Setenv("TIDINGS_SASL_USERNAME", "u")
	t.Setenv("TIDINGS_SASL_PASSWORD", "p")
	t.Setenv("TIDINGS_CONFIG", write(t, "t.yaml", "tls: true\ntopic: elsewhere\n"))
	var report struct {
		OK     bool `json:"ok"`
		Seed   int  `json:"seed"`
		Events int  `json:"events"`
		Audit  struct {
			Published  int      `json:"published"`
			Mismatches []string `json:"mismatches"`
		} `json:"audit"`
	}
	require.NoError(t, json.Unmarshal([]byte(ok(t, "", "demo", "--json", "--events", "200", "--seed", "5")), &report))
	require.True(t, report.OK)
	require.Equal(t, []int{200, 200, 5}, []int{report.Events, report.Audit.Published, report.Seed})
	require.NotNil(t, report.Audit.Mismatches)
}
