package sqlstore_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/deadletter/sqlstore"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/handlers/inbox/sqlinbox"
	"github.com/tidings-bus/tidings/internal/testenv"
)

// fill parks keys of the handler charge, with so many letters each, by SQL.
func (d *database) fill(t *testing.T, keys, letters int) {
	t.Helper()
	statements := []string{
		fmt.Sprintf(`INSERT INTO tidings.parked_key (handler_id, topic, keyless, key, raw_key, parked_at, letters, bytes, head, head_at, event_type, cause, error, attempts)
			SELECT 1, 'orders', false, convert_to('k-' || k, 'UTF8'), convert_to('k-' || k, 'UTF8'), now(), %[2]d, 10 * %[2]d, 0, now(), 'order.placed', 'error', 'no', 5
			FROM generate_series(1, %[1]d) k`, keys, letters),
		`INSERT INTO tidings.key_row (handler_id, topic, key, parked) SELECT handler_id, topic, key, letters FROM tidings.parked_key`,
		fmt.Sprintf(`INSERT INTO tidings.dead_letter (parked_key_id, handler_id, event_id, partition, "offset", record_time, value, bytes, cause, parked_at)
			SELECT p.id, 1, gen_random_uuid(), 1, i, now(), 'value', 10, CASE WHEN i = 1 THEN 'error' ELSE 'behind' END, p.head_at
			FROM tidings.parked_key p, generate_series(1, %d) i ORDER BY p.id, i`, letters),
		`UPDATE tidings.parked_key p SET head = f.id FROM (SELECT parked_key_id, min(id) AS id FROM tidings.dead_letter GROUP BY 1) f WHERE p.id = f.parked_key_id`,
		`VACUUM ANALYZE tidings.parked_key, tidings.dead_letter, tidings.handler, tidings.key_row`,
	}
	if d.dialect == sqlinbox.SQLite {
		statements = []string{
			fmt.Sprintf(`WITH RECURSIVE s(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM s WHERE k < %[1]d)
				INSERT INTO tidings_parked_key (handler_id, topic, keyless, key, raw_key, parked_at, letters, bytes, head, head_at, event_type, cause, error, attempts)
				SELECT 1, 'orders', 0, CAST('k-' || k AS BLOB), CAST('k-' || k AS BLOB), 1, %[2]d, 10 * %[2]d, 0, 1, 'order.placed', 'error', 'no', 5 FROM s`, keys, letters),
			`INSERT INTO tidings_key_row (handler_id, topic, key, parked, created_at) SELECT handler_id, topic, key, letters, 1 FROM tidings_parked_key`,
			fmt.Sprintf(`WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < %d)
				INSERT INTO tidings_dead_letter (parked_key_id, handler_id, event_id, partition, "offset", record_time, value, bytes, cause, parked_at)
				SELECT p.id, 1, randomblob(16), 1, i, 1, 'value', 10, CASE WHEN i = 1 THEN 'error' ELSE 'behind' END, p.head_at
				FROM tidings_parked_key p, s ORDER BY p.id, i`, letters),
			`UPDATE tidings_parked_key SET head = (SELECT min(id) FROM tidings_dead_letter WHERE parked_key_id = tidings_parked_key.id)`,
			`ANALYZE`,
		}
	}
	for _, statement := range statements {
		_, err := d.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
}

// known makes the handlers known, and leaves nothing.
func (d *database) known(t *testing.T) *sqlstore.Store {
	t.Helper()
	store, box := d.store(), d.box(t)
	for _, h := range []inbox.Handler{charge, remind} {
		require.NoError(t, box.Record(t.Context(), read(h, uuid.New(), "o-1", 1, 0)))
	}
	return store
}

// Listing and counting cost a page for each parked key at most, and none for
// letters. In full size: 10,000 keys with 1,000,000 letters within a second.
func TestListingReadsNoLetters(t *testing.T) {
	keys, letters := 500, 20
	if testenv.Long() {
		keys, letters = 10_000, 100
	}
	each(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		store := d.known(t)
		d.fill(t, keys, letters)
		list := func() {
			var n, events int64
			for after := int64(0); ; {
				page, err := store.Keys(ctx, deadletter.Filter{Group: "billing"}, after, 1000)
				require.NoError(t, err)
				if len(page) == 0 {
					break
				}
				for _, k := range page {
					n, events, after = n+1, events+k.Events, k.ID
				}
			}
			require.Equal(t, int64(keys), n)
			require.Equal(t, int64(keys*letters), events)
		}
		counts := func() {
			for _, by := range []deadletter.By{deadletter.ByCause, deadletter.ByType, deadletter.ByHandler, deadletter.ByTopic, deadletter.ByKey} {
				got, err := store.Count(ctx, deadletter.Filter{Group: "billing"}, by)
				require.NoError(t, err)
				var events int64
				for _, c := range got {
					events += c.Events
				}
				require.Equal(t, int64(keys*letters), events)
			}
			handlers, err := store.Handlers(ctx, "billing")
			require.NoError(t, err)
			require.Equal(t, []inbox.Handler{charge}, handlers)
		}
		away := `ALTER TABLE tidings.dead_letter RENAME TO away` // it is not even asked for
		if d.dialect == sqlinbox.SQLite {
			away = `ALTER TABLE tidings_dead_letter RENAME TO away`
		}
		_, err := d.ExecContext(ctx, away)
		require.NoError(t, err)
		for name, do := range map[string]func(){"list": list, "count": counts} {
			began := time.Now()
			do()
			took := time.Since(began)
			t.Logf("%s of %d keys with %d letters: %v", name, keys, keys*letters, took)
			if testenv.Long() {
				require.Less(t, took, time.Second, name)
			}
		}
	})
}

