package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/tidings-bus/tidings/internal/testenv"
)

// roleEnv makes this binary one of the processes that the suites start and kill.
const roleEnv = "TIDINGS_INTEGRATION_ROLE"

// specEnv carries what the process is to do, as JSON.
const specEnv = "TIDINGS_INTEGRATION_SPEC"

// What a process of ours can be.
const (
	roleMember   = "member"
	roleProducer = "producer"
	roleReader   = "reader"
	roleLoner    = "loner"
)

// orphaned is the exit code of a process whose parent went away.
const orphaned = 3

// metrics of sarama tick for as long as the process lives.
var metrics = goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick")

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(play(role, os.Getenv(specEnv)))
	}
	testenv.Main(m, metrics)
}

// play runs a role until it ends or is told to stop by SIGTERM. What it leaves
// running is a failure: the exit code says so.
func play(role, spec string) int {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	slog.SetDefault(log)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	// The parent holds the other end for as long as it lives.
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(orphaned)
	}()
	before := goleak.IgnoreCurrent()
	if err := act(ctx, role, []byte(spec)); err != nil {
		log.Error("the process failed", "role", role, "cause", err)
		return 1
	}
	if err := goleak.Find(before, metrics); err != nil {
		log.Error("the process left goroutines", "role", role, "cause", err)
		return 1
	}
	log.Info("the process ended", "role", role)
	return 0
}

func act(ctx context.Context, role string, spec []byte) error {
	switch role {
	case roleMember:
		var m member
		if err := json.Unmarshal(spec, &m); err != nil {
			return fmt.Errorf("read the member's spec: %w", err)
		}
		return m.run(ctx)
	case roleProducer:
		var p producer
		if err := json.Unmarshal(spec, &p); err != nil {
			return fmt.Errorf("read the producer's spec: %w", err)
		}
		return p.run(ctx)
	case roleReader:
		var r reader
		if err := json.Unmarshal(spec, &r); err != nil {
			return fmt.Errorf("read the reader's spec: %w", err)
		}
		return r.run(ctx)
	case roleLoner:
		var l loner
		if err := json.Unmarshal(spec, &l); err != nil {
			return fmt.Errorf("read the loner's spec: %w", err)
		}
		return l.run(ctx)
	}
	return errors.New("unknown role " + role)
}
