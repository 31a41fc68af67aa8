package main

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox/sqlinbox"
	"github.com/tidings-bus/tidings/publisher"
	"github.com/tidings-bus/tidings/router"
	"github.com/tidings-bus/tidings/schema"
	"github.com/tidings-bus/tidings/subscriber"
)

// OrderPlaced is what happened; on the wire it is "order.placed", version 1.
type OrderPlaced struct {
	Total int `json:"total"`
}

// topic is where the events of aggregate type order go.
const topic = "order"

func main() {
	broker := "127.0.0.1:9092"
	if len(os.Args) > 1 {
		broker = os.Args[1]
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, broker, "quickstart.db"); err != nil {
		log.Fatal(err) //nolint:gocritic // stop has nothing left to do
	}
}

// run places three orders and invoices orders until ctx ends.
func run(ctx context.Context, broker, file string) error {
	conn := connection.Config{Brokers: []string{broker}}
	catalog, err := event.NewCatalog(event.CatalogConfig{Source: "/orders"})
	if err != nil {
		return err
	}
	if err := event.Register[OrderPlaced](catalog, "order.placed", 1); err != nil {
		return err
	}
	db, err := open(ctx, file)
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // every commit is on disk
	r, err := billing(conn, catalog, db)
	if err != nil {
		return err
	}
	if err := publish(ctx, conn, catalog); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.Run(ctx) })
	return g.Wait()
}

// billing is the handler's side: once per order, an invoice.
func billing(conn connection.Config, catalog *event.Catalog, db *sql.DB) (*router.Router, error) {
	box, err := sqlinbox.New(sqlinbox.Config{DB: db, Dialect: sqlinbox.SQLite})
	if err != nil {
		return nil, err
	}
	invoice := handlers.InTx("invoice", box, func(ctx context.Context, tx *sql.Tx, e event.Of[OrderPlaced]) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO invoice (order_id, total) VALUES (?, ?)`, e.Aggregate().ID, e.Payload.Total)
		return err // nil: the invoice and "this event is done" commit together
	})
	sub, err := subscriber.New(subscriber.Config{Connection: conn, Group: "billing"})
	if err != nil {
		return nil, err
	}
	r, err := router.New(router.Config{Group: "billing", Catalog: catalog})
	if err != nil {
		return nil, err
	}
	return r, r.Subscribe(router.Subscription{Topic: topic, Subscriber: sub, Handlers: []handlers.Handler{invoice}})
}

// publish is the other side: it makes the topic and places three orders.
func publish(ctx context.Context, conn connection.Config, catalog *event.Catalog) error {
	topics, err := publisher.NewTopics(publisher.TopicsConfig{Connection: conn})
	if err != nil {
		return err
	}
	defer topics.Close() //nolint:errcheck // it only asked
	if err := topics.Create(ctx, publisher.TopicSpec{Name: topic, Partitions: 6}); err != nil {
		return err
	}
	pub, err := publisher.New(publisher.Config{Connection: conn})
	if err != nil {
		return err
	}
	defer pub.Close(ctx) //nolint:errcheck // Publish has confirmed every event
	for i := range 3 {
		e, err := catalog.Event(ctx, event.Raised{
			Aggregate: event.Aggregate{Type: topic, ID: fmt.Sprintf("o-%d-%d", time.Now().UnixNano(), i)},
			Sequence:  1, Time: time.Now(), Payload: OrderPlaced{Total: 100 * (i + 1)},
		})
		if err != nil {
			return err
		}
		if err := pub.Publish(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// open opens the service's database, with the inbox's tables and its own.
func open(ctx context.Context, file string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+file+"?_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(5000)")
	if err != nil {
		return nil, err
	}
	if err := schema.MigrateSQLite(ctx, db); err != nil {
		return nil, err
	}
	_, err = db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS invoice (order_id TEXT PRIMARY KEY, total INTEGER NOT NULL)`)
	return db, err
}
