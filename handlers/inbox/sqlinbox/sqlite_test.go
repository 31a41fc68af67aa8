package sqlinbox_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/handlers/inbox/inboxtest"
	"github.com/tidings-bus/tidings/handlers/inbox/sqlinbox"
	"github.com/tidings-bus/tidings/internal/testenv"
	"github.com/tidings-bus/tidings/schema"
)

const (
	// fast: the suites do not cut the power.
	fast = "?_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)&_pragma=busy_timeout(20)"
	full = "?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(5000)"
)

func openSQLite(t testing.TB, path, options string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+options)
	require.NoError(t, err)
	db.SetMaxOpenConns(8)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func migratedSQLite(t testing.TB, options string) (*sql.DB, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "billing.db")
	db := openSQLite(t, path, options)
	require.NoError(t, schema.MigrateSQLite(t.Context(), db))
	return db, path
}

func TestSQLiteKeepsTheInboxesPromises(t *testing.T) {
	for _, begin := range []string{"deferred", "immediate"} {
		t.Run(begin, func(t *testing.T) {
			races := 1250
			if begin == "deferred" {
				races = 5000 // each by two members
			}
			races /= slower
			if testenv.Long() {
				races *= 10
			}
			inboxtest.Run(t, func(t *testing.T) inboxtest.Database[*sql.Tx] {
				return sqliteDatabase(t, fast+"&_txlock="+begin, races)
			})
		})
	}
}

func sqliteDatabase(t *testing.T, options string, races int) inboxtest.Database[*sql.Tx] {
	t.Helper()
	db, path := migratedSQLite(t, options)
	exec := func(t *testing.T, query string, args ...any) {
		t.Helper()
		_, err := db.ExecContext(t.Context(), query, args...)
		require.NoError(t, err)
	}
	exec(t, `CREATE TABLE effect (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, event TEXT NOT NULL)`)
	return inboxtest.Database[*sql.Tx]{
		Member: func(t *testing.T) inboxtest.Member[*sql.Tx] {
			m, err := sqlinbox.New(sqlinbox.Config{
				DB: openSQLite(t, path, options), Dialect: sqlinbox.SQLite, Retention: inboxtest.Retention, AcceptPowerLoss: true,
			})
			require.NoError(t, err)
			return m
		},
		Put: func(ctx context.Context, tx *sql.Tx, key, event string) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO effect (key, event) VALUES (?, ?)`, key, event)
			return err
		},
		Commit: func(_ context.Context, tx *sql.Tx) error { return tx.Commit() },
		Fail: func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO no_such_table VALUES (1)`)
			return err
		},
		Effects: func(t *testing.T) []string { return column[string](t, db, `SELECT event FROM effect ORDER BY id`) },
		Rows: func(t *testing.T, event uuid.UUID) []int {
			return column[int](t, db, `SELECT attempts FROM tidings_inbox WHERE event_id = ?`, event[:])
		},
		Park: func(t *testing.T, parked int) { exec(t, `UPDATE tidings_key_row SET parked = ?`, parked) },
		Forget: func(t *testing.T) {
			exec(t, `DELETE FROM tidings_inbox`)
			exec(t, `UPDATE tidings_key_row SET created_at = created_at - ?`, 2*inboxtest.Retention.Milliseconds())
		},
		Letters: func(t *testing.T) []inboxtest.ParkedKey { return inboxtest.SQLiteLetters(t, db) },
		Nth: func(ctx context.Context, key string, n int) (int64, uuid.UUID, error) {
			return nth(db.QueryRowContext(ctx, inboxtest.SQLiteNth, []byte(key), n))
		},
		Schedules: max(races/10, 20),
		Age: func(t *testing.T, by time.Duration) {
			exec(t, `UPDATE tidings_parked_key SET head_at = head_at - ?`, by.Milliseconds())
		},
		Retention: func(t *testing.T) time.Duration {
			return time.Duration(column[int64](t, db, `SELECT retention_ms FROM tidings_inbox_cover`)[0]) * time.Millisecond
		},
		Races:     races,
		OneWriter: true,
	}
}

