package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// process is a run of this test binary in another role: a real process, so that
// SIGKILL is a real crash.
type process struct {
	role  string
	name  string
	cmd   *exec.Cmd
	stdin io.Closer // closed: the process ends
	log   tail
	done  chan struct{} // closed when the process has ended
	err   error         // how; after done

	ending bool // the suite asked for the end
}

// stopPatience is how long a process may take to stop on SIGTERM. It is above
// the drain and the router's stop timeout together.
const stopPatience = 60 * time.Second

// start starts a process. It is killed at the end of the test at the latest, and
// what it wrote is shown when the test failed.
func start(t *testing.T, role, name string, spec any) *process {
	t.Helper()
	text, err := json.Marshal(spec)
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	p := &process{role: role, name: name, done: make(chan struct{})}
	p.cmd = exec.Command(self)
	p.cmd.Env = append(os.Environ(), roleEnv+"="+role, specEnv+"="+string(text))
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.stdin, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.done)
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.end(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("process %s (%v) wrote:\n%s", p.name, p.err, p.log.String())
		}
	})
	return p
}

// kill ends the process as a crash does. It must have been alive.
func (p *process) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, p.fault())
	p.end(syscall.SIGKILL)
	var exit *exec.ExitError
	require.ErrorAs(t, p.err, &exit)
	status, ok := exit.Sys().(syscall.WaitStatus)
	require.True(t, ok && status.Signal() == syscall.SIGKILL, "process %s was to die of SIGKILL: %v", p.name, p.err)
	require.NotContains(t, p.log.String(), "DATA RACE", "process %s", p.name)
}

// stop asks the process to end, and demands that it does so well: nothing lost,
// nothing left running, no race seen.
func (p *process) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, p.fault())
	p.ending = true
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	p.wait(t)
}

// wait returns when the process has ended by itself, well.
func (p *process) wait(t *testing.T) {
	t.Helper()
	p.ending = true
	select {
	case <-p.done:
	case <-time.After(stopPatience):
		p.end(syscall.SIGQUIT) // its goroutines go to the log
		t.Fatalf("process %s did not end within %v", p.name, stopPatience)
	}
	require.NoError(t, p.err, "process %s", p.name)
}

// release lets a producer that keeps a pace send what is left, and returns when
// it has.
func (p *process) release(t *testing.T) {
	t.Helper()
	p.ending = true
	if err := p.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		require.ErrorIs(t, err, os.ErrProcessDone)
	}
	p.wait(t)
}

// end sends the signal and returns when the process is gone.
func (p *process) end(signal syscall.Signal) {
	p.ending = true
	_ = p.cmd.Process.Signal(signal)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	_ = p.stdin.Close()
}

// running reports whether the process has not ended.
func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// fault is the error of a process that ended though nobody asked it to. A
// producer may: it has published everything.
func (p *process) fault() error {
	switch {
	case p.ending || p.running():
		return nil
	case p.err == nil && p.role == roleProducer:
		return nil
	case p.err == nil:
		return errors.New("process " + p.name + " ended by itself")
	}
	return fmt.Errorf("process %s died: %w", p.name, p.err)
}

// wrote reports whether the text is in what the process wrote and was kept.
func (p *process) wrote(text string) bool { return strings.Contains(p.log.String(), text) }

// tail keeps the beginning and the end of what a process wrote.
type tail struct {
	mu      sync.Mutex
	head    bytes.Buffer
	rest    bytes.Buffer
	dropped int
}

const (
	tailHead = 16 << 10
	tailRest = 64 << 10
)

// Write takes everything and keeps what fits.
func (l *tail) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(b)
	if room := tailHead - l.head.Len(); room > 0 {
		room = min(room, len(b))
		l.head.Write(b[:room])
		b = b[room:]
	}
	l.rest.Write(b)
	if over := l.rest.Len() - tailRest; over > tailRest {
		l.dropped += over
		l.rest.Next(over)
	}
	return n, nil
}

// String is what was kept.
func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	b.Write(l.head.Bytes())
	if l.dropped > 0 {
		fmt.Fprintf(&b, "\n... %d bytes left out ...\n", l.dropped)
	}
	b.Write(l.rest.Bytes())
	return b.String()
}
