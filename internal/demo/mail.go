package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/tidings-bus/tidings/event"
)

// letter is what the mail provider is asked to send.
type letter struct {
	EventID  string `json:"event_id"`
	OrderID  string `json:"order_id"`
	Sequence int64  `json:"sequence"`
	Type     string `json:"type"`
	Text     string `json:"text"`
}

// mailer is the client of the mail provider.
type mailer struct {
	url    string
	client *http.Client
}

func newMailer(url string) *mailer {
	return &mailer{url: url, client: &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: 64},
	}}
}

// send asks for a letter. The event's ID is the idempotency key: the provider
// sends nothing twice.
func (m *mailer) send(ctx context.Context, e event.Event, text string) error {
	body, err := json.Marshal(letter{e.ID().String(), e.Aggregate().ID, e.Sequence(), e.Type(), text})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", e.ID().String())
	resp, err := m.client.Do(req)
	if err != nil {
		return fmt.Errorf("asking the mail provider: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return fmt.Errorf("reading the mail provider's answer: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("the mail provider answered %s", resp.Status)
	}
	return nil
}

// taken is a request that the provider took.
type taken struct {
	effectRow

	at time.Time
}

// provider is the mail provider: an HTTP server that fails some requests, by
// seed, and remembers what it has sent by idempotency key.
type provider struct {
	seed uint64
	srv  *http.Server
	l    net.Listener
	done chan struct{}

	mu       sync.Mutex
	failures map[string]int
	sent     map[string]bool
	letters  []taken // every request that was taken, in order, repeats included
	failed   int
	repeated int
}

func startProvider(ctx context.Context, seed uint64) (*provider, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("starting the mail provider: %w", err)
	}
	p := &provider{seed: seed, l: l, done: make(chan struct{}), failures: map[string]int{}, sent: map[string]bool{}}
	p.srv = &http.Server{Handler: p, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		defer close(p.done)
		_ = p.srv.Serve(l) // ends with close
	}()
	return p, nil
}

func (p *provider) url() string { return "http://" + p.l.Addr().String() + "/letters" }

func (p *provider) close() {
	_ = p.srv.Close()
	<-p.done
}

// ServeHTTP fails an event's first request or two, or none, and takes the others.
// It sends a letter once however often it is asked to, and notes that it was asked:
// mail is not killed, so that little explains a second request for a letter.
func (p *provider) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var l letter
	if err := json.NewDecoder(io.LimitReader(req.Body, 1<<16)).Decode(&l); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	key, row := req.Header.Get("Idempotency-Key"), taken{effectRow{l.EventID, l.OrderID, l.Sequence, l.Type}, time.Now()}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.sent[key]:
		p.repeated++
		p.letters = append(p.letters, row)
		w.WriteHeader(http.StatusOK)
	case p.failures[key] < plannedFailures(p.seed, l.OrderID, l.Sequence):
		p.failures[key]++
		p.failed++
		http.Error(w, "try again", http.StatusServiceUnavailable)
	default:
		p.sent[key] = true
		p.letters = append(p.letters, row)
		w.WriteHeader(http.StatusAccepted)
	}
}

// plannedFailures is how often the requests of an event fail: at most twice. It
// goes by order and sequence, which follow from the seed as well; IDs do not.
func plannedFailures(seed uint64, orderID string, sequence int64) int {
	h := fnv.New32a()
	_, _ = fmt.Fprintf(h, "%d/%s/%d", seed, orderID, sequence) // a hash takes everything
	switch n := h.Sum32() % 100; {
	case n < 2:
		return 2
	case n < 8:
		return 1
	}
	return 0
}

// effects returns the requests that were taken, but for repeats that a restart of
// the broker explains: it takes partitions from members, whose running handlers
// are cut off, perhaps between the letter and the note that it was sent. It
// explains repeats of letters that were first asked for before its end and noted
// after its begin; of others nothing does.
func (p *provider) effects(restart span, noted map[string]time.Time) (rows []effectRow, explained int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := make(map[string]time.Time, len(p.letters))
	for _, l := range p.letters {
		at, again := first[l.EventID]
		if again && at.Before(restart.until) && !noted[l.EventID].Before(restart.from) {
			explained++
			continue
		}
		if !again {
			first[l.EventID] = l.at
		}
		rows = append(rows, l.effectRow)
	}
	return rows, explained
}

// span is a time of trouble; the zero span is none.
type span struct{ from, until time.Time }

func (p *provider) counts() (sent, failed, repeated int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.sent), p.failed, p.repeated
}
