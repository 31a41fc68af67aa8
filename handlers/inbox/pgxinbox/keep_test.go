package pgxinbox_test

import (
	"bytes"
	"context"
	"database/sql"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/handlers/inbox/inboxtest"
	"github.com/tidings-bus/tidings/handlers/inbox/pgxinbox"
	"github.com/tidings-bus/tidings/internal/testenv"
	"github.com/tidings-bus/tidings/schema"
)

func TestPartitionsAreDroppedUnderTransactionsThatOverlap(t *testing.T) {
	dsn, pool := migrated(t)
	config, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	config.MaxConns = 20
	box := newInbox(t, pgxinbox.Config{Pool: openConfig(t, config), Retention: 2 * time.Second, PartitionEvery: 200 * time.Millisecond})
	stop := keep(t, box)
	defer stop()
	eventually(t, "partitions", func() bool { return len(partitions(t, pool)) > 0 })
	first := partitions(t, pool)[0]

	// There is no moment without a transaction that has touched the inbox: each
	// ends when the next has begun, and a drop that held the next up would never end.
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	defer load.Wait()
	defer cancel()
	load.Go(func() {
		before := func() {}
		for i := 0; ctx.Err() == nil; i++ {
			begun, end := make(chan struct{}), make(chan struct{})
			load.Go(func() {
				_, err := box.Apply(ctx, admission(string(rune('a'+i%2))), func(context.Context, pgx.Tx) error {
					close(begun)
					<-end
					return nil
				})
				if err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			})
			select {
			case <-begun:
			case <-ctx.Done():
			}
			before()
			before = func() { close(end) }
		}
		before()
	})
	eventually(t, "the first partition is dropped", func() bool {
		return !slices.Contains(column[string](t, pool, `SELECT name FROM tidings.inbox_partition`), first)
	})
	cancel()
	load.Wait()
	require.NotContains(t, partitions(t, pool), first)
	require.Empty(t, column[string](t, pool, `SELECT relname::text FROM pg_class WHERE relname = $1`, first))
}

func TestADetachThatWasCutShortIsFinished(t *testing.T) {
	dsn, pool := migrated(t)
	box := newInbox(t, pgxinbox.Config{Pool: openPool(t, dsn), Retention: time.Second, PartitionEvery: 100 * time.Millisecond})
	stop := keep(t, box)
	eventually(t, "partitions", func() bool { return len(partitions(t, pool)) > 0 })
	reader, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = reader.Exec(t.Context(), `SELECT count(*) FROM tidings.inbox`)
	require.NoError(t, err)
	pending := func() []string {
		return column[string](t, pool, `SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
			WHERE i.inhparent = 'tidings.inbox'::regclass AND i.inhdetachpending`)
	}
	eventually(t, "a detach under way", func() bool { return len(pending()) == 1 })
	held := pending()[0]
	stop() // in the middle of it
	require.Equal(t, []string{held}, pending())
	require.NoError(t, reader.Commit(t.Context()))

	stop = keep(t, box)
	defer stop()
	eventually(t, "the drop", func() bool {
		return len(column[string](t, pool, `SELECT relname::text FROM pg_class WHERE relname = $1`, held)) == 0
	})
	require.Equal(t, inbox.Fresh, apply(t, box, uuid.Must(uuid.NewV7())))
}

func TestADetachedPartitionThatIsStillThereIsDropped(t *testing.T) {
	_, pool := migrated(t)
	box := newInbox(t, pgxinbox.Config{Pool: pool, Retention: time.Second, PartitionEvery: 100 * time.Millisecond})
	stop := keep(t, box)
	eventually(t, "partitions", func() bool { return len(partitions(t, pool)) > 0 })
	stop()
	orphan := partitions(t, pool)[0]
	exec(t, pool, `ALTER TABLE tidings.inbox DETACH PARTITION `+pgx.Identifier{"tidings", orphan}.Sanitize())
	stop = keep(t, box)
	defer stop()
	eventually(t, "the drop", func() bool {
		return len(column[string](t, pool, `SELECT relname::text FROM pg_class WHERE relname = $1`, orphan)) == 0
	})
}

// asRole returns a pool of a new role in the database of dsn.
func asRole(t *testing.T, pool *pgxpool.Pool, dsn, kind string) (string, *pgxpool.Pool) {
	t.Helper()
	role := kind + "_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	exec(t, pool, `CREATE ROLE `+role+` LOGIN PASSWORD 'secret'`)
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	u.User = url.UserPassword(role, "secret")
	return role, openPool(t, u.String())
}

