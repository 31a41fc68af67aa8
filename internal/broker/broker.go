package broker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/gofrs/flock"
	"github.com/twmb/franz-go/pkg/kfake"
)

// ErrInUse is wrapped by Start's error when another process serves the data
// directory or listens on the address.
var ErrInUse = errors.New("in use")

// Config says where a broker listens and keeps its data.
type Config struct {
	// Addr is the address to listen on and to advertise, host:port. Port 0
	// takes a free one. Empty: "127.0.0.1:9092".
	Addr string
	// DataDir keeps topics, records and group offsets; it is made when missing.
	// Empty: everything is kept in memory and ends with the broker.
	DataDir string
	// Logger hears what goes wrong inside. Nil: nothing is logged.
	Logger *slog.Logger
}

// Validate reports the first field that cannot be used and what would do.
func (c Config) Validate() error {
	host, port, err := net.SplitHostPort(c.addr())
	if err != nil {
		return fmt.Errorf("broker address %q is not host:port: %w; use for example 127.0.0.1:9092", c.Addr, err)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("broker address %q: port %q is not a number from 0 to 65535", c.Addr, port)
	}
	// Clients are told to come back to the address the broker listens on, so
	// it must be one they can dial.
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return fmt.Errorf("broker address %q names no host that clients could be sent to; use the address they reach it by, such as 127.0.0.1:%s", c.Addr, port)
	}
	return nil
}

func (c Config) addr() string {
	if c.Addr == "" {
		return "127.0.0.1:9092"
	}
	return c.Addr
}

// Broker is a running broker. Close it.
type Broker struct {
	cluster *kfake.Cluster
	addr    string
	lock    *flock.Flock // nil without a data directory
}

// Start listens and serves until Close. When it returns, clients can connect.
func Start(cfg Config) (*Broker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	b := &Broker{}
	opts := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.ClusterID("tidings"),
		kfake.ListenFn(func(string, string) (net.Listener, error) {
			var lc net.ListenConfig
			return lc.Listen(context.Background(), "tcp", cfg.addr())
		}),
	}
	if cfg.Logger != nil {
		opts = append(opts, kfake.WithLogger(logger{cfg.Logger}))
	}
	if cfg.DataDir != "" {
		lock, err := lockDir(cfg.DataDir)
		if err != nil {
			return nil, err
		}
		b.lock = lock
		opts = append(opts, kfake.DataDir(cfg.DataDir))
	}
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		b.unlock()
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("starting the broker on %s: address %w by another process; choose another address, or port 0 for a free one", cfg.addr(), ErrInUse)
		}
		return nil, fmt.Errorf("starting the broker on %s: %w", cfg.addr(), err)
	}
	b.cluster = cluster
	b.addr = cluster.ListenAddrs()[0]
	return b, nil
}

// Addr returns the address clients use, host:port.
func (b *Broker) Addr() string { return b.addr }

// Close stops listening, writes what is open to the data directory and gives
// the directory back. Requests under way are answered or cut off.
func (b *Broker) Close() {
	b.cluster.Close()
	b.unlock()
}

func (b *Broker) unlock() {
	if b.lock != nil {
		_ = b.lock.Unlock() // the lock ends with the process at the latest
	}
}

func lockDir(dir string) (*flock.Flock, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		if pe, ok := errors.AsType[*fs.PathError](err); ok {
			return nil, fmt.Errorf("making the broker's data directory %s: %w", dir, pe.Err)
		}
		return nil, fmt.Errorf("making the broker's data directory %s: %w", dir, err)
	}
	lock := flock.New(filepath.Join(dir, "lock"))
	got, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("locking the broker's data directory %s: %w", dir, err)
	}
	if !got {
		return nil, fmt.Errorf("data directory %s is %w by another broker; stop it, or choose another directory", dir, ErrInUse)
	}
	return lock, nil
}

// logger hands kfake's printf lines to slog.
type logger struct{ l *slog.Logger }

func (l logger) Logf(level kfake.LogLevel, format string, args ...any) {
	msg := strings.TrimSpace(fmt.Sprintf(format, args...))
	switch level {
	case kfake.LogLevelError:
		l.l.Error(msg)
	case kfake.LogLevelWarn:
		l.l.Warn(msg)
	case kfake.LogLevelNone, kfake.LogLevelInfo, kfake.LogLevelDebug:
		l.l.Debug(msg)
	}
}
