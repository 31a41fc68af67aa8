package pgxinbox_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/handlers/inbox/pgxinbox"
	"github.com/tidings-bus/tidings/internal/testenv"
	"github.com/tidings-bus/tidings/schema"
)

func TestCheckSaysWhatIsWrong(t *testing.T) {
	testenv.Docker(t)
	check := func(pool *pgxpool.Pool) error {
		return newInbox(t, pgxinbox.Config{Pool: pool}).Check(t.Context())
	}
	t.Run("nothing", func(t *testing.T) {
		_, pool := migrated(t)
		require.NoError(t, check(pool))
	})
	t.Run("not migrated", func(t *testing.T) {
		err := check(openPool(t, testenv.Postgres(t)))
		require.ErrorIs(t, err, schema.ErrNotMigrated)
		require.EqualError(t, err, "database is not migrated: it has schema version 0 and this binary needs 1; run `tidings migrate --postgres ...`, or call schema.MigratePostgres at start")
	})
	t.Run("newer schema", func(t *testing.T) {
		_, pool := migrated(t)
		exec(t, pool, `UPDATE tidings.meta SET version = 9, oldest_binary = 4, oldest_release = '3.1.0'`)
		err := check(pool)
		require.ErrorIs(t, err, schema.ErrTooNew)
		require.EqualError(t, err, "database is of a newer, incompatible schema: it has version 9, for binaries of level 4 and above, and this one has level 1; upgrade this binary to release 3.1.0 or later")
	})
	t.Run("newer schema that this binary still understands", func(t *testing.T) {
		_, pool := migrated(t)
		exec(t, pool, `UPDATE tidings.meta SET version = 9`)
		require.NoError(t, check(pool))
	})
	t.Run("inbox in another database", func(t *testing.T) {
		other, _ := migrated(t)
		_, pool := migrated(t)
		u, err := url.Parse(other)
		require.NoError(t, err)
		exec(t, pool, `CREATE EXTENSION postgres_fdw`)
		exec(t, pool, `DO $$ BEGIN EXECUTE format('CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname %L)', '`+u.Path[1:]+`'); END $$`)
		exec(t, pool, `DROP TABLE tidings.inbox`)
		exec(t, pool, `CREATE FOREIGN TABLE tidings.inbox (event_id uuid, handler_id integer) SERVER elsewhere OPTIONS (schema_name 'tidings')`)
		require.EqualError(t, check(pool), `the inbox is in another database than the handler's transactions: tidings.inbox and tidings.key_row are of kind "f" and "r" here, not tables of this database; `+
			"effect and inbox row could not commit together: drop them and run `tidings migrate` on this database")
	})
	t.Run("dead letters in another database", func(t *testing.T) {
		_, pool := migrated(t)
		exec(t, pool, `CREATE EXTENSION postgres_fdw`)
		exec(t, pool, `CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname 'bus')`)
		exec(t, pool, `DROP TABLE tidings.dead_letter`)
		exec(t, pool, `CREATE FOREIGN TABLE tidings.dead_letter (id bigint) SERVER elsewhere OPTIONS (schema_name 'tidings')`)
		require.EqualError(t, check(pool), `the dead letters are in another database than the inbox: tidings.dead_letter and tidings.parked_key are of kind "f" and "r" here, not tables of this database; `+
			"an event could be parked and applied: drop them and run `tidings migrate` on this database")
	})
	t.Run("no dead letters", func(t *testing.T) {
		for _, missing := range []string{`TABLE tidings.dead_letter`, `TABLE tidings.parked_key`, `FUNCTION tidings.letter_park`} {
			_, pool := migrated(t)
			exec(t, pool, `DROP `+missing)
			err := check(pool)
			require.ErrorIs(t, err, schema.ErrNotMigrated)
			require.ErrorContains(t, err, "it has no dead-letter tables: it was migrated by a build from before they were part of schema version 1; "+
				"DROP SCHEMA tidings CASCADE, which forgets what was applied, and run `tidings migrate --postgres ...`")
		}
	})
	t.Run("asynchronous commit", func(t *testing.T) {
		_, pool := migrated(t)
		config := pool.Config()
		config.ConnConfig.RuntimeParams["synchronous_commit"] = "off"
		lossy, err := pgxpool.NewWithConfig(t.Context(), config)
		require.NoError(t, err)
		defer lossy.Close()
		require.EqualError(t, check(lossy), "synchronous_commit is off: a crash of the database would lose effects whose events are acknowledged; "+
			"set it on for this role or connection, or set AcceptPowerLoss")
		require.NoError(t, newInbox(t, pgxinbox.Config{Pool: lossy, AcceptPowerLoss: true}).Check(t.Context()))
	})
	t.Run("wrong database", func(t *testing.T) {
		dsn := testenv.Postgres(t)
		u, err := url.Parse(dsn)
		require.NoError(t, err)
		u.Path = "/no_such_database"
		require.ErrorContains(t, check(openPool(t, u.String())), `database "no_such_database" does not exist`)
	})
}

func TestConfigNamesTheField(t *testing.T) {
	pool, err := pgxpool.New(t.Context(), "postgres://127.0.0.1:1/none")
	require.NoError(t, err)
	defer pool.Close()
	for want, c := range map[string]pgxinbox.Config{
		"pgxinbox: Pool is nil; give the pool of the handlers' database":                                                               {},
		"pgxinbox: field Retention is -1s; use a positive duration, or 0 for 168h0m0s":                                                 {Pool: pool, Retention: -time.Second},
		"pgxinbox: field PartitionEvery is -1s; use a positive duration, or 0 for a seventh of Retention":                              {Pool: pool, PartitionEvery: -time.Second},
		"pgxinbox: field PartitionEvery is 3h0m0s, more than a quarter of Retention 4h0m0s; use less, or 0 for a seventh of Retention": {Pool: pool, Retention: 4 * time.Hour, PartitionEvery: 3 * time.Hour},
	} {
		_, err := pgxinbox.New(c)
		require.EqualError(t, err, want)
	}
}
