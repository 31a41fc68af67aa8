package router

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/internal/delivery"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type (
	placed   struct{ Total int }
	canceled struct{ Reason string }
	shipped  struct{ Parcel string } // nobody registers it
)

func newCatalog(t testing.TB) *event.Catalog {
	t.Helper()
	c, err := event.NewCatalog(event.CatalogConfig{Source: "/orders"})
	require.NoError(t, err)
	require.NoError(t, event.Register[placed](c, "order.placed", 1))
	require.NoError(t, event.Register[canceled](c, "order.canceled", 1))
	return c
}

// record makes an event's Kafka record.
func record(t testing.TB, typ, key string, sequence int64, payload any) event.KafkaRecord {
	t.Helper()
	data, err := json.Marshal(payload)
	require.NoError(t, err)
	e, err := event.New(event.Draft{
		Type: typ, Source: "/orders", Aggregate: event.Aggregate{Type: "order", ID: key}, Sequence: sequence,
		Correlation: "corr-" + key, TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Data: data,
	})
	require.NoError(t, err)
	return event.ToKafka(e)
}

func placedRecord(t testing.TB) event.KafkaRecord {
	return record(t, "order.placed", "o-1", 1, placed{Total: 7})
}

// memSubscriber is a subscriber in memory whose messages carry deliveries. The
// test plays the lanes: it offers a message, and offers it again.
type memSubscriber struct {
	ready  error
	fail   error // of Subscribe
	paused bool
	closed bool

	mu     sync.Mutex
	topics map[string]*memTopic
}

type memTopic struct {
	out      chan *message.Message
	inFlight sync.WaitGroup
	end      func()
}

func (s *memSubscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if s.fail != nil {
		return nil, s.fail
	}
	ctx, end := context.WithCancel(ctx)
	mt := &memTopic{out: make(chan *message.Message), end: end}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.topics == nil {
		s.topics = map[string]*memTopic{}
	}
	s.topics[topic] = mt
	go func() {
		<-ctx.Done()
		mt.inFlight.Wait()
		close(mt.out)
	}()
	return mt.out, nil
}

func (s *memSubscriber) Close() error                { s.closed = true; return nil }
func (s *memSubscriber) Ready(context.Context) error { return s.ready }

func (s *memSubscriber) Paused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.paused
}

func (s *memSubscriber) pause(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = on
}

func (s *memSubscriber) topic(name string) *memTopic {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.topics[name]
}

// offer hands d out once and reports whether it was acknowledged.
func (s *memSubscriber) offer(d *delivery.Delivery) bool {
	return s.offerIn(context.Background(), d)
}

func (s *memSubscriber) offerIn(ctx context.Context, d *delivery.Delivery) bool {
	mt := s.topic(d.Topic)
	mt.inFlight.Add(1)
	defer mt.inFlight.Done()
	d.Attempt++
	d.RetryIn = 0
	msg := message.NewMessageWithContext(delivery.NewContext(ctx, d), "", d.Record.Value)
	mt.out <- msg
	select {
	case <-msg.Acked():
		return true
	case <-msg.Nacked():
		return false
	}
}

// untilAcked offers d again and again, sleeping as the router asked.
func (s *memSubscriber) untilAcked(t *testing.T, d *delivery.Delivery) {
	t.Helper()
	for range 100 {
		if s.offer(d) {
			return
		}
		require.Positive(t, d.RetryIn, "a refused message needs a delay")
		time.Sleep(d.RetryIn)
	}
	t.Fatal("not acknowledged after 100 attempts")
}

func at(offset int64, rec event.KafkaRecord) *delivery.Delivery {
	return &delivery.Delivery{Topic: "orders", Partition: 3, Offset: offset, Record: rec}
}

