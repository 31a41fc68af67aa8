package main

import (
	"bufio"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/internal/testenv"
)

// The lanes-pc measures read the same topic by both sides: one partition, 1,000
// keys, 1,000 slots. Handlers decode the payload and sleep. A window is four
// times as long as in other measures: Parallel Consumer takes seconds to come to
// its pace with each new group (measured: 0.3k/s in the first two, 14-21k/s over
// twelve).
var (
	lanesPC0ms  = lanesPC("lanes-pc-0ms", 1_500_000, 0)
	lanesPC1ms  = lanesPC("lanes-pc-1ms", 1_500_000, time.Millisecond)
	lanesPC10ms = lanesPC("lanes-pc-10ms", 600_000, handlerPause)
)

func lanesPC(name string, events int, pause time.Duration) measure {
	doing := "only decodes"
	if pause > 0 {
		doing = "takes " + pause.String()
	}
	return measure{
		name: name, unit: perSecond, goal: 5,
		what: "one partition, 1,000 keys, 1,000 slots, a handler that " + doing + "; peer: Confluent Parallel Consumer (Java), KEY mode, the same concurrency",
		prepare: func(ctx context.Context, e *env) (sides, error) {
			return prepareLanesPC(ctx, e, name, events, pause)
		},
	}
}

func prepareLanesPC(ctx context.Context, e *env, name string, events int, pause time.Duration) (sides, error) {
	if err := e.java(ctx); err != nil {
		return sides{}, err
	}
	topic, brokers, err := load(ctx, e, name, events)
	if err != nil {
		return sides{}, err
	}
	peer, err := startParallel(ctx, e.peers, brokers, topic, events, pause)
	if err != nil {
		return sides{}, err
	}
	// The virtual machine compiles what is hot: it has time for that, uncounted.
	if _, err := peer.rate(jvmWarmUp); err != nil {
		return sides{}, join(err, peer.stop())
	}
	return sides{
		cleanup: func() { _ = peer.stop() },
		ours: func(ctx context.Context, d time.Duration) (float64, error) {
			c := newCount(events)
			err := consumeOurs(ctx, brokers, topic, lanes, c, parallelWindows*d, func(context.Context, event.Of[placed]) error {
				if pause > 0 {
					time.Sleep(pause)
				}
				c.one()
				return nil
			})
			if err != nil {
				return 0, err
			}
			return c.rate()
		},
		peer: func(_ context.Context, d time.Duration) (float64, error) { return peer.rate(parallelWindows * d) },
	}, nil
}

const (
	slots           = 1000
	jvmWarmUp       = 10 * time.Second
	parallelWindows = 4
)

//go:embed peers
var peerSources embed.FS

// java builds the Java peers, once, in a directory that goes with the run. Where
// Java or Maven is missing, its error wraps errLeftOut.
func (e *env) java(ctx context.Context) error {
	if e.peers != "" {
		return nil
	}
	for _, program := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%w: the peer is a Java program, and %s is not on the PATH", errLeftOut, program)
		}
	}
	dir, err := os.MkdirTemp("", "tidings-bench-peers")
	if err != nil {
		return err
	}
	if err := buildPeers(ctx, dir); err != nil {
		return join(err, os.RemoveAll(dir))
	}
	e.peers = dir
	return nil
}

func buildPeers(ctx context.Context, dir string) error {
	if err := os.CopyFS(dir, peerSources); err != nil {
		return err
	}
	const patience = 10 * time.Minute // the first build fetches what it needs
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	build := exec.CommandContext(ctx, "mvn", "-q", "-B", "package")
	build.Dir = filepath.Join(dir, "peers", "parallel-consumer")
	if said, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the Java peer by mvn package (put bench/peers/parallel-consumer where Maven reaches a repository, or run without java on the PATH to leave it out): %w\n%s", err, said)
	}
	return nil
}

// parallel is the running peer: it stays for all rounds, idle in between.
type parallel struct {
	cmd   *exec.Cmd
	asks  io.WriteCloser
	says  *bufio.Reader
	wrong *tail // what it wrote to standard error
}

func startParallel(ctx context.Context, dir string, brokers []string, topic string, events int, pause time.Duration) (*parallel, error) {
	target := filepath.Join(dir, "peers", "parallel-consumer", "target")
	path := filepath.Join(target, "classes") + string(os.PathListSeparator) + filepath.Join(target, "lib", "*")
	//nolint:gosec // the arguments are this program's own
	cmd := exec.CommandContext(ctx, "java", "-cp", path, "peer.Peer",
		strings.Join(brokers, ","), topic, strconv.Itoa(events), strconv.Itoa(slots), strconv.FormatInt(pause.Milliseconds(), 10))
	p := &parallel{cmd: cmd, wrong: &tail{}}
	cmd.Stderr = p.wrong
	var err error
	if p.asks, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.says = bufio.NewReader(out)
	return p, cmd.Start()
}

// rate is one round, by a new group.
func (p *parallel) rate(d time.Duration) (float64, error) {
	if _, err := fmt.Fprintf(p.asks, "%s %d\n", testenv.Name("parallel"), d.Milliseconds()); err != nil {
		return 0, p.failed(err)
	}
	for {
		line, err := p.says.ReadString('\n')
		if err != nil {
			return 0, p.failed(err)
		}
		if figure, found := strings.CutPrefix(strings.TrimSpace(line), "rate "); found {
			return strconv.ParseFloat(figure, 64)
		}
	}
}

// failed ends the peer, for what it wrote is whole only then.
func (p *parallel) failed(err error) error {
	return fmt.Errorf("the Java peer failed: %w\n%s", join(err, p.stop()), p.wrong)
}

func (p *parallel) stop() error {
	if err := p.asks.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
		return err
	}
	return p.cmd.Wait()
}
