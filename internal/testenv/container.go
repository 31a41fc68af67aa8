package testenv

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

// Container is a started container whose host ports never change. Its methods
// may be called from any goroutine.
type Container struct {
	id    string
	ctr   testcontainers.Container
	ready func(context.Context) error
}

// startTimeout bounds one start, image pull included.
const startTimeout = 5 * time.Minute

// attempts is how often a start is tried again when a port was taken meanwhile.
const attempts = 5

// spec says what to start.
type spec struct {
	image string
	env   map[string]string
	args  []string
	files []testcontainers.ContainerFile
	ports map[int]int // in the container -> on the host
	wait  wait.Strategy
	// ready asks the service itself: after a restart its log still holds the
	// line of the first start.
	ready func(context.Context) error
}

// start runs describe's container; describe is called again, to choose other
// ports, when another process took one of them.
func start(describe func() (spec, error)) (*Container, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for attempt := 1; ; attempt++ {
		s, err := describe()
		if err != nil {
			return nil, err
		}
		c, err := run(ctx, s)
		if err == nil {
			return c, nil
		}
		if attempt == attempts || !portTaken(err) {
			return nil, err
		}
	}
}

func portTaken(err error) bool {
	return strings.Contains(err.Error(), "port is already allocated") ||
		strings.Contains(err.Error(), "address already in use")
}

func run(ctx context.Context, s spec) (*Container, error) {
	exposed, bindings := make([]string, 0, len(s.ports)), network.PortMap{}
	for inside, outside := range s.ports {
		exposed = append(exposed, fmt.Sprintf("%d/tcp", inside))
		bindings[network.MustParsePort(fmt.Sprintf("%d/tcp", inside))] = []network.PortBinding{
			{HostIP: bindAddress(), HostPort: strconv.Itoa(outside)},
		}
	}
	options := []testcontainers.ContainerCustomizer{
		testcontainers.WithEnv(s.env),
		testcontainers.WithLabels(labels()),
		testcontainers.WithExposedPorts(exposed...),
		testcontainers.WithHostConfigModifier(func(h *container.HostConfig) { h.PortBindings = bindings }),
		testcontainers.WithFiles(s.files...),
		testcontainers.WithWaitStrategyAndDeadline(startTimeout, s.wait),
	}
	if len(s.args) > 0 {
		options = append(options, testcontainers.WithCmdArgs(s.args...))
	}
	ctr, err := testcontainers.Run(ctx, s.image, options...)
	c := &Container{ctr: ctr, ready: s.ready}
	if ctr != nil {
		c.id = ctr.GetContainerID()
	}
	if err == nil {
		err = c.ready(ctx)
	}
	if err != nil {
		err = fmt.Errorf("start a container of %s: %w%s", s.image, err, c.tail(ctx))
		if ctr != nil && c.id != "" {
			_ = c.remove(context.WithoutCancel(ctx))
		}
		return nil, err
	}
	return c, nil
}

// ID is the container's ID.
func (c *Container) ID() string { return c.id }

// Kill ends the container as a crash does: SIGKILL, no word to anyone.
func (c *Container) Kill(ctx context.Context) error {
	return c.command(ctx, "kill", func(ctx context.Context, cli *testcontainers.DockerClient) error {
		_, err := cli.ContainerKill(ctx, c.id, client.ContainerKillOptions{Signal: "KILL"})
		return err
	})
}

// Stop ends the container as an operator does: SIGTERM, and 30 s to obey.
func (c *Container) Stop(ctx context.Context) error {
	return c.command(ctx, "stop", func(ctx context.Context, cli *testcontainers.DockerClient) error {
		patience := 30
		_, err := cli.ContainerStop(ctx, c.id, client.ContainerStopOptions{Timeout: &patience})
		return err
	})
}

// Start starts a killed or stopped container again, with its data and on its
// ports, and returns when the service answers.
func (c *Container) Start(ctx context.Context) error {
	err := c.command(ctx, "start", func(ctx context.Context, cli *testcontainers.DockerClient) error {
		_, err := cli.ContainerStart(ctx, c.id, client.ContainerStartOptions{})
		return err
	})
	if err != nil {
		return err
	}
	return c.Ready(ctx)
}

// Restart kills the container and starts it again.
func (c *Container) Restart(ctx context.Context) error {
	if err := c.Kill(ctx); err != nil {
		return err
	}
	return c.Start(ctx)
}

