package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

var dlqList = measure{
	name: "dlq-list", unit: "s", goal: 1, less: true, by: alone,
	what:    "10,000 parked keys with 1,000,000 events: the slowest of counting them by each grouping and of listing all keys",
	prepare: prepareLetters,
}

const (
	parkedKeys      = 10_000
	lettersOfAKey   = 100
	parkedOf        = "change"
	lettersGroup    = "bench"
	lettersOfAll    = parkedKeys * lettersOfAKey
	lettersPageSize = 1000
)

// fillLetters is what a million calls of Park would leave.
var fillLetters = []string{
	`SET max_parallel_workers_per_gather = 0`, // a container's shared memory is small
	fmt.Sprintf(`INSERT INTO tidings.parked_key (handler_id, topic, keyless, key, raw_key, parked_at, letters, bytes, head, head_at, event_type, cause, error, attempts)
		SELECT h.id, 'orders', false, convert_to('order-' || k, 'UTF8'), convert_to('order-' || k, 'UTF8'), now(), %[2]d, 300 * %[2]d, 0,
			now() - k * interval '1 second', 'order.' || k %% 7, CASE WHEN k %% 3 = 0 THEN 'rejected' ELSE 'error' END, 'no such product', 5
		FROM generate_series(1, %[1]d) k, tidings.handler h`, parkedKeys, lettersOfAKey),
	`INSERT INTO tidings.key_row (handler_id, topic, key, parked) SELECT handler_id, topic, key, letters FROM tidings.parked_key`,
	fmt.Sprintf(`INSERT INTO tidings.dead_letter (parked_key_id, handler_id, event_id, event_type, partition, "offset", record_time, value, bytes, cause, parked_at)
		SELECT p.id, p.handler_id, gen_random_uuid(), p.event_type, 1, i, now(), convert_to(repeat('v', 300), 'UTF8'), 300, CASE WHEN i = 1 THEN p.cause ELSE 'behind' END, p.head_at
		FROM tidings.parked_key p, generate_series(1, %d) i ORDER BY p.id, i`, lettersOfAKey),
	`UPDATE tidings.parked_key p SET head = f.id FROM (SELECT parked_key_id, min(id) AS id FROM tidings.dead_letter GROUP BY 1) f WHERE p.id = f.parked_key_id`,
	`VACUUM (ANALYZE, PARALLEL 0) tidings.parked_key, tidings.dead_letter, tidings.handler, tidings.key_row`,
}

func prepareLetters(ctx context.Context, e *env) (sides, error) {
	db, err := e.fresh(ctx)
	if err != nil {
		return sides{}, err
	}
	if err := db.box.Register(ctx, inbox.Handler{Group: lettersGroup, Name: parkedOf}); err != nil {
		db.close()
		return sides{}, err
	}
	if err := db.park(ctx); err != nil {
		db.close()
		return sides{}, fmt.Errorf("park a million events: %w", err)
	}
	store := db.box.Letters()
	return sides{
		cleanup: db.close,
		ours: func(ctx context.Context, _ time.Duration) (float64, error) {
			var slowest time.Duration
			for _, grouping := range [][]deadletter.By{
				{}, {deadletter.ByCause}, {deadletter.ByType}, {deadletter.ByHandler}, {deadletter.ByTopic}, {deadletter.ByKey},
			} {
				begun := time.Now()
				if err := countLetters(ctx, store, grouping); err != nil {
					return 0, err
				}
				slowest = max(slowest, time.Since(begun))
			}
			begun := time.Now()
			if err := listKeys(ctx, store); err != nil {
				return 0, err
			}
			return max(slowest, time.Since(begun)).Seconds(), nil
		},
	}, nil
}

func (db *database) park(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, db.url)
	if err != nil {
		return err
	}
	for _, statement := range fillLetters {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return join(err, conn.Close(ctx))
		}
	}
	return conn.Close(ctx)
}

func countLetters(ctx context.Context, store deadletter.Store, grouping []deadletter.By) error {
	counts, err := store.Count(ctx, deadletter.Filter{Group: lettersGroup}, grouping...)
	if err != nil {
		return err
	}
	var keys, events int64
	for _, c := range counts {
		keys += c.Keys
		events += c.Events
	}
	if keys != parkedKeys || events != lettersOfAll {
		return fmt.Errorf("counted by %v, %d keys and %d events are parked, not %d and %d", grouping, keys, events, parkedKeys, lettersOfAll)
	}
	return nil
}

func listKeys(ctx context.Context, store deadletter.Store) error {
	var keys, events, after int64
	for {
		page, err := store.Keys(ctx, deadletter.Filter{Group: lettersGroup}, after, lettersPageSize)
		if err != nil {
			return err
		}
		for _, k := range page {
			keys, events, after = keys+1, events+k.Events, k.ID
		}
		if len(page) < lettersPageSize {
			break
		}
	}
	if keys != parkedKeys || events != lettersOfAll {
		return fmt.Errorf("%d keys with %d events are listed, not %d and %d", keys, events, parkedKeys, lettersOfAll)
	}
	return nil
}
