package sqlinbox_test

import (
	"context"
	"database/sql"
	"net/url"
	"testing"
	"time"

	"github.com/google/uuid"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/handlers/inbox/inboxtest"
	"github.com/tidings-bus/tidings/handlers/inbox/sqlinbox"
	"github.com/tidings-bus/tidings/internal/testenv"
	"github.com/tidings-bus/tidings/schema"
)

func openPostgres(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	require.NoError(t, err)
	db.SetMaxOpenConns(8)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func TestPostgresKeepsTheInboxesPromises(t *testing.T) {
	testenv.Docker(t)
	inboxtest.Run(t, func(t *testing.T) inboxtest.Database[*sql.Tx] {
		dsn := testenv.Postgres(t)
		db := openPostgres(t, dsn)
		require.NoError(t, schema.MigratePostgres(t.Context(), db))
		exec := func(t *testing.T, query string, args ...any) {
			t.Helper()
			_, err := db.ExecContext(t.Context(), query, args...)
			require.NoError(t, err)
		}
		exec(t, `CREATE TABLE effect (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text NOT NULL, event text NOT NULL)`)
		member := func(t *testing.T, dsn string) inboxtest.Member[*sql.Tx] {
			t.Helper()
			m, err := sqlinbox.New(sqlinbox.Config{DB: openPostgres(t, dsn), Dialect: sqlinbox.PostgreSQL, Retention: inboxtest.Retention})
			require.NoError(t, err)
			return m
		}
		races := 500
		if testenv.Long() {
			races = 5000
		}
		return inboxtest.Database[*sql.Tx]{
			Member: func(t *testing.T) inboxtest.Member[*sql.Tx] { return member(t, dsn) },
			LossyMember: func(t *testing.T) (inboxtest.Member[*sql.Tx], *inboxtest.Line) {
				u, err := url.Parse(dsn)
				require.NoError(t, err)
				line := inboxtest.NewLine(t, u.Host)
				u.Host = line.Address
				return member(t, u.String()), line
			},
			Put: func(ctx context.Context, tx *sql.Tx, key, event string) error {
				_, err := tx.ExecContext(ctx, `INSERT INTO effect (key, event) VALUES ($1, $2)`, key, event)
				return err
			},
			Commit: func(_ context.Context, tx *sql.Tx) error { return tx.Commit() },
			Fail: func(ctx context.Context, tx *sql.Tx) error {
				_, err := tx.ExecContext(ctx, `INSERT INTO no_such_table VALUES (1)`)
				return err
			},
			Aborts:  true,
			Effects: func(t *testing.T) []string { return column[string](t, db, `SELECT event FROM effect ORDER BY id`) },
			Rows: func(t *testing.T, event uuid.UUID) []int {
				return column[int](t, db, `SELECT attempts FROM tidings.inbox WHERE event_id = $1
					UNION ALL SELECT attempts FROM tidings.inbox_other WHERE event_id = $1`, event)
			},
			Park: func(t *testing.T, parked int) { exec(t, `UPDATE tidings.key_row SET parked = $1`, parked) },
			Forget: func(t *testing.T) {
				exec(t, `DELETE FROM tidings.inbox`)
				exec(t, `DELETE FROM tidings.inbox_other`)
				exec(t, `UPDATE tidings.key_row SET created_at = created_at - $1 * interval '2 seconds'`, inboxtest.Retention.Seconds())
			},
			Letters: func(t *testing.T) []inboxtest.ParkedKey { return inboxtest.PostgresLetters(t, db) },
			Nth: func(ctx context.Context, key string, n int) (int64, uuid.UUID, error) {
				return nth(db.QueryRowContext(ctx, inboxtest.PostgresNth, []byte(key), n))
			},
			Schedules: races / 5,
			Age: func(t *testing.T, by time.Duration) {
				exec(t, `UPDATE tidings.parked_key SET head_at = head_at - $1 * interval '1 second'`, by.Seconds())
			},
			Invalid: "o\x00",
			Retention: func(t *testing.T) time.Duration {
				return time.Duration(column[int64](t, db, `SELECT retention_ms FROM tidings.inbox_cover`)[0]) * time.Millisecond
			},
			Races: races,
		}
	})
}
