package integration

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/internal/delivery"
	"github.com/tidings-bus/tidings/subscriber"
)

// reader is a process that reads a topic as a member of a group, without router
// and database: what counts is what is handed out, when, and how often. It notes
// that in a file, which a SIGKILL leaves as it is.
type reader struct {
	Name    string
	Group   string
	Brokers []string
	Topic   string
	Notes   string // file
	Work    time.Duration
	// Stuck is an offset, plus one, that is never finished. Zero: none.
	Stuck int64
}

func (r reader) run(ctx context.Context) error {
	notes, err := os.OpenFile(r.Notes, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer notes.Close()
	sub, err := subscriber.New(subscriber.Config{
		Connection: connection.Config{Brokers: r.Brokers, ClientID: r.Name},
		Group:      r.Group,
		Timings:    subscriber.Timings{Session: 6 * time.Second, DrainRetry: 100 * time.Millisecond},
	})
	if err != nil {
		return err
	}
	out, err := sub.Subscribe(ctx, r.Topic)
	if err != nil {
		return err
	}
	handled := make(chan struct{})
	running := 0
	for out != nil || running > 0 {
		select {
		case m, ok := <-out:
			if !ok {
				out = nil
				continue
			}
			running++
			go func() { r.handle(m, notes); handled <- struct{}{} }()
		case <-handled:
			running--
		}
	}
	return sub.Close()
}

func (r reader) handle(m *message.Message, notes *os.File) {
	d := delivery.FromContext(m.Context())
	note := func(what string) {
		if _, err := fmt.Fprintf(notes, "%s %d %d %d\n", what, d.Partition, d.Offset, time.Now().UnixNano()); err != nil {
			slog.Error("cannot note", "cause", err)
		}
	}
	note("begun")
	if d.Offset+1 == r.Stuck {
		<-m.Context().Done()
		m.Nack()
		return
	}
	time.Sleep(r.Work)
	note("done")
	m.Ack()
}

// noted is one line of a reader's notes.
type noted struct {
	done      bool
	partition int32
	offset    int64
	at        time.Time
}

// reading is a topic and the processes that read it.
type reading struct {
	t       *testing.T
	dir     string
	spec    reader
	readers map[string]*process
}

func (g *reading) start(name string, stuck int64) *process {
	g.t.Helper()
	spec := g.spec
	spec.Name, spec.Stuck, spec.Notes = name, stuck, filepath.Join(g.dir, name)
	p := start(g.t, roleReader, name, spec)
	g.readers[name] = p
	return p
}

// notes returns what a reader has noted so far; of all when no name is given.
func (g *reading) notes(names ...string) []noted {
	g.t.Helper()
	if len(names) == 0 {
		for name := range g.readers {
			names = append(names, name)
		}
	}
	var all []noted
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(g.dir, name))
		if os.IsNotExist(err) {
			continue
		}
		require.NoError(g.t, err)
		lines := bufio.NewScanner(strings.NewReader(string(text)))
		for lines.Scan() {
			var n noted
			words := strings.Fields(lines.Text())
			if len(words) != 4 {
				continue // cut off by a kill
			}
			partition, _ := strconv.ParseInt(words[1], 10, 32)
			at, _ := strconv.ParseInt(words[3], 10, 64)
			n.offset, _ = strconv.ParseInt(words[2], 10, 64)
			n.partition, n.done, n.at = int32(partition), words[0] == "done", time.Unix(0, at)
			all = append(all, n)
		}
	}
	return all
}

// await waits until the condition holds. A reader that died by itself is a failure.
func (g *reading) await(ctx context.Context, what string, reached func() bool) {
	g.t.Helper()
	for !reached() {
		for _, p := range g.readers {
			require.NoError(g.t, p.fault(), "waiting for %s", what)
		}
		select {
		case <-ctx.Done():
			g.t.Fatalf("waiting for %s: %v", what, context.Cause(ctx))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func done(all []noted) int {
	n := 0
	for _, x := range all {
		if x.done {
			n++
		}
	}
	return n
}