func nth(row *sql.Row) (id int64, event uuid.UUID, err error) {
	if err = row.Scan(&id, &event); errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return id, event, err
}

func column[T any](t *testing.T, db *sql.DB, query string, args ...any) (values []T) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query, args...)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var v T
		require.NoError(t, rows.Scan(&v))
		values = append(values, v)
	}
	require.NoError(t, rows.Err())
	return values
}

func TestSQLiteWorksWithOneConnectionAndFullDurability(t *testing.T) {
	db, _ := migratedSQLite(t, full)
	db.SetMaxOpenConns(1)
	box, err := sqlinbox.New(sqlinbox.Config{DB: db, Dialect: sqlinbox.SQLite})
	require.NoError(t, err)
	require.NoError(t, box.Check(t.Context()))
	answer, err := box.Apply(t.Context(), inbox.Admission{EventID: uuid.Must(uuid.NewV7())}, func(context.Context, *sql.Tx) error { return nil })
	require.NoError(t, err)
	require.Equal(t, inbox.Fresh, answer)
}

func TestSQLiteForgetsEventsAFullRetentionAfterTheirAdmission(t *testing.T) {
	db, _ := migratedSQLite(t, fast)
	box, err := sqlinbox.New(sqlinbox.Config{DB: db, Dialect: sqlinbox.SQLite, Retention: time.Hour})
	require.NoError(t, err)
	h := inbox.Handler{Group: "g", Name: "h"}
	const pruned = 1203 // more than two batches
	ids := make([]uuid.UUID, 0, pruned+1)
	for range pruned + 1 {
		ids = append(ids, inboxtest.IDOf(time.Now().Add(-24*time.Hour))) // the ID's age does not matter
		require.NoError(t, box.Record(t.Context(), inbox.Admission{Handler: h, EventID: ids[len(ids)-1]}))
	}
	_, err = db.ExecContext(t.Context(), `UPDATE tidings_inbox SET applied_at = applied_at - 3600001 WHERE event_id <> ?`, ids[0][:])
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- box.Keep(ctx) }()
	require.Eventually(t, func() bool {
		return len(column[[]byte](t, db, `SELECT event_id FROM tidings_inbox`)) == 1
	}, 10*time.Second, 5*time.Millisecond)
	cancel()
	require.NoError(t, <-done)
	require.Equal(t, [][]byte{ids[0][:]}, column[[]byte](t, db, `SELECT event_id FROM tidings_inbox`))
}

