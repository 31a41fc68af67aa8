package schema_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	_ "modernc.org/sqlite"

	"github.com/tidings-bus/tidings/internal/testenv"
	"github.com/tidings-bus/tidings/schema"
)

const migrators = 8

func testContext() context.Context { return context.Background() }

func open(t *testing.T, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func sqliteFile(t *testing.T) (string, *sql.DB) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "orders.db")
	return path, open(t, "sqlite", "file:"+path)
}

func TestEightProcessesMigrateOneSQLiteFileAtOnce(t *testing.T) {
	path, db := sqliteFile(t)
	type child struct {
		cmd    *exec.Cmd
		start  io.WriteCloser
		stderr bytes.Buffer
	}
	children := make([]*child, 0, migrators)
	for range migrators {
		c := &child{cmd: exec.CommandContext(t.Context(), os.Args[0])}
		c.cmd.Env = append(os.Environ(), childEnv+"="+path)
		c.cmd.Stderr = &c.stderr
		var err error
		c.start, err = c.cmd.StdinPipe()
		require.NoError(t, err)
		stdout, err := c.cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, c.cmd.Start())
		line, err := bufio.NewReader(stdout).ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "ready\n", line)
		children = append(children, c)
	}
	for _, c := range children {
		require.NoError(t, c.start.Close())
	}
	for _, c := range children {
		require.NoError(t, c.cmd.Wait(), c.stderr.String())
	}
	requireMigratedOnce(t, db, `SELECT count(*) FROM tidings_migration WHERE version_id > 0`)
	require.NoError(t, schema.CheckSQLite(t.Context(), db))
}

func TestEightPoolsMigrateOnePostgresAtOnce(t *testing.T) {
	dsn := testenv.Postgres(t)
	var group errgroup.Group
	for range migrators {
		db := open(t, "pgx", dsn)
		group.Go(func() error { return schema.MigratePostgres(t.Context(), db) })
	}
	require.NoError(t, group.Wait())
	db := open(t, "pgx", dsn)
	requireMigratedOnce(t, db, `SELECT count(*) FROM tidings.migration WHERE version_id > 0`)
	require.NoError(t, schema.CheckPostgres(t.Context(), db))
}

func requireMigratedOnce(t *testing.T, db *sql.DB, query string) {
	t.Helper()
	var n int
	require.NoError(t, db.QueryRowContext(t.Context(), query).Scan(&n))
	require.Equal(t, schema.Version, n, "migrations applied")
}

func TestSQLiteMigrationWaitsForTheLockFileUntilItsContextEnds(t *testing.T) {
	path, db := sqliteFile(t)
	// The lock is taken by another process that stays in its migration.
	holder := exec.CommandContext(t.Context(), "flock", path+".migrate.lock", "sh", "-c", "echo held; read line")
	stdin, err := holder.StdinPipe()
	require.NoError(t, err)
	stdout, err := holder.StdoutPipe()
	require.NoError(t, err)
	if err := holder.Start(); err != nil {
		t.Skip("flock(1) is not here: ", err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "held\n", line)

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err = schema.MigrateSQLite(ctx, db)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "migrate sqlite: wait for the lock file "+path+".migrate.lock")
	require.NoError(t, stdin.Close())
	_ = holder.Wait() // read fails at the end of input
	require.NoError(t, schema.MigrateSQLite(t.Context(), db))
}

func TestPostgresMigrationWaitsForAnotherUntilItsContextEnds(t *testing.T) {
	dsn := testenv.Postgres(t)
	db := open(t, "pgx", dsn)
	holder, err := db.Conn(t.Context())
	require.NoError(t, err)
	_, err = holder.ExecContext(t.Context(), `CREATE SCHEMA tidings`)
	require.NoError(t, err)
	_, err = holder.ExecContext(t.Context(), `SELECT pg_advisory_lock(x'746964696e6773'::bigint)`)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, schema.MigratePostgres(ctx, db), context.DeadlineExceeded)
	_, err = holder.ExecContext(t.Context(), `SELECT pg_advisory_unlock_all()`)
	require.NoError(t, err)
	require.NoError(t, holder.Close())
	require.NoError(t, schema.MigratePostgres(t.Context(), db))
}

func TestSQLiteInMemoryNeedsNoLockFile(t *testing.T) {
	db := open(t, "sqlite", "file::memory:")
	db.SetMaxOpenConns(1)
	require.NoError(t, schema.MigrateSQLite(t.Context(), db))
	require.NoError(t, schema.CheckSQLite(t.Context(), db))
}

func TestStatusOfEachStage(t *testing.T) {
	type dialect struct {
		db             *sql.DB
		migrate, check func(context.Context, *sql.DB) error
		status         func(context.Context, *sql.DB) (schema.Status, error)
		newer          string
	}
	run := func(t *testing.T, d dialect) {
		t.Helper()
		ctx := t.Context()
		status, err := d.status(ctx, d.db)
		require.NoError(t, err)
		require.Equal(t, schema.Status{}, status)
		require.ErrorIs(t, d.check(ctx, d.db), schema.ErrNotMigrated)

		require.NoError(t, d.migrate(ctx, d.db))
		require.NoError(t, d.migrate(ctx, d.db), "again")
		status, err = d.status(ctx, d.db)
		require.NoError(t, err)
		require.Equal(t, schema.Status{Version: schema.Version, OldestBinary: schema.Level, OldestRelease: "0.1.0"}, status)

		_, err = d.db.ExecContext(ctx, d.newer)
		require.NoError(t, err)
		for _, err := range []error{d.check(ctx, d.db), d.migrate(ctx, d.db)} {
			require.ErrorIs(t, err, schema.ErrTooNew)
			require.ErrorContains(t, err, "upgrade this binary to release 2.0.0 or later")
		}
	}
	t.Run("sqlite", func(t *testing.T) {
		_, db := sqliteFile(t)
		run(t, dialect{
			db, schema.MigrateSQLite, schema.CheckSQLite, schema.StatusSQLite,
			`UPDATE tidings_meta SET version = 7, oldest_binary = 2, oldest_release = '2.0.0'`,
		})
	})
	t.Run("postgres", func(t *testing.T) {
		run(t, dialect{
			open(t, "pgx", testenv.Postgres(t)), schema.MigratePostgres, schema.CheckPostgres, schema.StatusPostgres,
			`UPDATE tidings.meta SET version = 7, oldest_binary = 2, oldest_release = '2.0.0'`,
		})
	})
}

func TestADatabaseThatIsNotThereIsAnError(t *testing.T) {
	db := open(t, "pgx", "postgres://nobody@127.0.0.1:1/none?connect_timeout=2")
	require.ErrorContains(t, schema.MigratePostgres(t.Context(), db), "migrate postgres: ask the database for its schema version: ")
	db = open(t, "sqlite", "file:"+filepath.Join(t.TempDir(), "missing", "orders.db"))
	require.ErrorContains(t, schema.MigrateSQLite(t.Context(), db), "migrate sqlite: open the database: unable to open database file")
}
