package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// stopTimeout is how long a process has to end by itself. A service drains its
// running handlers first.
const stopTimeout = 20 * time.Second

// Message is a line of JSON that a process of the demo writes to stdout for the
// process that started it.
type Message struct {
	Stats

	Addr string `json:"addr,omitempty"` // the broker's
}

// process is a process that the demo started. It ends when its stdin is closed:
// by stop, or because the demo itself has died.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.Closer
	log   *os.File
	ready chan struct{} // closed at the first ready message
	done  chan struct{} // closed when it has ended
	err   error         // how it ended; read after done
	addr  atomic.Pointer[string]
	stats atomic.Pointer[Stats]
}

// start runs cmd with its stderr in a file of dir.
func start(name, dir string, cmd *exec.Cmd) (*process, error) {
	p := &process{name: name, cmd: cmd, ready: make(chan struct{}), done: make(chan struct{})}
	log, err := os.OpenFile(filepath.Join(dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // in the run's own directory
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p.log = log
	cmd.Stderr = log
	ownGroup(cmd)
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting %s: %w", name, err), log.Close())
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting %s: %w", name, err), log.Close())
	}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting %s: %w", name, err), log.Close())
	}
	go p.wait(out)
	return p, nil
}

// wait hears what the process says until it ends.
func (p *process) wait(out io.Reader) {
	defer close(p.done)
	isReady := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var m Message
		if json.Unmarshal(lines.Bytes(), &m) != nil {
			continue // not for us
		}
		p.stats.Store(&m.Stats)
		if m.Addr != "" {
			p.addr.Store(&m.Addr)
		}
		if m.Ready && !isReady {
			isReady = true
			close(p.ready)
		}
	}
	p.err = p.cmd.Wait()
	_ = p.log.Close()
}

// awaitReady waits until the process says it is ready.
func (p *process) awaitReady(ctx context.Context) error {
	select {
	case <-p.ready:
		return nil
	case <-p.done:
		return p.failure()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// failure says how a process ended that should not have.
func (p *process) failure() error {
	if last := lastWords(p.log.Name()); last != "" {
		return fmt.Errorf("process %s ended (%s): %s", p.name, p.cmd.ProcessState, last)
	}
	return fmt.Errorf("process %s ended (%s); its log is %s", p.name, p.cmd.ProcessState, p.log.Name())
}

// stop asks the process to end and waits until it has; one that does not is killed.
func (p *process) stop() error {
	_ = p.stdin.Close()
	t := time.NewTimer(stopTimeout)
	defer t.Stop()
	select {
	case <-p.done:
		return nil
	case <-t.C:
		p.kill()
		return fmt.Errorf("process %s did not stop within %s and was killed; its log is %s", p.name, stopTimeout, p.log.Name())
	}
}

// kill ends the process by SIGKILL and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // an error means that it has ended
	<-p.done
	_ = p.stdin.Close()
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// said returns the last stats the process told.
func (p *process) said() Stats {
	if s := p.stats.Load(); s != nil {
		return *s
	}
	return Stats{}
}

// lastWords returns what a process said last in its log: the error it ended
// with, where there is one.
func lastWords(path string) string {
	f, err := os.Open(path) //nolint:gosec // a log of ours
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	last, isError := "", false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		text, found := strings.CutPrefix(lines.Text(), "tidings: ")
		if text != "" && (found || !isError) {
			last, isError = text, found
		}
	}
	return last
}
