package pgxinbox_test

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/handlers/inbox/inboxtest"
	"github.com/tidings-bus/tidings/handlers/inbox/pgxinbox"
	"github.com/tidings-bus/tidings/internal/testenv"
	"github.com/tidings-bus/tidings/schema"
)

func openPool(t testing.TB, dsn string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func openConfig(t testing.TB, c *pgxpool.Config) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.NewWithConfig(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// migrated returns the URL of a fresh database with our tables and one for
// effects, and a pool for it.
func migrated(t testing.TB) (string, *pgxpool.Pool) {
	t.Helper()
	dsn := testenv.Postgres(t)
	pool := openPool(t, dsn)
	withDB(t, pool, func(db *sql.DB) { require.NoError(t, schema.MigratePostgres(t.Context(), db)) })
	exec(t, pool, `CREATE TABLE effect (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text NOT NULL, event text NOT NULL)`)
	return dsn, pool
}

func withDB(t testing.TB, pool *pgxpool.Pool, f func(db *sql.DB)) {
	t.Helper()
	db := stdlib.OpenDBFromPool(pool)
	defer func() { require.NoError(t, db.Close()) }()
	f(db)
}

func exec(t testing.TB, pool *pgxpool.Pool, query string, args ...any) {
	t.Helper()
	_, err := pool.Exec(t.Context(), query, args...)
	require.NoError(t, err)
}

func column[T any](t testing.TB, pool *pgxpool.Pool, query string, args ...any) []T {
	t.Helper()
	rows, err := pool.Query(t.Context(), query, args...)
	require.NoError(t, err)
	values, err := pgx.CollectRows(rows, pgx.RowTo[T])
	require.NoError(t, err)
	return values
}

func put(ctx context.Context, tx pgx.Tx, key, event string) error {
	_, err := tx.Exec(ctx, `INSERT INTO effect (key, event) VALUES ($1, $2)`, key, event)
	return err
}

func newInbox(t testing.TB, c pgxinbox.Config) *pgxinbox.Inbox {
	t.Helper()
	box, err := pgxinbox.New(c)
	require.NoError(t, err)
	return box
}

// viaLine returns dsn by a line that can be cut and counts.
func viaLine(t *testing.T, dsn string) (string, *inboxtest.Line) {
	t.Helper()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	line := inboxtest.NewLine(t, u.Host)
	u.Host = line.Address
	return u.String(), line
}

func TestPgxKeepsTheInboxesPromises(t *testing.T) {
	testenv.Docker(t)
	races := 1000
	if testenv.Long() {
		races = 10_000
	}
	inboxtest.Run(t, func(t *testing.T) inboxtest.Database[pgx.Tx] {
		dsn, pool := migrated(t)
		return inboxtest.Database[pgx.Tx]{
			Member: func(t *testing.T) inboxtest.Member[pgx.Tx] {
				return newInbox(t, pgxinbox.Config{Pool: openPool(t, dsn), Retention: inboxtest.Retention})
			},
			LossyMember: func(t *testing.T) (inboxtest.Member[pgx.Tx], *inboxtest.Line) {
				dsn, line := viaLine(t, dsn)
				return newInbox(t, pgxinbox.Config{Pool: openPool(t, dsn), Retention: inboxtest.Retention}), line
			},
			Put:    put,
			Commit: func(ctx context.Context, tx pgx.Tx) error { return tx.Commit(ctx) },
			Fail: func(ctx context.Context, tx pgx.Tx) error {
				_, err := tx.Exec(ctx, `INSERT INTO no_such_table VALUES (1)`)
				return err
			},
			Aborts:  true,
			Effects: func(t *testing.T) []string { return column[string](t, pool, `SELECT event FROM effect ORDER BY id`) },
			Rows: func(t *testing.T, event uuid.UUID) []int {
				return column[int](t, pool, `SELECT attempts FROM tidings.inbox WHERE event_id = $1
					UNION ALL SELECT attempts FROM tidings.inbox_other WHERE event_id = $1`, event)
			},
			Park: func(t *testing.T, parked int) { exec(t, pool, `UPDATE tidings.key_row SET parked = $1`, parked) },
			Forget: func(t *testing.T) {
				exec(t, pool, `TRUNCATE tidings.inbox, tidings.inbox_other`)
				exec(t, pool, `UPDATE tidings.key_row SET created_at = created_at - $1 * interval '2 seconds'`, inboxtest.Retention.Seconds())
			},
			Letters: func(t *testing.T) (keys []inboxtest.ParkedKey) {
				withDB(t, pool, func(db *sql.DB) { keys = inboxtest.PostgresLetters(t, db) })
				return keys
			},
			Nth: func(ctx context.Context, key string, n int) (id int64, event uuid.UUID, err error) {
				err = pool.QueryRow(ctx, inboxtest.PostgresNth, []byte(key), n).Scan(&id, &event)
				if errors.Is(err, pgx.ErrNoRows) {
					err = nil
				}
				return id, event, err
			},
			Schedules: races,
			Age: func(t *testing.T, by time.Duration) {
				exec(t, pool, `UPDATE tidings.parked_key SET head_at = head_at - $1 * interval '1 second'`, by.Seconds())
			},
			Invalid: "o\xff",
			Retention: func(t *testing.T) time.Duration {
				return time.Duration(column[int64](t, pool, `SELECT retention_ms FROM tidings.inbox_cover`)[0]) * time.Millisecond
			},
			Races: races,
		}
	})
}

func admission(key string) inbox.Admission {
	return inbox.Admission{
		Handler: inbox.Handler{Group: "billing", Name: "charge"}, Attempt: 1, EventID: uuid.Must(uuid.NewV7()),
		Place: inbox.Place{Topic: "order", Key: []byte(key)},
	}
}

func TestAnAdmissionIsOneRoundTrip(t *testing.T) {
	dsn, _ := migrated(t)
	dsn, line := viaLine(t, dsn)
	box := newInbox(t, pgxinbox.Config{Pool: openPool(t, dsn)})
	apply := func() (admitted, whole int64) {
		before := line.Requests()
		_, err := box.Apply(t.Context(), admission("o-1"), func(context.Context, pgx.Tx) error {
			admitted = line.Requests() - before
			return nil
		})
		require.NoError(t, err)
		return admitted, line.Requests() - before
	}
	apply() // connects, registers and prepares
	admitted, whole := apply()
	require.Equal(t, int64(1), admitted, "requests before the effect")
	require.Equal(t, int64(2), whole, "requests with COMMIT")
}

func TestTransactionsAreReadCommittedWhateverTheDefault(t *testing.T) {
	_, pool := migrated(t)
	config := pool.Config()
	config.ConnConfig.RuntimeParams["default_transaction_isolation"] = "serializable"
	config.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	strict, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer strict.Close()
	_, err = newInbox(t, pgxinbox.Config{Pool: strict}).Apply(t.Context(), admission("o-1"), func(ctx context.Context, tx pgx.Tx) error {
		var isolation string
		require.NoError(t, tx.QueryRow(ctx, `SHOW transaction_isolation`).Scan(&isolation))
		require.Equal(t, "read committed", isolation)
		return put(ctx, tx, "o-1", "e")
	})
	require.NoError(t, err)
}

func TestParkingCostsTheRoundTripsThatItSays(t *testing.T) {
	dsn, pool := migrated(t)
	dsn, line := viaLine(t, dsn)
	box := newInbox(t, pgxinbox.Config{Pool: openPool(t, dsn)})
	requests := func(act func() (inbox.Answer, error), want inbox.Answer) int64 {
		before := line.Requests()
		answer, err := act()
		require.NoError(t, err)
		require.Equal(t, want, answer)
		return line.Requests() - before
	}
	none := func(context.Context, pgx.Tx) error { return nil }
	for round := range 2 { // the first connects, registers and prepares
		a, b := admission("o-1"), admission("o-1")
		a.Message, b.Message = &inbox.Message{}, &inbox.Message{}
		park := requests(func() (inbox.Answer, error) {
			return box.Park(t.Context(), a, inbox.Failure{Cause: inbox.CauseError})
		}, inbox.Parked)
		behind := requests(func() (inbox.Answer, error) { return box.Apply(t.Context(), b, none) }, inbox.Parked)
		ids := column[int64](t, pool, `SELECT id FROM tidings.dead_letter ORDER BY id`)
		a.Letter, b.Letter = ids[0], ids[1]
		retry := requests(func() (inbox.Answer, error) { return box.Apply(t.Context(), a, none) }, inbox.Fresh)
		require.Equal(t, inbox.Fresh, func() inbox.Answer { answer, _ := box.Apply(t.Context(), b, none); return answer }())
		if round > 0 {
			require.Equal(t, []int64{3, 3, 4}, []int64{park, behind, retry}, "requests of a park, one behind it, and a retry")
		}
	}
}
