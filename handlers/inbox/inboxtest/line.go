package inboxtest

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// Line is a TCP proxy to a database, which can be cut at the moment that matters.
type Line struct {
	Address string

	requests  atomic.Int64
	cut       atomic.Int32
	spared    atomic.Int64 // how many pass before the cut
	mu        sync.Mutex
	closed    bool
	conns     []net.Conn
	listener  net.Listener
	unstopped sync.WaitGroup
}

const (
	cutRequest = 1
	cutReply   = 2
)

// NewLine starts a proxy to address until the end of the test.
func NewLine(t *testing.T, address string) *Line {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := &Line{Address: listener.Addr().String(), listener: listener}
	l.unstopped.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := (&net.Dialer{}).DialContext(context.WithoutCancel(t.Context()), "tcp", address)
			if err != nil {
				_ = client.Close()
				continue
			}
			l.join(client, server)
		}
	})
	t.Cleanup(func() {
		l.mu.Lock()
		l.closed = true
		_ = listener.Close()
		for _, c := range l.conns {
			_ = c.Close()
		}
		l.mu.Unlock()
		l.unstopped.Wait()
	})
	return l
}

// CutNextRequest cuts the next connection that sends something, which does not arrive.
func (l *Line) CutNextRequest() { l.CutRequest(0) }

// CutNextReply cuts the next connection that is sent something, which does not arrive.
func (l *Line) CutNextReply() { l.CutReply(0) }

// CutRequest is CutNextRequest after so many that arrive.
func (l *Line) CutRequest(after int64) { l.spared.Store(after); l.cut.Store(cutRequest) }

// CutReply is CutNextReply after so many that arrive.
func (l *Line) CutReply(after int64) { l.spared.Store(after); l.cut.Store(cutReply) }

// Spare takes back a cut that has not come.
func (l *Line) Spare() { l.cut.Store(0) }

// Requests returns how many times clients sent something.
func (l *Line) Requests() int64 { return l.requests.Load() }

func (l *Line) join(client, server net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_, _ = client.Close(), server.Close()
		return
	}
	l.conns = append(l.conns, client, server)
	pipe := func(from, to net.Conn, cut int32, passed func()) {
		l.unstopped.Go(func() {
			defer client.Close() //nolint:errcheck // the other direction sees it
			defer server.Close() //nolint:errcheck // the same
			buffer := make([]byte, 64<<10)
			for {
				n, err := from.Read(buffer)
				if err != nil || l.cut.Load() == cut && l.spared.Add(-1) < 0 && l.cut.CompareAndSwap(cut, 0) {
					return
				}
				passed()
				if _, err := to.Write(buffer[:n]); err != nil {
					return
				}
			}
		})
	}
	pipe(client, server, cutRequest, func() { l.requests.Add(1) })
	pipe(server, client, cutReply, func() {})
}
