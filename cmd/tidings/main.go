// Command tidings is the command line of the event bus: it makes topics,
// migrates databases, publishes and follows events, and shows the whole at work
// in "tidings demo".
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/tidings-bus/tidings/internal/cli"
)

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends the process at once: stop waits for children and
	// transactions, and that must not hold up somebody who insists.
	context.AfterFunc(ctx, stop)
	return cli.Run(ctx, cli.Process{Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
}
