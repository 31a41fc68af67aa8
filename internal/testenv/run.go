package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// longEnv asks for the full sizes.
const longEnv = "TIDINGS_TEST_LONG"

// removeTimeout bounds the removal of one container.
const removeTimeout = 30 * time.Second

// Main is a TestMain: it runs the tests, removes the shared containers, fails
// when a goroutine is left, and exits.
func Main(m *testing.M, options ...goleak.Option) {
	goleak.VerifyTestMain(runner{m}, append(quiet(), options...)...)
}

// Run runs the tests, removes the shared containers and returns the exit code.
// It is for a TestMain that has more to do than [Main].
func Run(m *testing.M) int { return runner{m}.Run() }

// Long reports whether the full sizes are asked for (TIDINGS_TEST_LONG=1).
func Long() bool { return os.Getenv(longEnv) == "1" }

type runner struct{ m *testing.M }

func (r runner) Run() int {
	code := r.m.Run()
	if err := shared.removeAll(); err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		if code == 0 {
			code = 1
		}
	}
	return code
}

// quiet names the goroutines of the container library that outlive its calls.
func quiet() []goleak.Option {
	return []goleak.Option{
		// Connections to the Docker daemon stay open for reuse.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		// The connection to the container that removes others, where it is enabled.
		goleak.IgnoreAnyFunction("github.com/testcontainers/testcontainers-go.(*Reaper).connect.func1"),
	}
}

// shared holds what one test binary started once.
var shared pool

type pool struct {
	mu         sync.Mutex
	containers []*Container
	kafka      once[*Broker]
	postgres   once[*Server]
}

func (p *pool) add(c *Container) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.containers = append(p.containers, c)
}

func (p *pool) removeAll() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
	defer cancel()
	errs := make([]error, 0, len(p.containers))
	for _, c := range p.containers {
		errs = append(errs, c.remove(ctx))
	}
	p.containers = nil
	return errors.Join(errs...)
}

// once keeps the first outcome, a failure too: a broker that does not start
// costs its wait once, not once for each test.
type once[T any] struct {
	sync.Once

	value T
	err   error
}

func (o *once[T]) get(start func() (T, error)) (T, error) {
	o.Do(func() { o.value, o.err = start() })
	return o.value, o.err
}
