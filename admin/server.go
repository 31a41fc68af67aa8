package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// DefaultAddr is where the port is when Config.Addr is empty: loopback only.
const DefaultAddr = "127.0.0.1:9464"

// Config says what the port shows. Its zero value serves the process's own
// metrics and health on DefaultAddr.
type Config struct {
	// Addr is host:port; port 0 picks a free one. Empty: DefaultAddr.
	Addr string
	// Registry is where components register their metrics. Nil: a new one; see
	// Server.Registry. The Go runtime's and the process's metrics are added
	// unless they are there.
	Registry *prometheus.Registry
	// Checks are the components' health.
	Checks []Check
	// Logger. Nil: slog.Default().
	Logger *slog.Logger
	// CheckTimeout bounds the checks of one request. Zero: 5 s.
	CheckTimeout time.Duration
	// StopTimeout bounds the wait for open requests at the end. Zero: 5 s.
	StopTimeout time.Duration
	// NoProfiles leaves out /debug/pprof/.
	NoProfiles bool
}

func (c Config) withDefaults() Config {
	if c.Addr == "" {
		c.Addr = DefaultAddr
	}
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.CheckTimeout == 0 {
		c.CheckTimeout = 5 * time.Second
	}
	if c.StopTimeout == 0 {
		c.StopTimeout = 5 * time.Second
	}
	return c
}

func (c Config) validate() error {
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		return fmt.Errorf("admin: Addr is %q: %w: use host:port, such as %q", c.Addr, err, DefaultAddr)
	}
	if c.CheckTimeout < 0 {
		return fmt.Errorf("admin: CheckTimeout is %v: use a positive duration, or 0 for 5s", c.CheckTimeout)
	}
	if c.StopTimeout < 0 {
		return fmt.Errorf("admin: StopTimeout is %v: use a positive duration, or 0 for 5s", c.StopTimeout)
	}
	names := map[string]bool{}
	for i, check := range c.Checks {
		switch {
		case check.Name == "":
			return fmt.Errorf("admin: Checks[%d].Name is empty: name the component, such as \"router\"", i)
		case names[check.Name]:
			return fmt.Errorf("admin: Checks[%d].Name is %q, as another's: give each its own", i, check.Name)
		}
		names[check.Name] = true
	}
	return nil
}

// Server is the operating port. Make it with New, then Run it, once.
type Server struct {
	cfg Config

	mu     sync.Mutex
	ran    bool
	addr   net.Addr
	listen chan struct{} // closed when addr is known, or never will be
}

// New returns a server that does not listen yet.
func New(cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		var already prometheus.AlreadyRegisteredError
		if err := cfg.Registry.Register(c); err != nil && !errors.As(err, &already) {
			return nil, fmt.Errorf("admin: registering the process's metrics: %w", err)
		}
	}
	return &Server{cfg: cfg, listen: make(chan struct{})}, nil
}

// Registry returns where components register their metrics.
func (s *Server) Registry() *prometheus.Registry { return s.cfg.Registry }

// Addr waits until the server listens and returns where. It returns nil when
// ctx ends before, or when Run could not listen.
func (s *Server) Addr(ctx context.Context) net.Addr {
	select {
	case <-s.listen:
	case <-ctx.Done():
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// Run serves until ctx ends and open requests have, within StopTimeout: what is
// open longer is cut off. It returns nil then, and an error when it cannot
// listen or serve.
func (s *Server) Run(ctx context.Context) error {
	l, err := s.bind(ctx)
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		// A CPU profile or a trace runs for as long as it is asked to.
		WriteTimeout: 2 * time.Minute,
		IdleTimeout:  2 * time.Minute,
		ErrorLog:     slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelWarn),
		BaseContext:  func(net.Listener) context.Context { return ctx },
	}
	s.cfg.Logger.Info("admin port is open", "addr", l.Addr().String())

	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("admin: serving on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.StopTimeout)
	defer cancel()
	if err := srv.Shutdown(stop); err != nil {
		s.cfg.Logger.Warn("admin port cuts off open requests", "cause", err)
		err = srv.Close()
		return errors.Join(err, unlessClosed(<-served))
	}
	return unlessClosed(<-served)
}

// unlessClosed drops what Serve says after a regular stop.
func unlessClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// bind opens the port.
func (s *Server) bind(ctx context.Context) (net.Listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ran {
		return nil, errors.New("admin: Run was called before: make a new server")
	}
	s.ran = true
	defer close(s.listen)
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", s.cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("admin: listening on %s: %w: choose another Addr, or port 0 for a free one", s.cfg.Addr, err)
	}
	s.addr = l.Addr()
	return l, nil
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.cfg.Registry, promhttp.HandlerOpts{
		ErrorLog:          slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelError),
		ErrorHandling:     promhttp.ContinueOnError, // one broken collector does not blind the rest
		EnableOpenMetrics: true,
	}))
	mux.HandleFunc("GET /health/live", s.answer(func(c Check) probe { return c.Live }))
	mux.HandleFunc("GET /health/ready", s.answer(func(c Check) probe { return c.Ready }))
	if !s.cfg.NoProfiles {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}