func TestSQLiteCheckSaysWhatIsWrong(t *testing.T) {
	check := func(db *sql.DB) error {
		box, err := sqlinbox.New(sqlinbox.Config{DB: db, Dialect: sqlinbox.SQLite})
		require.NoError(t, err)
		return box.Check(t.Context())
	}
	t.Run("nothing", func(t *testing.T) {
		db, _ := migratedSQLite(t, full)
		require.NoError(t, check(db))
	})
	t.Run("not migrated", func(t *testing.T) {
		err := check(openSQLite(t, filepath.Join(t.TempDir(), "a.db"), full))
		require.ErrorIs(t, err, schema.ErrNotMigrated)
		require.EqualError(t, err, "database is not migrated: it has schema version 0 and this binary needs 1; run `tidings migrate --sqlite ...`, or call schema.MigrateSQLite at start")
	})
	t.Run("newer schema", func(t *testing.T) {
		db, _ := migratedSQLite(t, full)
		_, err := db.ExecContext(t.Context(), `UPDATE tidings_meta SET version = 9, oldest_binary = 4, oldest_release = '3.1.0'`)
		require.NoError(t, err)
		err = check(db)
		require.ErrorIs(t, err, schema.ErrTooNew)
		require.EqualError(t, err, "database is of a newer, incompatible schema: it has version 9, for binaries of level 4 and above, and this one has level 1; upgrade this binary to release 3.1.0 or later")
	})
	t.Run("inbox in an attached file", func(t *testing.T) {
		_, other := migratedSQLite(t, full)
		db := openSQLite(t, filepath.Join(t.TempDir(), "main.db"), full)
		db.SetMaxOpenConns(1)
		_, err := db.ExecContext(t.Context(), `ATTACH DATABASE ? AS bus`, other)
		require.NoError(t, err)
		require.EqualError(t, check(db), "the inbox is in another database than the handler's transactions: tidings_inbox is in the attached database \"bus\", not in main; "+
			"effect and inbox row would not commit together: run `tidings migrate` on the main file, or open the other one as main")
	})
	t.Run("no dead letters", func(t *testing.T) {
		db, _ := migratedSQLite(t, full)
		_, err := db.ExecContext(t.Context(), `DROP TABLE tidings_parked_key`)
		require.NoError(t, err)
		err = check(db)
		require.ErrorIs(t, err, schema.ErrNotMigrated)
		require.ErrorContains(t, err, "it has no dead-letter tables beside its inbox: it was migrated by a build from before they were part of schema version 1; "+
			"drop the tables tidings_..., which forgets what was applied, and run `tidings migrate --sqlite ...`")
	})
	t.Run("journal", func(t *testing.T) {
		db, _ := migratedSQLite(t, "?_pragma=synchronous(FULL)")
		require.EqualError(t, check(db), `journal_mode is "delete", in which readers make commits fail; open the database with _pragma=journal_mode(WAL)`)
	})
	t.Run("durability", func(t *testing.T) {
		db, _ := migratedSQLite(t, "?_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)")
		require.EqualError(t, check(db), "synchronous is 1 (below FULL): a power cut would lose effects whose events are acknowledged; "+
			"open the database with _pragma=synchronous(FULL), or set AcceptPowerLoss")
	})
	t.Run("wrong path", func(t *testing.T) {
		require.ErrorContains(t, check(openSQLite(t, filepath.Join(t.TempDir(), "missing", "a.db"), full)), "open the database: unable to open database file")
	})
}

func TestConfigNamesTheField(t *testing.T) {
	db := openSQLite(t, filepath.Join(t.TempDir(), "a.db"), "")
	for want, c := range map[string]sqlinbox.Config{
		"sqlinbox: DB is nil; give the handlers' database":                                                                                {},
		`sqlinbox: Dialect is ""; use sqlinbox.PostgreSQL or sqlinbox.SQLite`:                                                             {DB: db},
		`sqlinbox: Dialect is "mysql"; use sqlinbox.PostgreSQL or sqlinbox.SQLite`:                                                        {DB: db, Dialect: "mysql"},
		"sqlinbox: field Retention is -1s; use a positive duration, or 0 for 168h0m0s":                                                    {DB: db, Dialect: sqlinbox.SQLite, Retention: -time.Second},
		"sqlinbox: field PartitionEvery is -1s; use a positive duration, or 0 for a seventh of Retention":                                 {DB: db, Dialect: sqlinbox.SQLite, PartitionEvery: -time.Second},
		"sqlinbox: field PartitionEvery is 48h0m0s, more than a quarter of Retention 168h0m0s; use less, or 0 for a seventh of Retention": {DB: db, Dialect: sqlinbox.SQLite, PartitionEvery: 48 * time.Hour},
	} {
		_, err := sqlinbox.New(c)
		require.EqualError(t, err, want)
	}
}

