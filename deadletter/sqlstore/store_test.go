package sqlstore_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/tidings-bus/tidings/deadletter/sqlstore"
	"github.com/tidings-bus/tidings/deadletter/storetest"
	"github.com/tidings-bus/tidings/handlers/inbox/pgxinbox"
	"github.com/tidings-bus/tidings/handlers/inbox/sqlinbox"
	"github.com/tidings-bus/tidings/internal/testenv"
	"github.com/tidings-bus/tidings/schema"
)

// database is a fresh one of either kind.
type database struct {
	*sql.DB

	dialect sqlinbox.Dialect
	dsn     string
}

// sqliteOptions: the suites do not cut the power.
const sqliteOptions = "?_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)&_pragma=busy_timeout(20)"

func connect(t *testing.T, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	require.NoError(t, err)
	db.SetMaxOpenConns(8)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func openSQLite(t *testing.T) *database {
	t.Helper()
	d := &database{dialect: sqlinbox.SQLite, dsn: "file:" + filepath.Join(t.TempDir(), "billing.db") + sqliteOptions}
	d.DB = connect(t, "sqlite", d.dsn)
	require.NoError(t, schema.MigrateSQLite(t.Context(), d.DB))
	return d
}

func openPostgres(t *testing.T) *database {
	t.Helper()
	d := &database{dialect: sqlinbox.PostgreSQL, dsn: testenv.Postgres(t)}
	d.DB = connect(t, "pgx", d.dsn)
	require.NoError(t, schema.MigratePostgres(t.Context(), d.DB))
	return d
}

// again is the database as another process has it.
func (d *database) again(t *testing.T) *database {
	t.Helper()
	driver := "pgx"
	if d.dialect == sqlinbox.SQLite {
		driver = "sqlite"
	}
	return &database{DB: connect(t, driver, d.dsn), dialect: d.dialect, dsn: d.dsn}
}

func (d *database) store() *sqlstore.Store {
	if d.dialect == sqlinbox.SQLite {
		return sqlstore.SQLite(d.DB)
	}
	return sqlstore.Postgres(d.DB)
}

func (d *database) box(t *testing.T) *sqlinbox.Inbox {
	t.Helper()
	b, err := sqlinbox.New(sqlinbox.Config{DB: d.DB, Dialect: d.dialect, AcceptPowerLoss: true})
	require.NoError(t, err)
	return b
}

func (d *database) fixture(t *testing.T) storetest.Fixture {
	t.Helper()
	f := storetest.Fixture{Store: d.store(), Second: d.again(t).store(), Box: d.again(t).box(t), Rounds: 10}
	if testenv.Long() {
		f.Rounds = 500
	}
	return f
}

// each runs a test on both kinds.
func each(t *testing.T, test func(t *testing.T, d *database)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, openSQLite(t)) })
	t.Run("postgres", func(t *testing.T) { test(t, openPostgres(t)) })
}

func TestSQLiteKeepsTheStoresPromises(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Fixture { return openSQLite(t).fixture(t) })
}

func TestPostgresKeepsTheStoresPromises(t *testing.T) {
	testenv.Docker(t)
	d := openPostgres(t)
	storetest.Run(t, func(t *testing.T) storetest.Fixture {
		// One database for all parts: to make one costs more than most of them.
		_, err := d.ExecContext(t.Context(), `TRUNCATE tidings.dead_letter, tidings.parked_key, tidings.dead_letter_request, tidings.dead_letter_audit,
			tidings.key_row, tidings.key_stream, tidings.handler, tidings.inbox, tidings.inbox_other RESTART IDENTITY`)
		require.NoError(t, err)
		f := d.fixture(t)
		// The other driver's inbox and store stand beside, on the same tables.
		pool, err := pgxpool.New(t.Context(), d.dsn)
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		b, err := pgxinbox.New(pgxinbox.Config{Pool: pool, AcceptPowerLoss: true})
		require.NoError(t, err)
		f.Box, f.Second = b, b.Letters()
		require.Equal(t, b.ID(), f.Second.ID())
		return f
	})
}

func TestTheDriversHandOutTheStoreUnderTheInboxesID(t *testing.T) {
	d := openSQLite(t)
	b := d.box(t)
	require.Equal(t, b.ID(), d.store().ID())
	require.Equal(t, b.ID(), b.Letters().ID())
}
