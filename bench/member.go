package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/handlers/inbox/pgxinbox"
	"github.com/tidings-bus/tidings/router"
	"github.com/tidings-bus/tidings/subscriber"
)

// memberEnv, when set, makes this program a member of a group: its value is a
// member in JSON.
const memberEnv = "BENCH_MEMBER"

// member is a process that reads a topic as a service does, by subscriber and
// router, with the defaults of both and an InTx handler of 10 ms that writes a
// row. Events of faulty keys fail. It notes on standard output what becomes of
// the others, and ends when its standard input does.
type member struct {
	Name     string   `json:"name"`
	Group    string   `json:"group"`
	Brokers  []string `json:"brokers"`
	Topic    string   `json:"topic"`
	Postgres string   `json:"postgres"`
}

func runMember(spec string) error {
	var m member
	if err := json.Unmarshal([]byte(spec), &m); err != nil {
		return fmt.Errorf("read %s: %w", memberEnv, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return m.run(ctx)
}

func (m member) run(ctx context.Context) error {
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	config, err := pgxpool.ParseConfig(m.Postgres)
	if err != nil {
		return err
	}
	config.MaxConns = conns
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	box, err := pgxinbox.New(pgxinbox.Config{Pool: pool, Logger: logger})
	if err != nil {
		return err
	}
	catalog, err := newCatalog()
	if err != nil {
		return err
	}
	sub, err := subscriber.New(subscriber.Config{
		Connection: connection.Config{Brokers: m.Brokers, ClientID: m.Name}, Group: m.Group, Logger: logger,
	})
	if err != nil {
		return err
	}
	r, err := router.New(router.Config{Group: m.Group, Catalog: catalog, Logger: logger})
	if err != nil {
		return join(err, sub.Close())
	}
	write := handlers.InTx("write", noting{box}, func(ctx context.Context, tx pgx.Tx, e event.Of[placed]) error {
		if faulty(e.Aggregate().ID) {
			return errFaulty
		}
		time.Sleep(handlerPause)
		_, err := tx.Exec(ctx, `INSERT INTO effect (event_id, member) VALUES ($1, $2)`, e.ID(), m.Name)
		return err
	})
	err = r.Subscribe(router.Subscription{Topic: m.Topic, Subscriber: sub, Handlers: []handlers.Handler{write}})
	if err != nil {
		return join(err, sub.Close())
	}
	return join(r.Run(ctx), sub.Close())
}

// noting is an inbox that tells what it is asked and what it answers, of keys
// that do not fail. A duplicate is an event that was handed out once too often.
type noting struct{ *pgxinbox.Inbox }

// Apply implements inbox.Inbox.
func (n noting) Apply(ctx context.Context, a inbox.Admission, effect func(context.Context, pgx.Tx) error) (inbox.Answer, error) {
	if faulty(string(a.Place.Key)) {
		return n.Inbox.Apply(ctx, a, effect)
	}
	say(begun, &a)
	answer, err := n.Inbox.Apply(ctx, a, effect)
	if err == nil {
		say(answer.String(), &a)
	}
	return answer, err
}

const begun = "begun"

// say writes a line in one piece, so that a kill leaves whole ones.
func say(what string, a *inbox.Admission) {
	_, _ = fmt.Fprintf(os.Stdout, "%s %d %d\n", what, a.Place.Partition, time.Now().UnixNano())
}

// noted is a line of a member.
type noted struct {
	what      string // begun, or an answer of the inbox
	partition int
	at        time.Time
}

// process is a running member.
type process struct {
	name    string
	spawned time.Time
	cmd     *exec.Cmd
	stdin   io.Closer
	wrong   *tail         // what it wrote to standard error
	done    chan struct{} // closed when it has ended, and everything it noted is read
	err     error         // how it ended; after done
	asked   bool          // to end

	mu    sync.Mutex
	notes []noted
}

// start runs this program again, as the member.
func (m member) start(ctx context.Context) (*process, error) {
	spec, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{name: m.Name, wrong: &tail{}, done: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, self) //nolint:gosec // this very program
	p.cmd.Env = append(os.Environ(), memberEnv+"="+string(spec))
	p.cmd.Stderr = p.wrong
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.spawned = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.take(lines.Text())
		}
		p.err = p.cmd.Wait()
	}()
	return p, nil
}

func (p *process) take(line string) {
	words := strings.Fields(line)
	if len(words) != 3 {
		return
	}
	partition, err := strconv.Atoi(words[1])
	at, err2 := strconv.ParseInt(words[2], 10, 64)
	if err != nil || err2 != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.notes = append(p.notes, noted{what: words[0], partition: partition, at: time.Unix(0, at)})
}

// noted are its notes so far of the kind.
func (p *process) noted(what string) []noted {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []noted
	for _, n := range p.notes {
		if n.what == what {
			found = append(found, n)
		}
	}
	return found
}

// fault is the error of a member that ended though nobody asked it to.
func (p *process) fault() error {
	select {
	case <-p.done:
	default:
		return nil
	}
	if p.asked {
		return nil
	}
	return fmt.Errorf("member %s ended by itself: %w\n%s", p.name, p.err, p.wrong)
}

// stop asks it to end and waits until it has, well.
func (p *process) stop() error {
	p.asked = true
	if err := p.stdin.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	const patience = time.Minute
	select {
	case <-p.done:
	case <-time.After(patience):
		return join(fmt.Errorf("member %s did not end within %v", p.name, patience), p.kill())
	}
	if p.err != nil {
		return fmt.Errorf("member %s ended badly: %w\n%s", p.name, p.err, p.wrong)
	}
	return nil
}

// kill ends it as a crash does.
func (p *process) kill() error {
	p.asked = true
	err := p.cmd.Process.Kill()
	<-p.done
	_ = p.stdin.Close()
	return err
}

// tail keeps the end of what is written.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	const room = 4 << 10
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if over := len(t.text) - room; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(b), nil
}

// String is what was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