// Pause freezes the container: connections stay open and nothing answers.
func (c *Container) Pause(ctx context.Context) error {
	return c.command(ctx, "pause", func(ctx context.Context, cli *testcontainers.DockerClient) error {
		_, err := cli.ContainerPause(ctx, c.id, client.ContainerPauseOptions{})
		return err
	})
}

// Unpause lets a paused container go on.
func (c *Container) Unpause(ctx context.Context) error {
	return c.command(ctx, "unpause", func(ctx context.Context, cli *testcontainers.DockerClient) error {
		_, err := cli.ContainerUnpause(ctx, c.id, client.ContainerUnpauseOptions{})
		return err
	})
}

// Ready returns when the service answers, or with ctx's error.
func (c *Container) Ready(ctx context.Context) error {
	if err := c.ready(ctx); err != nil {
		return fmt.Errorf("wait for container %.12s: %w%s", c.id, err, c.tail(ctx))
	}
	return nil
}

// Exec runs a command in the container and returns what it wrote.
func (c *Container) Exec(ctx context.Context, command ...string) (string, error) {
	code, out, err := c.ctr.Exec(ctx, command)
	if err != nil {
		return "", fmt.Errorf("run %q in container %.12s: %w", command, c.id, err)
	}
	text, err := io.ReadAll(out)
	if err != nil {
		return "", fmt.Errorf("read what %q wrote in container %.12s: %w", command, c.id, err)
	}
	if code != 0 {
		return string(text), fmt.Errorf("run %q in container %.12s: exit code %d: %s", command, c.id, code, text)
	}
	return string(text), nil
}

// removeAfter removes the container at the end of the test, with its last
// words in the log when the test failed.
func (c *Container) removeAfter(t testing.TB) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), removeTimeout)
		defer cancel()
		if t.Failed() {
			t.Logf("container %.12s%s", c.id, c.tail(ctx))
		}
		if err := c.remove(ctx); err != nil {
			t.Errorf("%v", err)
		}
	})
}

func (c *Container) remove(ctx context.Context) error {
	return c.command(ctx, "remove", func(ctx context.Context, cli *testcontainers.DockerClient) error {
		_, err := cli.ContainerRemove(ctx, c.id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		return err
	})
}

func (c *Container) command(
	ctx context.Context, verb string, do func(context.Context, *testcontainers.DockerClient) error,
) error {
	cli, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		return fmt.Errorf("%s container %.12s: connect to Docker: %w", verb, c.id, err)
	}
	defer func() { _ = cli.Close() }()
	if err := do(ctx, cli); err != nil {
		return fmt.Errorf("%s container %.12s: %w", verb, c.id, err)
	}
	return nil
}

// tail is the end of the container's log, for an error's text.
func (c *Container) tail(ctx context.Context) string {
	if c.id == "" {
		return ""
	}
	// The start or the wait it explains may have used up its time.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	logs, err := c.ctr.Logs(ctx)
	if err != nil {
		return ""
	}
	defer func() { _ = logs.Close() }()
	text, _ := io.ReadAll(logs)
	const most = 4000
	if len(text) > most {
		text = text[len(text)-most:]
	}
	return "\nits log ends:\n" + string(text)
}

// host is the address at which containers' ports are reached.
func host() string {
	if name := os.Getenv("TESTCONTAINERS_HOST_OVERRIDE"); name != "" {
		return name
	}
	return "127.0.0.1"
}

// bindAddress keeps the ports on the loopback unless containers run elsewhere.
func bindAddress() netip.Addr {
	if host() == "127.0.0.1" || host() == "localhost" {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv4Unspecified()
}

// freePort finds a port nobody listens on, below the range from which outgoing
// connections take theirs: one of those must not hold it while the container
// is being restarted.
func freePort(ctx context.Context) (int, error) {
	const from, to = 20000, 32000
	var last error
	for range 100 {
		port := from + rand.IntN(to-from) //nolint:gosec // any port will do
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(bindAddress().String(), strconv.Itoa(port)))
		if err != nil {
			last = err
			continue
		}
		return port, l.Close()
	}
	return 0, fmt.Errorf("find a free port between %d and %d: %w", from, to, last)
}

// until calls ask until it succeeds or ctx ends; the error is then ask's last.
func until(ctx context.Context, ask func(context.Context) error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		one, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := ask(one)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last answer: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}
