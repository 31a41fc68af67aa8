package demo_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/internal/cli"
	"github.com/tidings-bus/tidings/internal/demo"
	"github.com/tidings-bus/tidings/internal/testenv"
)

// programEnv makes the test binary the program itself, for the demo's processes.
const programEnv = "TIDINGS_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(programEnv) != "" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		code := cli.Run(ctx, cli.Process{Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
		stop()
		os.Exit(code)
	}
	testenv.Main(m)
}

func program(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), programEnv+"=1")
	return cmd
}

// TestEffectsHappenOnceAndInOrderWhateverBreaks is the demo, small: duplicates,
// a SIGKILL, a broker restart, a failing provider (I2, I3, I4, I5). Then it
// tampers with what the run left, and the audit must see it.
func TestEffectsHappenOnceAndInOrderWhateverBreaks(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out bytes.Buffer
	rep, err := demo.Run(t.Context(), demo.Config{Events: 400, Orders: 40, Seed: 1, Keep: true, Command: program, Out: &out})
	require.NoError(t, err, out.String())
	require.Empty(t, rep.Audit.Mismatches, out.String())
	require.True(t, rep.OK)
	require.Equal(t, 400, rep.Audit.Published)
	require.Positive(t, rep.Kills)
	require.Positive(t, rep.KilledAmid, "the process had work of its own when it was killed")
	require.Positive(t, rep.AfterRestart, "and went on with it afterwards")
	require.Equal(t, 1, rep.BrokerRestarts)
	require.Positive(t, rep.PublishedTwice)
	require.Positive(t, rep.MailFailures)
	require.GreaterOrEqual(t, rep.Audit.Copies, rep.PublishedTwice)
	for _, s := range rep.Audit.Services {
		require.Equal(t, s.Expected, s.Effects, s.Name)
	}
	require.Regexp(t, `killed billing-2 with SIGKILL: \d+ effects were its own, \d+ events? of its \d partitions? (was|were) not finished`, out.String())
	rep.Print(&out)
	require.Contains(t, out.String(), "OK: 400 events, each with its effect once and in order")

	ev := demo.EvidenceOf(rep)
	e := ev.Services[0].Effects[100]
	name := fmt.Sprintf("event %s (%s, order %s, sequence %d)", e.EventID, e.Type, e.OrderID, e.Sequence)
	where := fmt.Sprintf("event_id = '%s'", e.EventID)
	for what, c := range map[string]struct {
		statement string
		want      string
	}{
		"dropped": {"DELETE FROM demo_effect WHERE " + where, "billing: " + name + " had no effect"},
		"doubled": {
			"INSERT INTO demo_effect (service, member, event_id, order_id, sequence, type) SELECT service, member, event_id, order_id, sequence, type FROM demo_effect WHERE " + where,
			"billing: " + name + " had its effect 2 times",
		},
		"late": {"UPDATE demo_effect SET place = place + 100000 WHERE " + where, "billing: " + name + " had its effect after sequence"},
	} {
		t.Run("an effect "+what+" is seen", func(t *testing.T) {
			file := copyFile(t, rep.Kept, "billing.db")
			require.NoError(t, demo.Tamper(t.Context(), file, c.statement))
			ev, err := demo.ReadAgain(t.Context(), ev, "billing", file)
			require.NoError(t, err)
			a := demo.AuditOf(ev)
			require.False(t, a.OK())
			require.Len(t, a.Mismatches, 1)
			require.Contains(t, a.Mismatches[0], c.want)
		})
	}
}

func copyFile(t *testing.T, dir, name string) string {
	t.Helper()
	to := t.TempDir()
	for _, suffix := range []string{"", "-wal"} {
		raw, err := os.ReadFile(filepath.Join(dir, name+suffix))
		if os.IsNotExist(err) {
			continue
		}
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(to, name+suffix), raw, 0o600))
	}
	return filepath.Join(to, name)
}

func TestAnInterruptedDemoStopsItsProcessesAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	ctx, cancel := context.WithCancel(t.Context())
	var started []*exec.Cmd
	_, err := demo.Run(ctx, demo.Config{
		Events: 2000, Seed: 1,
		Command: func(args ...string) *exec.Cmd {
			cmd := program(args...)
			started = append(started, cmd)
			return cmd
		},
		Out: writer(func(line string) {
			if strings.Contains(line, "SIGKILL") {
				cancel()
			}
		}),
	})
	require.ErrorIs(t, err, context.Canceled)
	require.GreaterOrEqual(t, len(started), 6)
	for _, cmd := range started {
		require.NotNil(t, cmd.ProcessState, "%v has ended", cmd.Args)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestADemoThatDoesNotAddUpNamesTheEventAndKeepsTheEvidence(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	var out bytes.Buffer
	rep, err := demo.Run(t.Context(), demo.Config{
		Events: 200, Seed: 9, Command: program,
		Out: writer(func(line string) {
			if !strings.Contains(line, "started billing-2 again") {
				return
			}
			files, err := filepath.Glob(filepath.Join(dir, "*", "billing.db"))
			require.NoError(t, err)
			require.Len(t, files, 1)
			require.NoError(t, demo.Tamper(t.Context(), files[0], "DELETE FROM demo_effect WHERE place = 1"))
		}),
	})
	require.NoError(t, err)
	require.False(t, rep.OK)
	require.Len(t, rep.Audit.Mismatches, 1)
	require.Regexp(t, `^billing: event [0-9a-f-]{36} \(order\.placed, order o-\d+, sequence 1\) had no effect$`, rep.Audit.Mismatches[0])
	require.DirExists(t, rep.Kept)
	rep.Print(&out)
	require.Contains(t, out.String(), "  MISMATCH  "+rep.Audit.Mismatches[0]+"\n")
	require.Contains(t, out.String(), "FAILED: the audit does not add up (seed 9)\nKept: "+rep.Kept+"\n")
}

func TestProcessesEndWhenTheirParentIsKilled(t *testing.T) {
	cmd := program("demo", "service", "broker")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	require.NoError(t, stdin.Close(), "as the kernel does when the parent dies")
	require.NoError(t, cmd.Wait())
}

func TestAProcessThatDiesIsNamedWithItsLastWords(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	_, err := demo.Run(t.Context(), demo.Config{Events: 200, Seed: 1, Command: func(args ...string) *exec.Cmd {
		if args[2] == "shipping" {
			args = append(args, "--sqlite", "/nowhere/at/all.db")
		}
		return program(args...)
	}})
	require.ErrorContains(t, err, "process shipping-1 ended (exit status")
	require.ErrorContains(t, err, "/nowhere/at/all.db")
}

func TestSizesThatShowNothingAreRefused(t *testing.T) {
	for _, c := range []struct {
		cfg  demo.Config
		want string
	}{
		{demo.Config{Events: 5, Command: program}, "events: 5 are too few: with less than 100 there is no middle in which to break things"},
		{demo.Config{Events: 200, Orders: -1, Command: program}, "orders: -1 must be 1 or more, or 0 for a tenth of the events"},
		{demo.Config{Events: 200, Orders: 300, Command: program}, "200 events over 300 orders: every order has at least one event; raise the events or lower the orders"},
	} {
		_, err := demo.Run(t.Context(), c.cfg)
		require.EqualError(t, err, c.want)
	}
}

type writer func(string)

func (w writer) Write(p []byte) (int, error) {
	w(string(p))
	return len(p), nil
}
