package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"
)

const (
	// leftOutEnv names the file that receives a line for each skipped test.
	leftOutEnv = "TIDINGS_LEFT_OUT"
	// runEnv labels containers, so that a run can remove what a killed test left.
	runEnv = "TIDINGS_TEST_RUN"
	// runLabel carries the value of runEnv.
	runLabel = "tidings.run"
	// offEnv leaves the container suites out on purpose: TIDINGS_DOCKER=off.
	offEnv = "TIDINGS_DOCKER"
)

var docker once[struct{}]

// Docker skips the test when no Docker daemon answers; with CI=true it fails it.
func Docker(t testing.TB) {
	t.Helper()
	_, err := docker.get(func() (struct{}, error) { return struct{}{}, probe() })
	if err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("needs Docker, and CI=true allows no suite to be left out: %v", err)
	}
	leaveOut(t, err)
	t.Skipf("LEFT OUT: needs Docker (start its daemon, or set DOCKER_HOST): %v", err)
}

// probe asks the daemon for its health.
func probe() (err error) {
	if os.Getenv(offEnv) == "off" {
		return errors.New(offEnv + "=off")
	}
	log.SetDefault(silent{})
	// The library panics when it finds no host at all.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("find a Docker host: %v", r)
		}
	}()
	provider, err := testcontainers.NewDockerProvider()
	if err != nil {
		return fmt.Errorf("connect to Docker: %w", err)
	}
	defer func() { _ = provider.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return provider.Health(ctx)
}

// leaveOut records a skipped test: package, test and reason, between tabs.
func leaveOut(t testing.TB, reason error) {
	t.Helper()
	name := os.Getenv(leftOutEnv)
	if name == "" {
		return
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600) //nolint:gosec // the run's own file
	if err != nil {
		t.Fatalf("record that %s is left out: %v", t.Name(), err)
	}
	defer func() { _ = f.Close() }()
	line := strings.Join([]string{packageDir(), t.Name(), strings.ReplaceAll(reason.Error(), "\n", " ")}, "\t")
	if _, err := fmt.Fprintln(f, line); err != nil {
		t.Fatalf("record that %s is left out: %v", t.Name(), err)
	}
}

// packageDir is the tested package's directory below its module: go test runs
// a test binary there.
func packageDir() string {
	dir, err := os.Getwd()
	if err != nil {
		return "?"
	}
	for root := dir; ; root = filepath.Dir(root) {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			rel, _ := filepath.Rel(root, dir)
			return filepath.ToSlash(rel)
		}
		if root == filepath.Dir(root) {
			return dir
		}
	}
}

// labels mark a container as this run's.
func labels() map[string]string {
	run := os.Getenv(runEnv)
	if run == "" {
		run = fmt.Sprintf("pid-%d", os.Getpid())
	}
	return map[string]string{runLabel: run}
}

// silent drops the container library's progress lines.
type silent struct{}

func (silent) Printf(string, ...any) {}

// image is the image that variable names, or the public one.
func image(variable, public string) string {
	if name := strings.TrimSpace(os.Getenv(variable)); name != "" {
		return name
	}
	return public
}
