package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers/inbox/pgxinbox"
	"github.com/tidings-bus/tidings/internal/testenv"
	"github.com/tidings-bus/tidings/schema"
)

// conns is how many connections handlers have, and how many goroutines the bare
// transactions.
const conns = 16

// database is one that nobody else uses, migrated, with a table of rows that
// handlers update and a table of effects. Commits are synchronous.
type database struct {
	url  string
	pool *pgxpool.Pool
	box  *pgxinbox.Inbox

	stop func() // ends the inbox's upkeep
}

// accounts is how many rows there are to update: one for each key.
const accounts = publishKeys

var tables = []string{
	`CREATE TABLE account (id text PRIMARY KEY, changes bigint NOT NULL DEFAULT 0) WITH (fillfactor = 50)`,
	fmt.Sprintf(`INSERT INTO account (id) SELECT 'order-' || n FROM generate_series(0, %d) n`, accounts-1),
	`CREATE TABLE effect (event_id uuid NOT NULL, member text NOT NULL)`,
}

// fresh makes a database on the server.
func (e *env) fresh(ctx context.Context) (_ *database, err error) {
	server, err := e.database() //nolint:contextcheck // a container starts within its own limit
	if err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return nil, err
	}
	name := strings.ReplaceAll(testenv.Name("bench"), "-", "_")
	_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
	if err := join(err, conn.Close(ctx)); err != nil {
		return nil, err
	}
	at, err := url.Parse(server)
	if err != nil {
		return nil, err
	}
	at.Path = "/" + name
	db := &database{url: at.String()}
	defer func() {
		if err != nil {
			db.close()
		}
	}()
	if err := db.open(ctx); err != nil {
		return nil, err
	}
	return db, db.keep(ctx)
}

func (db *database) open(ctx context.Context) error {
	config, err := pgxpool.ParseConfig(db.url)
	if err != nil {
		return err
	}
	config.MaxConns, config.MinConns = conns, conns
	if db.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return err
	}
	var synchronous string
	if err := db.pool.QueryRow(ctx, `SHOW synchronous_commit`).Scan(&synchronous); err != nil {
		return err
	}
	if synchronous != "on" {
		return fmt.Errorf("synchronous_commit is %s on the server: these measures are of commits that wait for the disk; set it on", synchronous)
	}
	sql := stdlib.OpenDBFromPool(db.pool)
	if err := join(schema.MigratePostgres(ctx, sql), sql.Close()); err != nil {
		return err
	}
	for _, statement := range tables {
		if _, err := db.pool.Exec(ctx, statement); err != nil {
			return err
		}
	}
	db.box, err = pgxinbox.New(pgxinbox.Config{Pool: db.pool, Logger: slog.New(slog.DiscardHandler)})
	return err
}

// keep runs the inbox's upkeep, as a router does, and returns when the inbox has
// its first partitions.
func (db *database) keep(ctx context.Context) error {
	keeping, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- db.box.Keep(keeping) }()
	db.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			slog.Error("the inbox's upkeep ended", "cause", err)
		}
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		var covered bool
		if err := db.pool.QueryRow(ctx, `SELECT until_ms > 0 FROM tidings.inbox_cover`).Scan(&covered); err != nil || covered {
			return err
		}
		select {
		case <-tick.C:
		case err := <-ended:
			ended <- err // for stop
			return fmt.Errorf("the inbox's upkeep ended before it made partitions: %w", err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// close leaves the database to its server, which goes with the run, or is the
// caller's and holds it no longer than the caller wants.
func (db *database) close() {
	if db.stop != nil {
		db.stop()
	}
	if db.pool != nil {
		db.pool.Close()
	}
}

// change is the effect of these measures' handlers.
const change = `UPDATE account SET changes = changes + 1 WHERE id = $1`

func (db *database) changes(ctx context.Context) (n int64, err error) {
	err = db.pool.QueryRow(ctx, `SELECT sum(changes) FROM account`).Scan(&n)
	return n, err
}

var errNoRow = errors.New("no row has the key")

func changeRow(ctx context.Context, tx pgx.Tx, key string) error {
	tag, err := tx.Exec(ctx, change, key)
	if err == nil && tag.RowsAffected() != 1 {
		err = fmt.Errorf("update %s: %w", key, errNoRow)
	}
	return err
}

// newCatalog knows the one type of the measures' events.
func newCatalog() (*event.Catalog, error) {
	catalog, err := event.NewCatalog(event.CatalogConfig{Source: "/bench"})
	if err != nil {
		return nil, err
	}
	return catalog, event.Register[placed](catalog, eventType, 1)
}
