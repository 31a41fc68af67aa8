package house

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/dispatch"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/handlers/inbox/sqlinbox"
	"github.com/tidings-bus/tidings/internal/broker"
	"github.com/tidings-bus/tidings/publisher"
	"github.com/tidings-bus/tidings/router"
	"github.com/tidings-bus/tidings/schema"
	"github.com/tidings-bus/tidings/subscriber"
)

// What stands between "README: name" and "README end" is shown in the README,
// word for word; the tests below run it.

// OrderPaid is the payload of the README's event.
type OrderPaid struct {
	Amount int64 `json:"amount"`
}

// Order is the README's aggregate.
type Order struct {
	event.Recorder

	paid int64
}

// README: raise

func (o *Order) Pay(amount int64) {
	o.paid += amount
	o.Record(OrderPaid{Amount: amount})
}

func pay(ctx context.Context, d *dispatch.Dispatcher, orders Orders, id string) error {
	return d.Do(ctx, func(ctx context.Context) error {
		order, err := orders.Load(ctx, id)
		if err != nil {
			return err
		}
		order.Pay(100)
		if err := dispatch.Collect(ctx, order); err != nil {
			return err
		}
		return orders.Save(ctx, order) // published when this has succeeded
	})
}

// README end

// README: handle

func bill(ctx context.Context, box inbox.Inbox[*sql.Tx], catalog *event.Catalog, sub message.Subscriber) error {
	paid := handlers.InTx("book-payment", box, func(ctx context.Context, tx *sql.Tx, e event.Of[OrderPaid]) error {
		_, err := tx.ExecContext(ctx, `UPDATE invoice SET paid = paid + $1 WHERE order_id = $2`, e.Payload.Amount, e.Aggregate().ID)
		return err // nil commits the effect and the inbox row as one; an error tries again
	})
	r, err := router.New(router.Config{Group: "billing", Catalog: catalog})
	if err != nil {
		return err
	}
	if err := r.Subscribe(router.Subscription{Topic: "order", Subscriber: sub, Handlers: []handlers.Handler{paid}}); err != nil {
		return err
	}
	return r.Run(ctx) // until ctx ends and everything it started has stopped
}

// README end

// Orders is the README's repository.
type Orders struct{ number *uuid.UUID }

func (Orders) Load(_ context.Context, id string) (*Order, error) {
	o := &Order{}
	o.Identify(event.Aggregate{Type: "order", ID: id}, 0)
	return o, nil
}

// Save keeps the ID of the event, to publish it again.
func (s Orders) Save(_ context.Context, o *Order) error {
	*s.number = o.Recorded()[0].ID
	return nil
}

func TestTheREADMEsHandlerBooksAPaymentPublishedTwiceOnce(t *testing.T) {
	b, err := broker.Start(broker.Config{Addr: "127.0.0.1:0"})
	require.NoError(t, err)
	defer b.Close()
	conn := connection.Config{Brokers: []string{b.Addr()}}
	topics, err := publisher.NewTopics(publisher.TopicsConfig{Connection: conn})
	require.NoError(t, err)
	require.NoError(t, topics.Create(t.Context(), publisher.TopicSpec{Name: "order", Partitions: 1, Replication: 1}))
	require.NoError(t, topics.Close())

	catalog, err := event.NewCatalog(event.CatalogConfig{Source: "/orders"})
	require.NoError(t, err)
	require.NoError(t, event.Register[OrderPaid](catalog, "order.paid", 1))
	p, err := publisher.New(publisher.Config{Connection: conn})
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close(context.WithoutCancel(t.Context()))) }()
	d, err := dispatch.New(dispatch.Config{Catalog: catalog, Sink: p})
	require.NoError(t, err)

	var first uuid.UUID
	require.NoError(t, pay(t.Context(), d, Orders{&first}, "o-1"))
	again, err := catalog.Event(t.Context(), event.Raised{
		ID: first, Aggregate: event.Aggregate{Type: "order", ID: "o-1"}, Sequence: 1, Time: time.Now(), Payload: OrderPaid{Amount: 100},
	})
	require.NoError(t, err)
	require.NoError(t, p.Publish(t.Context(), again))
	// Its effect says that the repeated one before it was read too.
	last, err := catalog.Event(t.Context(), event.Raised{
		ID: uuid.Must(uuid.NewV7()), Aggregate: event.Aggregate{Type: "order", ID: "o-1"}, Sequence: 2, Time: time.Now(), Payload: OrderPaid{Amount: 1},
	})
	require.NoError(t, err)
	require.NoError(t, p.Publish(t.Context(), last))

	db := database(t)
	box, err := sqlinbox.New(sqlinbox.Config{DB: db, Dialect: sqlinbox.SQLite})
	require.NoError(t, err)
	sub, err := subscriber.New(subscriber.Config{Connection: conn, Group: "billing"})
	require.NoError(t, err)
	defer func() { require.NoError(t, sub.Close()) }()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- bill(ctx, box, catalog, sub) }()
	paid := func() (sum int64) {
		require.NoError(t, db.QueryRowContext(t.Context(), `SELECT paid FROM invoice WHERE order_id = 'o-1'`).Scan(&sum))
		return sum
	}
	require.Eventually(t, func() bool { return paid()%100 == 1 }, 30*time.Second, 20*time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
	require.EqualValues(t, 101, paid())
}

func database(t *testing.T) *sql.DB {
	t.Helper()
	file := filepath.Join(t.TempDir(), "billing.db")
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(5000)")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, schema.MigrateSQLite(t.Context(), db))
	_, err = db.ExecContext(t.Context(), `CREATE TABLE invoice (order_id text PRIMARY KEY, paid bigint NOT NULL)`)
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), `INSERT INTO invoice VALUES ('o-1', 0)`)
	require.NoError(t, err)
	return db
}