// logBook collects what is logged.
type logBook struct {
	mu  sync.Mutex
	buf strings.Builder
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// lines returns the lines of a level, decoded.
func (b *logBook) lines(level slog.Level) []map[string]any {
	b.mu.Lock()
	defer b.mu.Unlock()
	var lines []map[string]any
	for line := range strings.Lines(b.buf.String()) {
		var m map[string]any
		if json.Unmarshal([]byte(line), &m) == nil && m["level"] == level.String() {
			lines = append(lines, m)
		}
	}
	return lines
}

// rig is a running router with one subscription to "orders".
type rig struct {
	*Router

	sub  *memSubscriber
	reg  *prometheus.Registry
	logs *logBook
	stop context.CancelFunc
	done chan error
}

func newRig(t *testing.T, cfg Config, hs ...handlers.Handler) *rig {
	t.Helper()
	g := &rig{sub: &memSubscriber{}, reg: prometheus.NewRegistry(), logs: &logBook{}, done: make(chan error, 1)}
	cfg.Group = "billing"
	if cfg.Catalog == nil {
		cfg.Catalog = newCatalog(t)
	}
	cfg.Metrics = g.reg
	if cfg.DeadLetters.Poll == 0 {
		cfg.DeadLetters.Poll = 1000 * time.Hour // so that hours of a test's own clock cost nothing
	}
	cfg.Logger = slog.New(slog.NewJSONHandler(g.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r, err := New(cfg)
	require.NoError(t, err)
	g.Router = r
	require.NoError(t, r.Subscribe(Subscription{Topic: "orders", Subscriber: g.sub, Handlers: hs}))
	return g
}

// start runs the router until the test ends, or stop is called.
func (g *rig) start(t *testing.T) *rig {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	g.stop = cancel
	go func() { g.done <- g.Run(ctx) }()
	require.Eventually(t, func() bool { return g.phase.Load() == phaseRunning }, 5*time.Second, time.Millisecond)
	t.Cleanup(cancel)
	return g
}

// end stops the router and returns what Run did.
func (g *rig) end() error {
	g.stop()
	return <-g.done
}

func (g *rig) counter(t *testing.T, handler, outcome string) float64 {
	t.Helper()
	return testutil.ToFloat64(g.met.events.WithLabelValues("orders", handler, outcome))
}

// journal is what handlers did, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string(nil), j.lines...)
}

// onPlaced is a plain handler that keeps a journal; do may be nil.
func onPlaced(name string, j *journal, do func(ctx context.Context, n int) error) handlers.Handler {
	n := 0
	return handlers.On(name, func(ctx context.Context, _ event.Of[placed]) error {
		n++
		j.add(name)
		if do == nil {
			return nil
		}
		return do(ctx, n)
	}).With(handlers.Settings{MinBackoff: time.Second, MaxBackoff: time.Second, Tries: 3})
}

// failTimes fails the first n tries.
func failTimes(n int) func(context.Context, int) error {
	return func(_ context.Context, try int) error {
		if try <= n {
			return errors.New("card terminal is away")
		}
		return nil
	}
}

// memInbox is an inbox whose answers the test gives.
type memInbox struct {
	id     string
	check  error
	keep   func(ctx context.Context) error
	answer func(a inbox.Admission) (inbox.Answer, error)
}

func (b *memInbox) ID() string { return b.id }

func (b *memInbox) Check(context.Context) error { return b.check }

func (b *memInbox) Keep(ctx context.Context) error {
	if b.keep != nil {
		return b.keep(ctx)
	}
	<-ctx.Done()
	return ctx.Err()
}

func (b *memInbox) Apply(ctx context.Context, a inbox.Admission, effect func(context.Context, struct{}) error) (inbox.Answer, error) {
	answer, err := b.answer(a)
	if err != nil || answer != inbox.Fresh {
		return answer, err
	}
	return answer, effect(ctx, struct{}{})
}

func inTx(name string, box *memInbox, j *journal) handlers.Handler {
	return handlers.InTx(name, box, func(context.Context, struct{}, event.Of[placed]) error {
		j.add(name)
		return nil
	}).With(handlers.Settings{MinBackoff: time.Second, MaxBackoff: time.Second, Tries: 3})
}
