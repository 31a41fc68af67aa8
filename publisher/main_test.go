package publisher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster starts brokers with topic "order" of six partitions.
func cluster(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(6, "order")}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func to(c *kfake.Cluster) Config {
	return Config{Connection: connection.Config{Brokers: c.ListenAddrs()}, Logger: slog.New(slog.DiscardHandler)}
}

// start makes a publisher that is closed with the test.
func start(t testing.TB, c Config) *Publisher {
	t.Helper()
	p, err := New(c)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, p.Close(ctx))
	})
	return p
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func ev(t testing.TB, id string, data string) event.Event {
	t.Helper()
	e, err := event.New(event.Draft{
		Type: "order.placed", Source: "/orders", Aggregate: event.Aggregate{Type: "order", ID: id},
		ContentType: "text/plain", Data: []byte(data),
	})
	require.NoError(t, err)
	return e
}

// log reads everything that is in a topic, partition by partition.
func log(t testing.TB, c *kfake.Cluster, topic string) []*kgo.Record {
	t.Helper()
	return logAt(t, c.ListenAddrs(), topic)
}

func logAt(t testing.TB, brokers []string, topic string) (records []*kgo.Record) {
	t.Helper()
	ctx := within(t, 20*time.Second)
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	require.NoError(t, err)
	left := int64(0)
	ends.Each(func(o kadm.ListedOffset) { left += o.Offset })
	for left > 0 {
		fetches := client.PollFetches(ctx)
		require.NoError(t, ctx.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			records = append(records, r)
			left--
		})
	}
	return records
}

// values of the records of one key, in the log's order, each once.
func valuesOf(records []*kgo.Record, key string) (values []string) {
	seen := make(map[string]bool)
	for _, r := range records {
		if v := string(r.Value); string(r.Key) == key && !seen[v] {
			seen[v] = true
			values = append(values, v)
		}
	}
	return values
}

// eventually polls a condition of the publisher, which is not under the test's
// control.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	require.Eventually(t, is, 10*time.Second, time.Millisecond, what)
}

func buffered(p *Publisher) int {
	n, _ := p.budget.held()
	return n
}

// failures returns the *PublishError in err.
func failures(t testing.TB, err error) *PublishError {
	t.Helper()
	var e *PublishError
	require.ErrorAs(t, err, &e)
	return e
}

// flaky is a listener whose connections lose answers: after the broker has done
// its work, the connection is closed instead.
type flaky struct {
	net.Listener

	lose func() bool
}

func (f *flaky) Accept() (net.Conn, error) {
	c, err := f.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &flakyConn{Conn: c, lose: f.lose}, nil
}

type flakyConn struct {
	net.Conn

	lose func() bool
}

func (c *flakyConn) Write(b []byte) (int, error) {
	if c.lose() {
		_ = c.Close()
		return 0, errors.New("lost by the test")
	}
	return c.Conn.Write(b)
}

// losing makes brokers whose answers get lost while the switch is on and chance
// says so.
func losing(on *atomic.Bool, chance func() bool) kfake.Opt {
	return kfake.ListenFn(func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		if err != nil {
			return nil, err
		}
		return &flaky{l, func() bool { return on.Load() && chance() }}, nil
	})
}

// sendBehind publishes behind the test's back and tells how it ended.
func sendBehind(ctx context.Context, p *Publisher, done chan<- error, events ...event.Event) {
	go func() { done <- p.Publish(ctx, events...) }()
}

// asUsual lets the broker deal with a request as if nobody had looked at it.
func asUsual() (kmsg.Response, error, bool) {
	return nil, nil, false //nolint:nilnil // kfake's way
}

// together runs n functions at once and waits for them.
func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

func text(i int) string { return fmt.Sprintf("%04d", i) }

// bodied makes a record with room in the buffer, as publish does.
func bodied(ctx context.Context, t testing.TB, p *Publisher, c *call, index int, body event.KafkaRecord) *record {
	t.Helper()
	r := &record{call: c, index: index, key: body.Key, body: appendBody(nil, &body)}
	r.piece = newPiece(amount{1, r.size()})
	assert.NoError(t, p.budget.take(ctx, 1, r.size()))
	return r
}

func recordOf(e event.Event) event.KafkaRecord { return event.ToKafka(e) }