func TestSQLiteACommitThatIsRefusedIsNotInDoubt(t *testing.T) {
	db, _ := migratedSQLite(t, full+"&_pragma=foreign_keys(1)")
	box, err := sqlinbox.New(sqlinbox.Config{DB: db, Dialect: sqlinbox.SQLite})
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), `CREATE TABLE account (id INTEGER PRIMARY KEY);
		CREATE TABLE charge (account INTEGER REFERENCES account (id) DEFERRABLE INITIALLY DEFERRED)`)
	require.NoError(t, err)
	a := inbox.Admission{Handler: inbox.Handler{Group: "g", Name: "h"}, EventID: uuid.Must(uuid.NewV7()), Place: inbox.Place{Key: []byte("k")}}
	for range 10 { // more than the pool has connections
		_, err = box.Apply(t.Context(), a, func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO charge VALUES (42)`)
			return err
		})
		require.ErrorContains(t, err, "commit: constraint failed: FOREIGN KEY constraint failed")
		require.NotErrorIs(t, err, inbox.ErrCommitUnknown)
		require.NotErrorIs(t, err, inbox.ErrNotAdmitted)
	}
	answer, err := box.Apply(t.Context(), a, func(context.Context, *sql.Tx) error { return nil })
	require.NoError(t, err)
	require.Equal(t, inbox.Fresh, answer)
}

func TestSQLiteKeepEndsByTheErrorThatTheSchemaIsTooNew(t *testing.T) {
	db, _ := migratedSQLite(t, fast)
	box, err := sqlinbox.New(sqlinbox.Config{DB: db, Dialect: sqlinbox.SQLite, Retention: time.Second})
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- box.Keep(t.Context()) }()
	require.Eventually(t, func() bool {
		return column[int64](t, db, `SELECT retention_ms FROM tidings_inbox_cover`)[0] == 1000
	}, 10*time.Second, 5*time.Millisecond)
	_, err = db.ExecContext(t.Context(), `UPDATE tidings_meta SET version = 9, oldest_binary = 4, oldest_release = '3.1.0'`)
	require.NoError(t, err)
	require.ErrorIs(t, <-done, schema.ErrTooNew)
}

func TestSQLiteKeepReturnsWhatFails(t *testing.T) {
	_, path := migratedSQLite(t, full)
	db := openSQLite(t, path, full+"&mode=ro")
	box, err := sqlinbox.New(sqlinbox.Config{DB: db, Dialect: sqlinbox.SQLite})
	require.NoError(t, err)
	require.ErrorContains(t, box.Keep(t.Context()), "record the inbox's retention: attempt to write a readonly database")
}

func TestSQLiteAnInboxThatNobodyKeepsHasItsRetentionToo(t *testing.T) {
	db, _ := migratedSQLite(t, fast)
	var boxes []*sqlinbox.Inbox
	for _, retention := range []time.Duration{time.Hour, 9 * time.Hour} {
		box, err := sqlinbox.New(sqlinbox.Config{DB: db, Dialect: sqlinbox.SQLite, Retention: retention})
		require.NoError(t, err)
		boxes = append(boxes, box)
	}
	require.Equal(t, boxes[0].ID(), boxes[1].ID(), "the router keeps one of them")
	require.NoError(t, boxes[1].Record(t.Context(), inbox.Admission{EventID: uuid.Must(uuid.NewV7())}))
	gone := inboxtest.IDOf(time.Now()) // for longer than the longest
	require.NoError(t, boxes[1].Record(t.Context(), inbox.Admission{EventID: gone}))
	_, err := db.ExecContext(t.Context(), `UPDATE tidings_inbox SET applied_at = applied_at - 3600000 * CASE event_id WHEN ? THEN 10 ELSE 8 END`, gone[:])
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- boxes[0].Keep(ctx) }()
	require.Eventually(t, func() bool {
		return len(column[[]byte](t, db, `SELECT 1 FROM tidings_inbox WHERE event_id = ?`, gone[:])) == 0
	}, 10*time.Second, 5*time.Millisecond)
	cancel()
	require.NoError(t, <-done)
	require.Len(t, column[[]byte](t, db, `SELECT event_id FROM tidings_inbox`), 1)
}

func TestSQLiteKeepOutlastsALockedFile(t *testing.T) {
	db, path := migratedSQLite(t, fast)
	box, err := sqlinbox.New(sqlinbox.Config{DB: db, Dialect: sqlinbox.SQLite, Retention: 100 * time.Millisecond})
	require.NoError(t, err)
	holder, err := openSQLite(t, path, fast+"&_txlock=immediate").BeginTx(t.Context(), nil)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- box.Keep(ctx) }()
	select {
	case err := <-done:
		t.Fatal("Keep ended: ", err)
	case <-time.After(100 * time.Millisecond): // of several rounds
	}
	require.NoError(t, holder.Rollback())
	require.Eventually(t, func() bool {
		return column[int64](t, db, `SELECT retention_ms FROM tidings_inbox_cover`)[0] == 100
	}, 10*time.Second, 5*time.Millisecond)
	cancel()
	require.NoError(t, <-done)
}
