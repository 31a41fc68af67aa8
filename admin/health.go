package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
)

// Check is one component's health. Nil functions say that all is well. They
// are called at each request, by several goroutines, and must end with ctx.
type Check struct {
	// Name of the component, such as "router".
	Name string
	// Live says why the process should be restarted, or nil.
	Live func(ctx context.Context) error
	// Ready says why the component cannot do its work now, or nil. A component
	// that cannot reach its broker is not ready; a restart would not help it.
	Ready func(ctx context.Context) error
	// Warnings says what an operator should look at although work is done. It
	// does not change the status.
	Warnings func(ctx context.Context) []string
}

type probe func(ctx context.Context) error

// Health is the body of /health/live and /health/ready.
type Health struct {
	// Status is "ok" or "failing".
	Status string        `json:"status"`
	Checks []CheckResult `json:"checks"`
}

// CheckResult is what one check said.
type CheckResult struct {
	Name     string   `json:"name"`
	Status   string   `json:"status"`
	Reason   string   `json:"reason,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

const (
	statusOK      = "ok"
	statusFailing = "failing"
)

// answer serves the checks that probeOf picks.
func (s *Server) answer(probeOf func(Check) probe) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		ctx, cancel := context.WithTimeout(req.Context(), s.cfg.CheckTimeout)
		defer cancel()
		health := s.examine(ctx, probeOf)
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		if health.Status != statusOK {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		if err := json.NewEncoder(w).Encode(health); err != nil {
			s.cfg.Logger.Debug("health could not be sent", "cause", err)
		}
	}
}

// examine runs the checks side by side. One that does not end with ctx fails
// without being waited for.
func (s *Server) examine(ctx context.Context, probeOf func(Check) probe) Health {
	results := make([]CheckResult, len(s.cfg.Checks))
	var wg sync.WaitGroup
	for i, c := range s.cfg.Checks {
		wg.Go(func() { results[i] = inTime(ctx, c, probeOf(c)) })
	}
	wg.Wait()
	health := Health{Status: statusOK, Checks: results}
	for _, r := range results {
		if r.Status != statusOK {
			health.Status = statusFailing
		}
	}
	return health
}

func inTime(ctx context.Context, c Check, p probe) CheckResult {
	done := make(chan CheckResult, 1)
	go func() { done <- run(ctx, c, p) }()
	select {
	case r := <-done:
		return r
	case <-ctx.Done():
		return CheckResult{Name: c.Name, Status: statusFailing, Reason: fmt.Sprintf("the check did not answer in time: %v", ctx.Err())}
	}
}

func run(ctx context.Context, c Check, p probe) (r CheckResult) {
	r = CheckResult{Name: c.Name, Status: statusOK}
	defer func() {
		if v := recover(); v != nil {
			r.Status, r.Reason = statusFailing, fmt.Sprintf("the check panicked: %v", v)
		}
	}()
	if p != nil {
		if err := p(ctx); err != nil {
			r.Status, r.Reason = statusFailing, err.Error()
		}
	}
	if c.Warnings != nil {
		r.Warnings = c.Warnings(ctx)
	}
	return r
}
