package pgxinbox_test

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/handlers/inbox/inboxtest"
	"github.com/tidings-bus/tidings/handlers/inbox/pgxinbox"
)

// keep runs Keep until the function it returns is called.
func keep(t *testing.T, box *pgxinbox.Inbox) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- box.Keep(ctx) }()
	return func() {
		cancel()
		require.NoError(t, <-done)
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	require.Eventually(t, is, 20*time.Second, 10*time.Millisecond, what)
}

var offsets atomic.Int64

func apply(t *testing.T, box *pgxinbox.Inbox, id uuid.UUID) inbox.Answer {
	t.Helper()
	a := admission("o-1")
	a.EventID, a.Place.Offset = id, offsets.Add(1)
	answer, err := box.Apply(t.Context(), a, func(context.Context, pgx.Tx) error { return nil })
	require.NoError(t, err)
	return answer
}

// tables returns which tables have the ID: partitions, or inbox_other.
func tables(t *testing.T, pool *pgxpool.Pool, id uuid.UUID) []string {
	t.Helper()
	return column[string](t, pool, `SELECT 'inbox' FROM tidings.inbox WHERE event_id = $1
		UNION ALL SELECT 'other' FROM tidings.inbox_other WHERE event_id = $1`, id)
}

func partitions(t testing.TB, pool *pgxpool.Pool) []string {
	t.Helper()
	return column[string](t, pool, `SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'tidings.inbox'::regclass ORDER BY 1`)
}

func TestIDsGoToTheirPartitionOrToTheTableForTheRest(t *testing.T) {
	_, pool := migrated(t)
	const retention = 8 * time.Hour
	box := newInbox(t, pgxinbox.Config{Pool: pool, Retention: retention, PartitionEvery: time.Hour})
	at := func(age time.Duration) uuid.UUID { return inboxtest.IDOf(time.Now().Add(-age)) }

	// Before any partition is made, nothing fails.
	early := at(0)
	require.Equal(t, inbox.Fresh, apply(t, box, early))
	require.Equal(t, []string{"other"}, tables(t, pool, early))

	stop := keep(t, box)
	// Half a retention back, and three widths ahead.
	eventually(t, "partitions", func() bool { return len(partitions(t, pool)) == 4+1+3 })
	stop()
	require.Equal(t, inbox.Duplicate, apply(t, box, early), "known in either table")

	for _, c := range []struct {
		name  string
		id    uuid.UUID
		table string
	}{
		{"now", at(0), "inbox"},
		{"younger than half of retention", at(retention/2 - time.Minute), "inbox"},
		{"older than half of retention", at(retention/2 + time.Minute), "other"},
		{"older than retention", at(2 * retention), "other"},
		{"soon", at(-time.Hour), "inbox"},
		{"from the future", at(-retention), "other"},
		{"not a UUIDv7", uuid.New(), "other"},
	} {
		require.Equal(t, inbox.Fresh, apply(t, box, c.id), c.name)
		require.Equal(t, []string{c.table}, tables(t, pool, c.id), c.name)
		require.Equal(t, inbox.Duplicate, apply(t, box, c.id), c.name)
	}
}

func TestNothingFailsWhenTimeRunsAheadOfThePartitions(t *testing.T) {
	_, pool := migrated(t)
	box := newInbox(t, pgxinbox.Config{Pool: pool, Retention: 8 * time.Hour, PartitionEvery: time.Hour})
	stop := keep(t, box)
	eventually(t, "partitions", func() bool { return len(partitions(t, pool)) == 8 })
	stop()

	for _, away := range []time.Duration{10 * time.Hour, 1000 * time.Hour} {
		// As if no member had run for so long: everything recorded is that much older.
		exec(t, pool, `TRUNCATE tidings.inbox_partition`)
		for _, p := range partitions(t, pool) {
			exec(t, pool, `DROP TABLE `+pgx.Identifier{"tidings", p}.Sanitize())
		}
		exec(t, pool, `UPDATE tidings.inbox_cover SET from_ms = from_ms - $1, until_ms = until_ms - $1`, away.Milliseconds())

		id := uuid.Must(uuid.NewV7())
		require.Equal(t, inbox.Fresh, apply(t, box, id))
		require.Equal(t, []string{"other"}, tables(t, pool, id))
		stop := keep(t, box)
		next := uuid.Must(uuid.NewV7())
		eventually(t, "partitions", func() bool { return len(partitions(t, pool)) >= 4 })
		stop()
		require.Equal(t, inbox.Duplicate, apply(t, box, id))
		require.Equal(t, inbox.Fresh, apply(t, box, next))
		require.Equal(t, []string{"inbox"}, tables(t, pool, next))
	}
}

