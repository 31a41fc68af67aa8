package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox/pgxinbox"
	"github.com/tidings-bus/tidings/schema"
)

type postgresStore struct {
	pgQuerier

	pool *pgxpool.Pool
}

func openPostgres(ctx context.Context, c StoreConfig) (_ *postgresStore, err error) {
	cfg, err := pgxpool.ParseConfig(c.Postgres)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	cfg.MaxConns = 16
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	defer func() {
		if err != nil {
			pool.Close()
		}
	}()
	if c.Migrate {
		db := stdlib.OpenDBFromPool(pool)
		err := schema.MigratePostgres(ctx, db)
		if err := errors.Join(err, db.Close()); err != nil {
			return nil, err
		}
	}
	s := &postgresStore{pgQuerier{pool}, pool}
	err = s.inTx(ctx, func(ctx context.Context, q querier) error { return q.exec(ctx, postgresTables) })
	if err != nil {
		return nil, fmt.Errorf("making the demo's tables in database %s: %w", cfg.ConnConfig.Database, err)
	}
	return s, nil
}

func (s *postgresStore) inTx(ctx context.Context, fn func(context.Context, querier) error) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return fn(ctx, pgQuerier{tx}) })
}

func (s *postgresStore) handlers(r role) ([]handlers.Handler, error) {
	box, err := pgxinbox.New(pgxinbox.Config{Pool: s.pool})
	if err != nil {
		return nil, err
	}
	return roleHandlers(r, box, box, func(tx pgx.Tx) querier { return pgQuerier{tx} }), nil
}

func (s *postgresStore) noted(ctx context.Context) (map[string]time.Time, error) {
	return readNoted(ctx, s, `SELECT event_id::text, (extract(epoch FROM applied_at) * 1000)::bigint FROM tidings.inbox
		UNION ALL SELECT event_id::text, (extract(epoch FROM applied_at) * 1000)::bigint FROM tidings.inbox_other`)
}

func (s *postgresStore) close() { s.pool.Close() }

// pgQuerier is a pool or a transaction of pgx.
type pgQuerier struct {
	db interface {
		Exec(ctx context.Context, query string, args ...any) (pgconn.CommandTag, error)
		Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
	}
}

func (q pgQuerier) exec(ctx context.Context, query string, args ...any) error {
	_, err := q.db.Exec(ctx, query, args...)
	return err
}

func (q pgQuerier) each(ctx context.Context, query string, args []any, row func(func(...any) error) error) error {
	rows, err := q.db.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
