package router_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	_ "modernc.org/sqlite"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox/sqlinbox"
	"github.com/tidings-bus/tidings/internal/broker"
	"github.com/tidings-bus/tidings/publisher"
	"github.com/tidings-bus/tidings/router"
	"github.com/tidings-bus/tidings/schema"
	"github.com/tidings-bus/tidings/subscriber"
)

type step struct{ N int }

const (
	pathOrders = 20
	pathSteps  = 20
	pathEvents = pathOrders * pathSteps
)

// path is the whole way on real parts: publisher, broker, lanes, router, inbox.
type path struct {
	conn    connection.Config
	catalog *event.Catalog
	db      *sql.DB
	box     *sqlinbox.Inbox
	reg     *prometheus.Registry
}

func newPath(t *testing.T) *path {
	t.Helper()
	b, err := broker.Start(broker.Config{Addr: "127.0.0.1:0"})
	require.NoError(t, err)
	t.Cleanup(b.Close)
	p := &path{conn: connection.Config{Brokers: []string{b.Addr()}}, reg: prometheus.NewRegistry()}

	p.catalog, err = event.NewCatalog(event.CatalogConfig{Source: "/orders"})
	require.NoError(t, err)
	require.NoError(t, event.Register[step](p.catalog, "order.advanced", 1))

	topics, err := publisher.NewTopics(publisher.TopicsConfig{Connection: p.conn})
	require.NoError(t, err)
	require.NoError(t, topics.Create(t.Context(), publisher.TopicSpec{Name: "order", Partitions: 4}))
	require.NoError(t, topics.Close())

	file := filepath.Join(t.TempDir(), "billing.db")
	p.db, err = sql.Open("sqlite", "file:"+file+"?_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(20000)")
	require.NoError(t, err)
	p.db.SetMaxOpenConns(1)
	t.Cleanup(func() { require.NoError(t, p.db.Close()) })
	require.NoError(t, schema.MigrateSQLite(t.Context(), p.db))
	_, err = p.db.ExecContext(t.Context(), `CREATE TABLE effect (n INTEGER PRIMARY KEY AUTOINCREMENT, handler TEXT, order_id TEXT, sequence INTEGER)`)
	require.NoError(t, err)
	p.box, err = sqlinbox.New(sqlinbox.Config{DB: p.db, Dialect: sqlinbox.SQLite})
	require.NoError(t, err)
	return p
}

// publish sends every step of every order in order, and every tenth twice.
func (p *path) publish(t *testing.T) {
	t.Helper()
	pub, err := publisher.New(publisher.Config{Connection: p.conn})
	require.NoError(t, err)
	for n := 1; n <= pathSteps; n++ {
		var batch []event.Event
		for o := range pathOrders {
			e, err := p.catalog.Event(t.Context(), event.Raised{
				Aggregate: event.Aggregate{Type: "order", ID: fmt.Sprintf("o-%d", o)}, Sequence: int64(n), Time: time.Now(), Payload: step{N: n},
			})
			require.NoError(t, err)
			batch = append(batch, e)
			if (n+o)%10 == 0 {
				batch = append(batch, e)
			}
		}
		require.NoError(t, pub.Publish(t.Context(), batch...))
	}
	require.NoError(t, pub.Close(t.Context()))
}

// effect writes what it applied; one event in twenty fails its first try, after
// it has written.
func (p *path) effect(name string) handlers.Handler {
	return handlers.InTx(name, p.box, func(ctx context.Context, tx *sql.Tx, e event.Of[step]) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO effect (handler, order_id, sequence) VALUES (?, ?, ?)`, name, e.Aggregate().ID, e.Sequence())
		if err != nil {
			return err
		}
		h := fnv.New32a()
		fmt.Fprint(h, name, e.Aggregate().ID, e.Sequence())
		if h.Sum32()%20 == 0 && handlers.Attempt(ctx) == 1 {
			return errors.New("failed on purpose")
		}
		return nil
	}).With(handlers.Settings{MinBackoff: 2 * time.Millisecond, MaxBackoff: 10 * time.Millisecond})
}

// run runs one member of the group until done says so, then stops it.
func (p *path) run(t *testing.T, done func() bool) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	sub, err := subscriber.New(subscriber.Config{Connection: p.conn, Group: "billing", Logger: log})
	require.NoError(t, err)
	r, err := router.New(router.Config{Group: "billing", Catalog: p.catalog, Logger: log, Metrics: p.reg})
	require.NoError(t, err)
	require.NoError(t, r.Subscribe(router.Subscription{Topic: "order", Subscriber: sub, Handlers: []handlers.Handler{p.effect("charge"), p.effect("ship")}}))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	require.Eventually(t, done, time.Minute, 5*time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
	require.NoError(t, sub.Close())
}

func (p *path) effects(t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, p.db.QueryRowContext(t.Context(), `SELECT count(*) FROM effect`).Scan(&n))
	return n
}

// lag is what the group has not committed, of all partitions.
func (p *path) lag(t *testing.T) int64 {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.conn.Brokers...))
	require.NoError(t, err)
	defer cl.Close()
	lags, err := kadm.NewClient(cl).Lag(t.Context(), "billing")
	require.NoError(t, err)
	require.NoError(t, lags.Error())
	return lags["billing"].Lag.Total()
}

// I3, I4, I5 and I6 on the whole path: events published twice, one in twenty
// failing at first, a restart in the middle. Lost 0, doubled 0, out of order 0.
func TestI4EveryEventHasItsEffectOnceAndInOrderAcrossARestart(t *testing.T) {
	p := newPath(t)
	p.publish(t)
	p.run(t, func() bool { return p.effects(t) >= pathEvents/2 })
	require.Less(t, p.effects(t), 2*pathEvents, "the first member must be stopped midway")
	p.run(t, func() bool { return p.effects(t) >= 2*pathEvents && p.lag(t) == 0 })

	rows, err := p.db.QueryContext(t.Context(), `SELECT handler, order_id, sequence FROM effect ORDER BY n`)
	require.NoError(t, err)
	defer rows.Close()
	last, total := map[string]int64{}, 0
	for rows.Next() {
		var handler, order string
		var sequence int64
		require.NoError(t, rows.Scan(&handler, &order, &sequence))
		require.Equal(t, last[handler+order]+1, sequence, "%s of %s: lost, doubled or out of order", handler, order)
		last[handler+order] = sequence
		total++
	}
	require.NoError(t, rows.Err())
	require.Equal(t, 2*pathEvents, total)

	duplicates := 0.0
	families, err := p.reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == "tidings_router_events_total" && l.GetName() == "outcome" && l.GetValue() == "duplicate" {
					duplicates += m.GetCounter().GetValue()
				}
			}
		}
	}
	require.GreaterOrEqual(t, duplicates, 2.0*pathEvents/10, "each was published twice, for two handlers")
}
