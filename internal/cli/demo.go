package cli

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/tidings-bus/tidings/internal/demo"
)

func demoCommand() *cobra.Command {
	var (
		kafka  kafkaFlags
		cfg    demo.Config
		asJSON bool
	)
	cmd := &cobra.Command{ //nolint:gosec // the password is an example
		Use:   "demo",
		Short: "Watch a shop of several processes survive a kill, and count every event",
		Long: `Runs a small shop as processes of its own: an order service that places, pays,
ships and cancels orders; billing, twice; shipping; and mail, whose provider is a
local HTTP server that fails on purpose. By default on an embedded broker and
SQLite files with synchronous=FULL: no network, no Docker.

While it runs, some events are published twice, one billing process is killed with
SIGKILL and started again, and the broker is restarted. Then an audit counts every
event: published, handled by each service, effects, duplicates refused, order
breaks, lost. Anything that does not add up is named, and the exit code is 1; the
files are kept then, and removed otherwise.

The order service publishes straight to Kafka after its commit. That loses events
when it dies in between, so the demo does not kill it.

--kafka and --postgres run the same on real ones. The demo makes a topic, groups
and a database of its own there and removes them afterwards; it does not restart a
broker that is not its own.`,
		Example: `  tidings demo
  tidings demo --events 20000 --orders 1000 --seed 7
  tidings demo --kafka 127.0.0.1:9092 --postgres postgres://postgres:postgres@127.0.0.1:5432/postgres
  tidings demo --json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("seed") {
				cfg.Seed = rand.Uint64N(1_000_000) //nolint:gosec // printed, so that the run can be repeated
			}
			if err := demoKafka(&cfg, &kafka); err != nil {
				return err
			}
			password := ""
			if cfg.Kafka != nil {
				password = kafka.saslPassword
			}
			command, err := ownCommand(password)
			if err != nil {
				return err
			}
			cfg.Command = command
			return runDemo(cmd.Context(), cmd.OutOrStdout(), &kafka, cfg, asJSON)
		},
	}
	kafka.registerAs(cmd, "kafka", nil, "run on these brokers instead of the embedded one")
	f := cmd.Flags()
	f.StringVar(&cfg.Postgres, "postgres", "", "run on this PostgreSQL server instead of SQLite files (URL; the user needs CREATEDB)")
	f.IntVar(&cfg.Events, "events", demo.DefaultEvents, "events in all")
	f.IntVar(&cfg.Orders, "orders", 0, "orders they are spread over (default: a tenth of the events)")
	f.Uint64Var(&cfg.Seed, "seed", 0, "what happens follows from it (default: random, printed)")
	f.BoolVar(&cfg.Keep, "keep", false, "keep the files, or the database and topic, after success too")
	f.BoolVar(&asJSON, "json", false, "print the audit as JSON and no progress")
	cmd.AddCommand(serviceCommand())
	return cmd
}

// demoKafka fills cfg.Kafka when brokers are given.
func demoKafka(cfg *demo.Config, kafka *kafkaFlags) error {
	if len(kafka.brokers) == 0 {
		return nil
	}
	conn, err := kafka.config()
	if err != nil {
		return err
	}
	cfg.Kafka = &demo.Kafka{Connection: conn, Options: clientOpts(conn), Args: kafka.args()}
	return nil
}

func runDemo(ctx context.Context, out io.Writer, kafka *kafkaFlags, cfg demo.Config, asJSON bool) error {
	if cfg.Events == 0 { // the zero Config's default is not what was asked for
		return usageError{fmt.Errorf("--events 0: say %d or more, or leave it out for %d", demo.MinEvents, demo.DefaultEvents)}
	}
	if err := cfg.Validate(); err != nil {
		return usageError{err}
	}
	if cfg.Kafka != nil {
		cl, err := kafka.dial(ctx, cfg.Kafka.Connection)
		if err != nil {
			return err
		}
		cl.Close()
	}
	if cfg.Postgres != "" {
		d, err := openPostgres(ctx, cfg.Postgres)
		if err != nil {
			return err
		}
		if err := d.db.Close(); err != nil {
			return err
		}
	}
	if !asJSON {
		cfg.Out = out
		cfg.Width = terminalWidth(out)
	}
	report, err := demo.Run(ctx, cfg)
	if err != nil {
		if report.Kept != "" {
			return fmt.Errorf("%w; what happened is in %s", err, report.Kept)
		}
		return err
	}
	if asJSON {
		if err := printJSON(out, report); err != nil {
			return err
		}
	} else {
		report.Print(out)
	}
	if !report.OK {
		return &reportedError{fmt.Errorf("the audit does not add up")} //nolint:perfsprint // text for nobody
	}
	return nil
}

// ownCommand runs this program again. The settings of this one's environment
// and file are not for its processes, which are told all they need by flags; only
// the password is not for everybody's eyes.
func ownCommand(password string) (func(args ...string) *exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program, to run the demo's processes: %w", err)
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, envPrefix+"_") })
	if password != "" {
		env = append(env, envPrefix+"_SASL_PASSWORD="+password)
	}
	return func(args ...string) *exec.Cmd {
		cmd := exec.Command(exe, args...) //nolint:gosec,noctx // ourselves; the demo ends them
		cmd.Env = env
		return cmd
	}, nil
}

// terminalWidth tells the columns of out when it is a terminal, else nil.
func terminalWidth(out io.Writer) func() int {
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return func() int {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			return w
		}
		return 80
	}
}
