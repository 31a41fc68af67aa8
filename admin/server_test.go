package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/stretchr/testify/require"
)

// open runs a server until the test ends.
func open(t *testing.T, cfg Config) (base string, stop func() error) {
	t.Helper()
	cfg.Addr = "127.0.0.1:0"
	cfg.Logger = slog.New(slog.DiscardHandler)
	s, err := New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	addr := s.Addr(t.Context())
	require.NotNil(t, addr)
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() { require.NoError(t, stop()) })
	return "http://" + addr.String(), stop
}

// answer is what is left of a response when its body is read.
type answer struct {
	StatusCode int
	Header     http.Header
}

func get(t *testing.T, url string) (answer, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return answer{res.StatusCode, res.Header}, string(body)
}

func TestMetricsShowWhatIsRegisteredAndTheProcess(t *testing.T) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector()) // the caller's own is no clash
	n := prometheus.NewCounter(prometheus.CounterOpts{Name: "tidings_test_total", Help: "h"})
	reg.MustRegister(n)
	n.Add(3)
	base, _ := open(t, Config{Registry: reg})
	res, body := get(t, base+"/metrics")
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Contains(t, body, "tidings_test_total 3\n")
	require.Contains(t, body, "go_goroutines ")
	require.Contains(t, body, "process_start_time_seconds ")
}

func TestHealthNamesEveryCheckAndItsReason(t *testing.T) {
	bad := errors.New("no broker has answered for 30s")
	base, _ := open(t, Config{CheckTimeout: 50 * time.Millisecond, Checks: []Check{
		{Name: "idle"},
		{
			Name:     "router",
			Ready:    func(context.Context) error { return bad },
			Warnings: func(context.Context) []string { return []string{"2 held"} },
		},
		{Name: "slow", Ready: func(ctx context.Context) error { <-ctx.Done(); <-t.Context().Done(); return nil }},
		{Name: "broken", Ready: func(context.Context) error { panic("nil map") }},
	}})
	res, body := get(t, base+"/health/ready")
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	require.Equal(t, "application/json", res.Header.Get("Content-Type"))
	require.Equal(t, "no-store", res.Header.Get("Cache-Control"))
	var health Health
	require.NoError(t, json.Unmarshal([]byte(body), &health))
	require.Equal(t, Health{Status: "failing", Checks: []CheckResult{
		{Name: "idle", Status: "ok"},
		{Name: "router", Status: "failing", Reason: "no broker has answered for 30s", Warnings: []string{"2 held"}},
		{Name: "slow", Status: "failing", Reason: "the check did not answer in time: context deadline exceeded"},
		{Name: "broken", Status: "failing", Reason: "the check panicked: nil map"},
	}}, health)

	res, body = get(t, base+"/health/live")
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.NoError(t, json.Unmarshal([]byte(body), &health))
	require.Equal(t, "ok", health.Status)
}

func TestProfilesAreServedUnlessLeftOut(t *testing.T) {
	base, _ := open(t, Config{})
	res, body := get(t, base+"/debug/pprof/goroutine?debug=1")
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Contains(t, body, "goroutine profile")
	base, _ = open(t, Config{NoProfiles: true})
	res, _ = get(t, base+"/debug/pprof/goroutine?debug=1")
	require.Equal(t, http.StatusNotFound, res.StatusCode)
}

func TestHealthOnlyAnswersGet(t *testing.T) {
	base, _ := open(t, Config{})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/health/ready", http.NoBody)
	require.NoError(t, err)
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusMethodNotAllowed, res.StatusCode)
}

func TestAPortInUseIsAnErrorAtOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	s, err := New(Config{Addr: l.Addr().String()})
	require.NoError(t, err)
	err = s.Run(t.Context())
	require.ErrorContains(t, err, "admin: listening on "+l.Addr().String()+": ")
	require.ErrorContains(t, err, "address already in use: choose another Addr, or port 0 for a free one")
	require.Nil(t, s.Addr(t.Context()))
	require.EqualError(t, s.Run(t.Context()), "admin: Run was called before: make a new server")
}

func TestStopWaitsForOpenRequestsNoLongerThanTheTimeout(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	deaf := Check{Name: "deaf", Warnings: func(context.Context) []string {
		close(asked)
		<-release
		return nil
	}}
	base, stop := open(t, Config{Checks: []Check{deaf}, StopTimeout: time.Minute})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/health/live", http.NoBody)
	require.NoError(t, err)
	answered := make(chan int, 1)
	go func() {
		defer close(answered)
		res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err == nil {
			answered <- res.StatusCode
			res.Body.Close()
		}
	}()
	<-asked
	require.NoError(t, stop(), "the request ends with the server, whatever its check does")
	require.Equal(t, http.StatusServiceUnavailable, <-answered)
	close(release)
}

func TestConfigErrorsNameTheFieldAndWhatWouldDo(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		text string
	}{
		{Config{Addr: "here"}, `admin: Addr is "here": address here: missing port in address: use host:port, such as "127.0.0.1:9464"`},
		{Config{CheckTimeout: -1}, "admin: CheckTimeout is -1ns: use a positive duration, or 0 for 5s"},
		{Config{StopTimeout: -1}, "admin: StopTimeout is -1ns: use a positive duration, or 0 for 5s"},
		{Config{Checks: []Check{{}}}, `admin: Checks[0].Name is empty: name the component, such as "router"`},
		{Config{Checks: []Check{{Name: "a"}, {Name: "a"}}}, `admin: Checks[1].Name is "a", as another's: give each its own`},
	} {
		_, err := New(c.cfg)
		require.EqualError(t, err, c.text)
	}
	s, err := New(Config{})
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:9464", s.cfg.Addr, "loopback unless told otherwise")
}