// A request of many keys is selected in steps, taken back, and carried out;
// many keys are handed over.
func TestManyKeysAreSelectedAndMovedInSteps(t *testing.T) {
	each(t, func(t *testing.T, d *database) {
		const keys = 1100
		ctx := t.Context()
		store := d.known(t)
		d.fill(t, keys, 2)
		retry := deadletter.Request{Group: "billing", Kind: deadletter.RequestRetry}
		r, err := store.Ask(ctx, retry, ann)
		require.NoError(t, err)
		require.Equal(t, int64(keys), r.Keys)
		claimed, err := store.Claim(ctx, "billing", []string{"charge"}, "m", time.Minute, 10)
		require.NoError(t, err)
		require.Len(t, claimed, 10)
		require.Equal(t, "k-1", string(claimed[0].Key))
		_, err = store.Reassign(ctx, charge, remind, ann)
		require.ErrorIs(t, err, deadletter.ErrBusy)
		require.NoError(t, store.End(ctx, r.ID, ann))
		for _, k := range claimed {
			require.NoError(t, store.Release(ctx, "m", k, true, deadletter.Progress{}))
		}
		r, err = store.Ask(ctx, deadletter.Request{Group: "billing", Kind: deadletter.RequestRetry, Filter: deadletter.Filter{Keys: [][]byte{[]byte("k-7")}}}, ann)
		require.NoError(t, err)
		require.Equal(t, int64(1), r.Keys)
		require.NoError(t, store.End(ctx, r.ID, ann))

		n, err := store.Reassign(ctx, charge, remind, ann)
		require.NoError(t, err)
		require.Equal(t, int64(2*keys), n)
		got, err := store.Count(ctx, deadletter.Filter{}, deadletter.ByHandler)
		require.NoError(t, err)
		require.Len(t, got, 1)
		require.Equal(t, "remind", got[0].Group[deadletter.ByHandler])
		require.Equal(t, int64(2*keys), got[0].Events)
		for i := 1; i <= keys; i += 300 {
			page, err := store.Keys(ctx, deadletter.Filter{Keys: [][]byte{[]byte("k-" + strconv.Itoa(i))}}, 0, 2)
			require.NoError(t, err)
			require.Len(t, page, 1)
			letters, err := store.Letters(ctx, page[0].ID, 0, 10)
			require.NoError(t, err)
			require.Len(t, letters, 2)
			require.Equal(t, []int64{1, 2}, []int64{letters[0].Place.Offset, letters[1].Place.Offset}, "in order")
		}
	})
}
