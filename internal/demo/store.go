package demo

import (
	"context"
	_ "embed"
	"errors"
	"time"

	"github.com/tidings-bus/tidings/handlers"
)

var (
	//go:embed sql/sqlite.sql
	sqliteTables string
	//go:embed sql/postgres.sql
	postgresTables string
)

// StoreConfig names a service's own database: one of the two.
type StoreConfig struct {
	SQLite   string // path of the file
	Postgres string // URL
	// Migrate brings the bus's own tables up to date at start, too.
	Migrate bool
}

func (c StoreConfig) validate() error {
	switch {
	case c.SQLite == "" && c.Postgres == "":
		return errors.New("no database: give --sqlite PATH or --postgres URL")
	case c.SQLite != "" && c.Postgres != "":
		return errors.New("two databases: give either --sqlite or --postgres")
	}
	return nil
}

// store is a service's own database. Close it.
type store interface {
	querier
	// inTx runs fn in a transaction and commits it.
	inTx(ctx context.Context, fn func(ctx context.Context, q querier) error) error
	// handlers makes the handlers of a role, with the inbox of this database.
	handlers(r role) ([]handlers.Handler, error)
	// noted says when each event was recorded in the inbox.
	noted(ctx context.Context) (map[string]time.Time, error)
	close()
}

// querier is what *sql.DB, *sql.Tx, *pgxpool.Pool and pgx.Tx have in common, in
// one dialect: arguments are $1, $2.
type querier interface {
	exec(ctx context.Context, query string, args ...any) error
	each(ctx context.Context, query string, args []any, row func(scan func(...any) error) error) error
}

// openStore opens the database and makes the demo's tables in it.
func openStore(ctx context.Context, c StoreConfig) (store, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	if c.SQLite != "" {
		return openSQLite(ctx, c)
	}
	return openPostgres(ctx, c)
}

// one scans the row of query; without one it leaves dest as it is.
func one(ctx context.Context, q querier, query string, args []any, dest ...any) error {
	return q.each(ctx, query, args, func(scan func(...any) error) error { return scan(dest...) })
}