func TestARoleWithoutTheRightsIsToldWhichItNeeds(t *testing.T) {
	dsn := testenv.Postgres(t)
	admin := openPool(t, dsn)
	owner, owning := asRole(t, admin, dsn, "owner")
	app, pool := asRole(t, admin, dsn, "app")
	database := pgx.Identifier{column[string](t, admin, `SELECT current_database()::text`)[0]}.Sanitize()
	exec(t, admin, `GRANT CREATE ON DATABASE `+database+` TO `+owner)
	withDB(t, owning, func(db *sql.DB) { require.NoError(t, schema.MigratePostgres(t.Context(), db)) })
	exec(t, owning, `GRANT USAGE ON SCHEMA tidings TO `+app)
	exec(t, owning, `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA tidings TO `+app)

	box := newInbox(t, pgxinbox.Config{Pool: pool})
	require.EqualError(t, box.Check(t.Context()), `role "`+app+`" does not own tidings.inbox, so it cannot make and drop its partitions: GRANT "`+owner+`" TO "`+app+`"`)
	require.ErrorContains(t, box.Keep(t.Context()), "make inbox partitions ahead: ERROR: permission denied for schema tidings")
	// Handlers work all the same.
	require.Equal(t, inbox.Fresh, apply(t, box, uuid.Must(uuid.NewV7())))

	exec(t, admin, `GRANT `+owner+` TO `+app)
	exec(t, owning, `REVOKE CREATE ON SCHEMA tidings FROM `+owner)
	require.EqualError(t, box.Check(t.Context()), `role "`+app+`" may not make tables in schema tidings, so it cannot make the inbox's partitions: GRANT CREATE ON SCHEMA tidings TO "`+owner+`"`)
	exec(t, owning, `GRANT CREATE ON SCHEMA tidings TO `+owner)

	require.NoError(t, box.Check(t.Context()))
	stop := keep(t, box)
	eventually(t, "partitions", func() bool { return len(partitions(t, owning)) > 0 })
	stop()
	require.Equal(t, []string{owner}, column[string](t, owning, `SELECT DISTINCT tableowner::text FROM pg_tables WHERE schemaname = 'tidings'`),
		"another member of the owner may drop them")
}

func TestKeepEndsByTheErrorThatTheSchemaIsTooNew(t *testing.T) {
	_, pool := migrated(t)
	box := newInbox(t, pgxinbox.Config{Pool: pool, Retention: 4 * time.Second})
	done := make(chan error, 1)
	go func() { done <- box.Keep(t.Context()) }()
	eventually(t, "partitions", func() bool { return len(partitions(t, pool)) > 0 })
	exec(t, pool, `UPDATE tidings.meta SET version = 9, oldest_binary = 4, oldest_release = '3.1.0'`)
	require.ErrorIs(t, <-done, schema.ErrTooNew)
}

func TestAnInboxThatNobodyKeepsHasItsRetentionToo(t *testing.T) {
	_, pool := migrated(t)
	short := newInbox(t, pgxinbox.Config{Pool: pool, Retention: time.Hour})
	long := newInbox(t, pgxinbox.Config{Pool: pool, Retention: 9 * time.Hour})
	require.Equal(t, short.ID(), long.ID(), "the router keeps one of them")
	old := inboxtest.IDOf(time.Now().Add(-30 * time.Hour))
	require.Equal(t, inbox.Fresh, apply(t, long, old))
	exec(t, pool, `UPDATE tidings.inbox_other SET applied_at = applied_at - interval '8 hours'`)
	stop := keep(t, short)
	eventually(t, "partitions", func() bool { return len(partitions(t, pool)) > 0 })
	stop()
	require.Equal(t, []int64{(9 * time.Hour).Milliseconds()}, column[int64](t, pool, `SELECT retention_ms FROM tidings.inbox_cover`))
	require.Equal(t, []string{"other"}, tables(t, pool, old))
}

func TestWithoutALoggerTheDefaultHearsOfTheUpkeep(t *testing.T) {
	var mu sync.Mutex
	var heard bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(writer(func(p []byte) { mu.Lock(); defer mu.Unlock(); heard.Write(p) }), nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	_, pool := migrated(t)
	stop := keep(t, newInbox(t, pgxinbox.Config{Pool: pool, Retention: 100 * time.Millisecond}))
	defer stop()
	eventually(t, "a drop that is told", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Contains(heard.String(), "dropped an inbox partition past retention")
	})
}
