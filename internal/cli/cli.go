package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// Process is what a command is started with.
type Process struct {
	Args   []string // without the program's name
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
}

// Run runs one command and returns its exit code. Errors have been written to
// Stderr. It blocks until the command is done or ctx ends.
func Run(ctx context.Context, p Process) int {
	root := Root() //nolint:contextcheck // commands get theirs from ExecuteContextC
	root.SetArgs(p.Args)
	root.SetIn(p.Stdin)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitOK
	}
	code := ExitCode(err)
	if code == ExitOK {
		return code
	}
	if _, ok := errors.AsType[*reportedError](err); ok {
		return code // the command has said it
	}
	if code == ExitInterrupted {
		sayf(p.Stderr, "%s\n", "tidings: interrupted")
		return code
	}
	sayf(p.Stderr, "tidings: %s\n", strings.TrimRight(err.Error(), "\n"))
	if code == ExitUsage {
		sayf(p.Stderr, "see '%s --help'\n", cmd.CommandPath())
	}
	return code
}

// Root returns the whole command tree, ready to run once.
func Root() *cobra.Command {
	s := &settings{}
	root := &cobra.Command{
		Use:   "tidings",
		Short: "A domain-event bus for Go services on Kafka",
		Long: `tidings publishes and follows domain events on Kafka, makes their topics, and
migrates the databases in which handlers remember what they have applied.

Start with 'tidings demo': it needs nothing but this binary.`,
		Example: `  tidings demo
  tidings broker --data ./kafka
  tidings topics create order --partitions 6 --brokers 127.0.0.1:9092
  tidings tail order --from-beginning --brokers 127.0.0.1:9092`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArgs,
		RunE:          showHelp,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return s.load(cmd)
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().StringVar(&s.file, "config", "", "YAML file with settings, each named as its flag (env TIDINGS_CONFIG)")
	root.AddGroup(
		&cobra.Group{ID: "events", Title: "Events:"},
		&cobra.Group{ID: "operate", Title: "Operating:"},
		&cobra.Group{ID: "setup", Title: "Setting up:"},
		&cobra.Group{ID: "try", Title: "Trying it out:"},
	)
	for _, cmd := range []*cobra.Command{publishCommand(), tailCommand()} {
		cmd.GroupID = "events"
		root.AddCommand(cmd)
	}
	for _, cmd := range []*cobra.Command{dlqCommand(), groupsCommand()} {
		cmd.GroupID = "operate"
		root.AddCommand(cmd)
	}
	for _, cmd := range []*cobra.Command{topicsCommand(), migrateCommand(), healthCommand()} {
		cmd.GroupID = "setup"
		root.AddCommand(cmd)
	}
	for _, cmd := range []*cobra.Command{demoCommand(), brokerCommand()} {
		cmd.GroupID = "try"
		root.AddCommand(cmd)
	}
	root.AddCommand(versionCommand(), exitCodesTopic(), configurationTopic())
	return root
}

func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// noArgs is cobra.NoArgs with suggestions, for commands whose next word is a command.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !cmd.HasAvailableSubCommands() {
		return usageError{fmt.Errorf("%s takes no argument, got %q", cmd.CommandPath(), args[0])}
	}
	msg := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		msg += fmt.Sprintf("; did you mean %q?", strings.Join(near, `" or "`))
	}
	return usageError{errors.New(msg)}
}

// exactArgs wants as many arguments as names.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usageError{fmt.Errorf("%s wants %s", cmd.CommandPath(), names[len(args)])}
		case len(args) > len(names):
			return usageError{fmt.Errorf("%s: unexpected argument %q", cmd.CommandPath(), args[len(names)])}
		}
		return nil
	}
}

// sayf writes to stdout or stderr. What cannot be written there can be told to
// nobody.
func sayf(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
