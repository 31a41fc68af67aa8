package sqlstore_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/tidings-bus/tidings/deadletter/sqlstore"
	"github.com/tidings-bus/tidings/deadletter/storetest"
	"github.com/tidings-bus/tidings/handlers/inbox/sqlinbox"
	"github.com/tidings-bus/tidings/internal/testenv"
	"github.com/tidings-bus/tidings/schema"
)

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

func box(t *testing.T, db *sql.DB, dialect sqlinbox.Dialect) *sqlinbox.Inbox {
	t.Helper()
	b, err := sqlinbox.New(sqlinbox.Config{DB: db, Dialect: dialect, AcceptPowerLoss: true})
	require.NoError(t, err)
	return b
}

func openSQLite(t *testing.T) (path string, db *sql.DB) {
	t.Helper()
	path = "file:" + filepath.Join(t.TempDir(), "billing.db") + sqliteOptions
	db = connect(t, "sqlite", path)
	require.NoError(t, schema.MigrateSQLite(t.Context(), db))
	return path, db
}

func openPostgres(t *testing.T) (dsn string, db *sql.DB) {
	t.Helper()
	dsn = testenv.Postgres(t)
	db = connect(t, "pgx", dsn)
	require.NoError(t, schema.MigratePostgres(t.Context(), db))
	return dsn, db
}

func TestSQLiteKeepsTheStoresPromises(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Fixture {
		path, db := openSQLite(t)
		return storetest.Fixture{
			Store:  sqlstore.SQLite(db),
			Second: sqlstore.SQLite(connect(t, "sqlite", path)),
			Box:    box(t, connect(t, "sqlite", path), sqlinbox.SQLite),
		}
	})
}

func TestPostgresKeepsTheStoresPromises(t *testing.T) {
	testenv.Docker(t)
	storetest.Run(t, func(t *testing.T) storetest.Fixture {
		dsn, db := openPostgres(t)
		return storetest.Fixture{
			Store:  sqlstore.Postgres(db),
			Second: sqlstore.Postgres(connect(t, "pgx", dsn)),
			Box:    box(t, connect(t, "pgx", dsn), sqlinbox.PostgreSQL),
		}
	})
}
