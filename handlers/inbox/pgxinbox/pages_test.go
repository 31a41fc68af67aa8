package pgxinbox_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/handlers/inbox/internal/postgres"
	"github.com/tidings-bus/tidings/handlers/inbox/pgxinbox"
	"github.com/tidings-bus/tidings/internal/testenv"
)

// TestParkedKeysCostOthersNoPages is I6 in pages: with ten thousand keys parked,
// the admission of another key reads no more of them than with none.
func TestParkedKeysCostOthersNoPages(t *testing.T) {
	const keys = 10_000
	perKey := 10
	if testenv.Long() {
		perKey = 100
	}
	_, pool := migrated(t)
	box := newInbox(t, pgxinbox.Config{Pool: pool})
	stop := keep(t, box)
	eventually(t, "partitions", func() bool { return len(partitions(t, pool)) > 0 })
	stop()
	for range 3 {
		a := pageAdmission("o-5000-free")
		_, err := box.Apply(t.Context(), a, func(context.Context, pgx.Tx) error { return nil })
		require.NoError(t, err)
	}
	handler := column[int32](t, pool, `SELECT id FROM tidings.handler`)[0]
	exec(t, pool, `INSERT INTO tidings.key_row (handler_id, topic, key) SELECT $1, 'order', ('o-' || n)::bytea FROM generate_series(1, $2) n`, handler, keys)
	before := admissionPages(t, pool, handler)

	exec(t, pool, `UPDATE tidings.key_row SET parked = $1 WHERE key <> 'o-5000-free'`, perKey)
	exec(t, pool, `INSERT INTO tidings.parked_key (handler_id, topic, key, keyless, raw_key, letters, bytes, head, head_at, event_type, cause, error, attempts)
		SELECT handler_id, topic, key, false, key, $1::bigint, 300 * $1::bigint, row_number() OVER (ORDER BY key), now(), 'order.placed', 'error', 'card declined', 5
		FROM tidings.key_row WHERE parked > 0`, perKey)
	exec(t, pool, `INSERT INTO tidings.dead_letter (parked_key_id, handler_id, event_id, event_type, partition, "offset", record_time, record_key, value, bytes, cause)
		SELECT p.id, p.handler_id, gen_random_uuid(), 'order.placed', 0, n, now(), p.key, repeat('x', 200)::bytea, 300, CASE n WHEN 1 THEN 'error' ELSE 'behind' END
		FROM generate_series(1, $1::integer) n CROSS JOIN tidings.parked_key p`, perKey)
	require.Equal(t, int64(keys*perKey), column[int64](t, pool, `SELECT count(*) FROM tidings.dead_letter`)[0])
	after := admissionPages(t, pool, handler)

	t.Logf("%d keys with %d events parked: %v pages, and %v with none", keys, keys*perKey, after, before)
	for what, pages := range after {
		require.LessOrEqual(t, pages, before[what], what)
	}
	// The same statements find what is parked.
	parked := pageAdmission("o-1")
	answer, err := box.Apply(t.Context(), parked, func(context.Context, pgx.Tx) error { t.Error("it ran"); return nil })
	require.NoError(t, err)
	require.Equal(t, inbox.Parked, answer)
}

func pageAdmission(key string) inbox.Admission {
	a := admission(key)
	a.EventID, a.Source, a.AggregateType, a.AggregateID, a.Sequence = uuid.Must(uuid.NewV7()), "/orders", "order", key, time.Now().UnixNano()
	a.Place.Offset = offsets.Add(1)
	return a
}

// admissionPages returns how many pages the statements of an admission touch,
// for a key that was here before.
func admissionPages(t *testing.T, pool *pgxpool.Pool, handler int32) map[string]int {
	t.Helper()
	exec(t, pool, `VACUUM (ANALYZE, PARALLEL 0) tidings.key_row, tidings.parked_key, tidings.dead_letter, tidings.inbox, tidings.inbox_cover`)
	least := map[string]int{}
	for range 5 { // what is read once, such as hint bits and catalogs, is not counted
		a := pageAdmission("o-5000-free")
		tx, err := pool.Begin(t.Context())
		require.NoError(t, err)
		lock, args := postgres.LockArgs(handler, &a)
		for what, pages := range map[string]int{
			"lock":  explainedPages(t, tx, lock, args...),
			"admit": explainedPages(t, tx, postgres.Admit, postgres.AdmitArgs(handler, &a, postgres.Apply)...),
		} {
			if least[what] == 0 || pages < least[what] {
				least[what] = pages
			}
		}
		require.NoError(t, tx.Rollback(t.Context()))
	}
	return least
}

func explainedPages(t *testing.T, tx pgx.Tx, query string, args ...any) int {
	t.Helper()
	var text []byte
	require.NoError(t, tx.QueryRow(t.Context(), `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) `+query, args...).Scan(&text))
	var plans []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		} `json:"Plan"`
	}
	require.NoError(t, json.Unmarshal(text, &plans))
	pages := plans[0].Plan.Hit + plans[0].Plan.Read
	require.Positive(t, pages)
	return pages
}
