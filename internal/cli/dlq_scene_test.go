package cli_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox/sqlinbox"
	"github.com/tidings-bus/tidings/publisher"
	"github.com/tidings-bus/tidings/router"
	"github.com/tidings-bus/tidings/subscriber"
)

// paid is an order's payment. A handler fails while its card is broken, or the
// amount is negative.
type paid struct {
	Amount int `json:"amount"`
}

// billing is a group with a handler that writes down what it has booked, over
// SQLite and the embedded broker.
type billing struct {
	t       *testing.T
	conn    connection.Config
	catalog *event.Catalog
	file    string
	db      *sql.DB
	box     *sqlinbox.Inbox

	mu      sync.Mutex
	broken  map[string]bool // by order
	members []*subscriber.Subscriber
}

func newBilling(t *testing.T) *billing {
	t.Helper()
	b := &billing{t: t, conn: connection.Config{Brokers: []string{startBroker(t)}}, file: filepath.Join(t.TempDir(), "billing.db"), broken: map[string]bool{}}
	ok(t, "", "topics", "create", "order", "--partitions", "2")
	ok(t, "", "migrate", "--sqlite", b.file)
	var err error
	b.db, err = sql.Open("sqlite", "file:"+b.file+"?_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=busy_timeout(20000)")
	require.NoError(t, err)
	b.db.SetMaxOpenConns(2)
	t.Cleanup(func() { require.NoError(t, b.db.Close()) })
	_, err = b.db.ExecContext(t.Context(), `CREATE TABLE booked (n INTEGER PRIMARY KEY AUTOINCREMENT, order_id TEXT, sequence INTEGER, amount INTEGER)`)
	require.NoError(t, err)
	b.box, err = sqlinbox.New(sqlinbox.Config{DB: b.db, Dialect: sqlinbox.SQLite})
	require.NoError(t, err)
	b.catalog, err = event.NewCatalog(event.CatalogConfig{Source: "/orders"})
	require.NoError(t, err)
	require.NoError(t, event.Register[paid](b.catalog, "order.paid", 1))
	return b
}

func (b *billing) breaks(order string, broken bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.broken[order] = broken
}

func (b *billing) book(ctx context.Context, tx *sql.Tx, e event.Of[paid]) error {
	order := e.Aggregate().ID
	_, err := tx.ExecContext(ctx, `INSERT INTO booked (order_id, sequence, amount) VALUES (?, ?, ?)`, order, e.Sequence(), e.Payload.Amount)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.broken[order]:
		return errors.New("the card of " + order + " is broken")
	case e.Payload.Amount < 0:
		return handlers.Reject(errors.New("a negative amount"))
	}
	return nil
}

// member runs a member of the group until the returned function is called.
func (b *billing) member(names ...string) (stop func()) {
	b.t.Helper()
	if len(names) == 0 {
		names = []string{"charge"}
	}
	log := slog.New(slog.DiscardHandler)
	sub, err := subscriber.New(subscriber.Config{Connection: b.conn, Group: "billing", Logger: log})
	require.NoError(b.t, err)
	b.members = append(b.members, sub)
	r, err := router.New(router.Config{Group: "billing", Catalog: b.catalog, Logger: log, DeadLetters: router.DeadLetters{Poll: 20 * time.Millisecond}})
	require.NoError(b.t, err)
	var all []handlers.Handler
	for _, name := range names {
		all = append(all, handlers.InTx(name, b.box, b.book).With(handlers.Settings{Tries: 2, MinBackoff: time.Millisecond, MaxBackoff: time.Millisecond}))
	}
	require.NoError(b.t, r.Subscribe(router.Subscription{Topic: "order", Subscriber: sub, Handlers: all}))
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(b.t, <-ended)
		require.NoError(b.t, sub.Close())
	})
	b.t.Cleanup(stop)
	return stop
}

// pays publishes payments of an order, numbered from first.
func (b *billing) pays(order string, first int, amounts ...int) {
	b.t.Helper()
	pub, err := publisher.New(publisher.Config{Connection: b.conn})
	require.NoError(b.t, err)
	for i, amount := range amounts {
		e, err := b.catalog.Event(b.t.Context(), event.Raised{
			Aggregate: event.Aggregate{Type: "order", ID: order}, Sequence: int64(first + i), Time: time.Now(), Payload: paid{Amount: amount},
		})
		require.NoError(b.t, err)
		require.NoError(b.t, pub.Publish(b.t.Context(), e))
	}
	require.NoError(b.t, pub.Close(b.t.Context()))
}

// booked are the effects of an order, in their order.
func (b *billing) booked(order string) (amounts []int) {
	b.t.Helper()
	rows, err := b.db.QueryContext(b.t.Context(), `SELECT amount FROM booked WHERE order_id = ? ORDER BY n`, order)
	require.NoError(b.t, err)
	defer rows.Close()
	for rows.Next() {
		var n int
		require.NoError(b.t, rows.Scan(&n))
		amounts = append(amounts, n)
	}
	require.NoError(b.t, rows.Err())
	return amounts
}

// awaitParked waits until so many events are parked.
func (b *billing) awaitParked(n int) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		var have int
		require.NoError(b.t, b.db.QueryRowContext(b.t.Context(), `SELECT count(*) FROM tidings_dead_letter`).Scan(&have))
		return have == n
	}, 30*time.Second, 10*time.Millisecond)
}

// dlq runs a command on the group's dead letters.
func (b *billing) dlq(args ...string) result {
	b.t.Helper()
	return run(b.t, "", append(append([]string{"dlq"}, args...), "--sqlite", b.file)...)
}

// dlqOK runs one that must succeed.
func (b *billing) dlqOK(args ...string) string {
	b.t.Helper()
	r := b.dlq(args...)
	require.Equal(b.t, 0, r.code, "tidings dlq %v: %s%s", args, r.stdout, r.stderr)
	return r.stdout
}

// parkedKey is a key in JSON.
type parkedKey struct {
	Key     string `json:"key"`
	Handler string `json:"handler"`
	Head    int64  `json:"head"`
	Cause   string `json:"cause"`
	Error   string `json:"error"`
	Tries   int    `json:"tries"`
	Events  int64  `json:"events"`
	Request int64  `json:"request"`
}

// keys lists what is parked, by key.
func (b *billing) keys(args ...string) (keys []parkedKey) {
	b.t.Helper()
	var list struct {
		Group string      `json:"group"`
		Keys  []parkedKey `json:"keys"`
	}
	require.NoError(b.t, json.Unmarshal([]byte(b.dlqOK(append([]string{"list", "--by", "key", "--json"}, args...)...)), &list))
	require.Equal(b.t, "billing", list.Group)
	return list.Keys
}

func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), &v), text)
	return v
}

func id(n int64) string { return strconv.FormatInt(n, 10) }

// toldText is what a command that runs has said so far.
type toldText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (w *toldText) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *toldText) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}
