package inboxtest

import (
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/handlers/inbox"
)

// Letter is a parked event as the tables have it.
type Letter struct {
	ID       int64
	Group    string
	Handler  string
	Event    string
	Type     string
	Topic    string
	Offset   int64
	Key      []byte // of the record
	Value    []byte
	Headers  string
	Cause    string
	Error    string
	Stack    string
	Attempts int
	First    sql.NullInt64 // milliseconds since 1970, as all times here
	Last     sql.NullInt64
	Due      sql.NullInt64
	Bytes    int64
	parent   int64
}

// ParkedKey is a key with its letters, in order.
type ParkedKey struct {
	ID       int64
	Handler  string
	Topic    string
	Keyless  bool
	Raw      []byte
	Waiting  int64
	Bytes    int64
	Head     int64
	Type     string
	Cause    string
	Error    string
	Attempts int
	Due      sql.NullInt64
	InRow    int64 // what its key row says
	Letters  []Letter
}

const (
	postgresLetters = `SELECT d.id, h.grp, h.name, d.event_id::text, d.event_type, p.topic, d."offset", d.record_key, d.value, d.headers::text,
		d.cause, d.error, d.stack, d.attempts,
		(extract(epoch FROM d.first_failed) * 1000)::bigint, (extract(epoch FROM d.last_failed) * 1000)::bigint, (extract(epoch FROM d.due) * 1000)::bigint,
		d.bytes, d.parked_key_id
		FROM tidings.dead_letter d LEFT JOIN tidings.parked_key p ON p.id = d.parked_key_id LEFT JOIN tidings.handler h ON h.id = d.handler_id ORDER BY d.id`
	postgresKeys = `SELECT p.id, h.name, p.topic, p.keyless, p.raw_key, p.letters, p.bytes, p.head, p.event_type, p.cause, p.error, p.attempts,
		(extract(epoch FROM p.due) * 1000)::bigint, coalesce(r.parked, p.letters)
		FROM tidings.parked_key p LEFT JOIN tidings.handler h ON h.id = p.handler_id
		LEFT JOIN tidings.key_row r ON r.handler_id = p.handler_id AND r.topic = p.topic AND r.key = p.key ORDER BY p.id`
	postgresRows  = `SELECT coalesce(sum(parked), 0) FROM tidings.key_row`
	sqliteLetters = `SELECT d.id, h.grp, h.name, lower(substr(hex(d.event_id), 1, 8) || '-' || substr(hex(d.event_id), 9, 4) || '-' || substr(hex(d.event_id), 13, 4)
			|| '-' || substr(hex(d.event_id), 17, 4) || '-' || substr(hex(d.event_id), 21)), d.event_type, p.topic, d."offset", d.record_key, d.value, d.headers,
		d.cause, d.error, d.stack, d.attempts, d.first_failed, d.last_failed, d.due, d.bytes, d.parked_key_id
		FROM tidings_dead_letter d LEFT JOIN tidings_parked_key p ON p.id = d.parked_key_id LEFT JOIN tidings_handler h ON h.id = d.handler_id ORDER BY d.id`
	sqliteKeys = `SELECT p.id, h.name, p.topic, p.keyless, p.raw_key, p.letters, p.bytes, p.head, p.event_type, p.cause, p.error, p.attempts,
		p.due, coalesce(r.parked, p.letters)
		FROM tidings_parked_key p LEFT JOIN tidings_handler h ON h.id = p.handler_id
		LEFT JOIN tidings_key_row r ON r.handler_id = p.handler_id AND r.topic = p.topic AND r.key = p.key ORDER BY p.id`
	sqliteRows = `SELECT coalesce(sum(parked), 0) FROM tidings_key_row`
)

// What Database.Nth asks, of a key and how many letters are before it.
const (
	PostgresNth = `SELECT d.id, d.event_id FROM tidings.parked_key p JOIN tidings.dead_letter d ON d.parked_key_id = p.id WHERE p.key = $1 ORDER BY d.id LIMIT 1 OFFSET $2`
	SQLiteNth   = `SELECT d.id, d.event_id FROM tidings_parked_key p JOIN tidings_dead_letter d ON d.parked_key_id = p.id WHERE p.key = ? ORDER BY d.id LIMIT 1 OFFSET ?`
)

// PostgresLetters returns what is parked, and demands that keys, letters and key
// rows agree.
func PostgresLetters(t *testing.T, db *sql.DB) []ParkedKey {
	t.Helper()
	return readLetters(t, db, postgresLetters, postgresKeys, postgresRows)
}

// SQLiteLetters does so in SQLite.
func SQLiteLetters(t *testing.T, db *sql.DB) []ParkedKey {
	t.Helper()
	return readLetters(t, db, sqliteLetters, sqliteKeys, sqliteRows)
}

func readLetters(t *testing.T, db *sql.DB, lettersQuery, keysQuery, rowsQuery string) (keys []ParkedKey) {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelSerializable, ReadOnly: true})
	require.NoError(t, err)
	defer tx.Rollback() //nolint:errcheck // it only read
	of := map[int64]int{}
	var inRows, want int64
	require.NoError(t, tx.QueryRowContext(t.Context(), rowsQuery).Scan(&inRows))
	each(t, tx, keysQuery, func(rows *sql.Rows) error {
		var k ParkedKey
		err := rows.Scan(&k.ID, &k.Handler, &k.Topic, &k.Keyless, &k.Raw, &k.Waiting, &k.Bytes, &k.Head, &k.Type, &k.Cause, &k.Error, &k.Attempts, &k.Due, &k.InRow)
		of[k.ID] = len(keys)
		keys = append(keys, k)
		return err
	})
	each(t, tx, lettersQuery, func(rows *sql.Rows) error {
		var l Letter
		if err := rows.Scan(&l.ID, &l.Group, &l.Handler, &l.Event, &l.Type, &l.Topic, &l.Offset, &l.Key, &l.Value, &l.Headers,
			&l.Cause, &l.Error, &l.Stack, &l.Attempts, &l.First, &l.Last, &l.Due, &l.Bytes, &l.parent); err != nil {
			return err
		}
		require.Contains(t, of, l.parent, "letter %d has no key", l.ID)
		k := &keys[of[l.parent]]
		k.Letters = append(k.Letters, l)
		return nil
	})
	for _, k := range keys {
		require.NotEmpty(t, k.Letters, "key %d has no letters", k.ID)
		head := k.Letters[0]
		var bytes int64
		for _, l := range k.Letters {
			bytes += l.Bytes
		}
		require.Equal(t, int64(len(k.Letters)), k.Waiting)
		require.Equal(t, k.Waiting, k.InRow, "key row")
		require.Equal(t, bytes, k.Bytes)
		require.Equal(t, []any{head.ID, head.Type, head.Cause, head.Error, head.Attempts},
			[]any{k.Head, k.Type, k.Cause, k.Error, k.Attempts}, "what the key says of its head")
		if head.Cause != string(inbox.CauseBehind) {
			require.Equal(t, head.Due, k.Due)
		}
		if k.Keyless {
			require.Len(t, k.Letters, 1)
		} else {
			want += k.Waiting
		}
	}
	require.Equal(t, want, inRows, "parked, by all key rows")
	return keys
}

func each(t *testing.T, tx *sql.Tx, query string, row func(rows *sql.Rows) error) {
	t.Helper()
	rows, err := tx.QueryContext(t.Context(), query)
	require.NoError(t, err)
	defer rows.Close() //nolint:errcheck // read to its end
	for rows.Next() {
		require.NoError(t, row(rows))
	}
	require.NoError(t, rows.Err())
}