func TestPartitionsPastRetentionAreDroppedWhileEventsAreApplied(t *testing.T) {
	dsn, pool := migrated(t)
	const retention, width = time.Second, 100 * time.Millisecond
	stops := make([]func(), 0, 4)
	for range 4 { // members, all at once
		stops = append(stops, keep(t, newInbox(t, pgxinbox.Config{Pool: openPool(t, dsn), Retention: retention, PartitionEvery: width})))
	}
	eventually(t, "partitions", func() bool { return len(partitions(t, pool)) > 0 })
	first := partitions(t, pool)[0]
	box := newInbox(t, pgxinbox.Config{Pool: pool, Retention: retention, PartitionEvery: width})
	ids := map[uuid.UUID]time.Time{}
	eventually(t, "the first partition is dropped", func() bool {
		for range 20 {
			id := uuid.Must(uuid.NewV7())
			require.Equal(t, inbox.Fresh, apply(t, box, id))
			ids[id] = time.Now()
		}
		for id, applied := range ids {
			if len(tables(t, pool, id)) == 0 {
				require.Greater(t, time.Since(applied), retention, "forgotten before its retention")
				delete(ids, id)
			}
		}
		return !slices.Contains(partitions(t, pool), first)
	})
	for _, stop := range stops {
		stop()
	}
	require.ElementsMatch(t, partitions(t, pool), column[string](t, pool, `SELECT name FROM tidings.inbox_partition`))
}

func TestADropGivesWayToAReader(t *testing.T) {
	_, pool := migrated(t)
	var warned atomic.Int64
	logger := slog.New(slog.NewTextHandler(writer(func(p []byte) { warned.Add(1) }), &slog.HandlerOptions{Level: slog.LevelWarn}))
	box := newInbox(t, pgxinbox.Config{Pool: pool, Retention: time.Second, PartitionEvery: 100 * time.Millisecond, Logger: logger})
	stop := keep(t, box)
	defer stop()
	eventually(t, "partitions", func() bool { return len(partitions(t, pool)) > 0 })

	reader, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, reader.Rollback(context.WithoutCancel(t.Context()))) }()
	_, err = reader.Exec(t.Context(), `SELECT count(*) FROM tidings.inbox`)
	require.NoError(t, err)
	held := partitions(t, pool)[0]
	eventually(t, "a drop that gives way, and admissions beside it", func() bool {
		require.Equal(t, inbox.Fresh, apply(t, box, uuid.Must(uuid.NewV7())))
		return warned.Load() > 2
	})
	require.Contains(t, partitions(t, pool), held)
	require.NoError(t, reader.Commit(t.Context()))
	eventually(t, "the drop", func() bool { return !slices.Contains(partitions(t, pool), held) })
	reader, err = pool.Begin(t.Context())
	require.NoError(t, err)
}

func TestTheTableForTheRestIsPrunedByTheTimeOfAdmission(t *testing.T) {
	_, pool := migrated(t)
	box := newInbox(t, pgxinbox.Config{Pool: pool, Retention: time.Hour})
	gone, stays := inboxtest.IDOf(time.Now().Add(-30*time.Hour)), inboxtest.IDOf(time.Now().Add(-40*time.Hour))
	require.Equal(t, inbox.Fresh, apply(t, box, gone))
	require.Equal(t, inbox.Fresh, apply(t, box, stays))
	exec(t, pool, `UPDATE tidings.inbox_other SET applied_at = applied_at - interval '61 minutes' WHERE event_id = $1`, gone)
	stop := keep(t, box)
	defer stop()
	eventually(t, "pruned", func() bool { return len(tables(t, pool, gone)) == 0 })
	require.Equal(t, []string{"other"}, tables(t, pool, stays))
}

func TestTheLongestRetentionOfAllMembersHolds(t *testing.T) {
	_, pool := migrated(t)
	var group errgroup.Group
	ctx, cancel := context.WithCancel(t.Context())
	for _, retention := range []time.Duration{time.Hour, 9 * time.Hour, 2 * time.Hour} {
		box := newInbox(t, pgxinbox.Config{Pool: pool, Retention: retention})
		group.Go(func() error { return box.Keep(ctx) })
	}
	eventually(t, "retention", func() bool {
		return column[int64](t, pool, `SELECT retention_ms FROM tidings.inbox_cover`)[0] == (9 * time.Hour).Milliseconds()
	})
	cancel()
	require.NoError(t, group.Wait())
	require.Equal(t, []int64{(9 * time.Hour).Milliseconds()}, column[int64](t, pool, `SELECT retention_ms FROM tidings.inbox_cover`))
}

type writer func(p []byte)

func (w writer) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}
