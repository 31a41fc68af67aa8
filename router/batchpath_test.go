package router_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/router"
	"github.com/tidings-bus/tidings/subscriber"
)

// bulk writes what it applied; one event in twenty makes its first tries fail,
// after all of them were written, and one order's every third step fails for good.
func (p *path) bulk(largest *int) handlers.Handler {
	return handlers.Batch("bulk", p.box, func(ctx context.Context, tx *sql.Tx, es []event.Of[step]) error {
		var failed error
		for _, e := range es {
			_, err := tx.ExecContext(ctx, `INSERT INTO effect (handler, order_id, sequence) VALUES ('bulk', ?, ?)`, e.Aggregate().ID, e.Sequence())
			if err != nil {
				return err
			}
			h := fnv.New32a()
			fmt.Fprint(h, e.Aggregate().ID, e.Sequence())
			if h.Sum32()%20 == 0 && handlers.Attempt(ctx) == 1 {
				failed = errors.New("failed on purpose")
			}
			if poisoned(e.Aggregate().ID, e.Sequence()) {
				failed = errors.New("fails for good")
			}
		}
		if failed == nil {
			*largest = max(*largest, len(es))
		}
		return failed
	}).With(handlers.Settings{Tries: 3, MinBackoff: 2 * time.Millisecond, MaxBackoff: 10 * time.Millisecond}).Of(handlers.BatchSettings{Max: 64})
}

func poisoned(order string, sequence int64) bool { return order == "o-7" && sequence == 9 }

// I3, I4, I5 and I6 with batches on the whole path: events published twice, some
// failing at first, one for good, a restart in the middle. Every event is
// counted: once, in order, or among the dead letters of its key.
func TestI4EveryEventOfABatchHasItsEffectOnceAndInOrder(t *testing.T) {
	p := newPath(t)
	p.publish(t)
	largest := 0
	run := func(done func() bool) {
		log := slog.New(slog.DiscardHandler)
		sub, err := subscriber.New(subscriber.Config{Connection: p.conn, Group: "billing", Logger: log})
		require.NoError(t, err)
		r, err := router.New(router.Config{Group: "billing", Catalog: p.catalog, Logger: log, Metrics: p.reg})
		require.NoError(t, err)
		require.NoError(t, r.Subscribe(router.Subscription{Topic: "order", Subscriber: sub, Handlers: []handlers.Handler{p.bulk(&largest)}}))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		require.Eventually(t, done, time.Minute, 2*time.Millisecond)
		cancel()
		require.NoError(t, <-ended)
		require.NoError(t, sub.Close())
	}
	run(func() bool { return p.effects(t) >= pathEvents/4 })
	const behind = pathSteps - 9 + 1 // of the poisoned order
	run(func() bool { return p.effects(t) >= pathEvents-behind && p.lag(t) == 0 })
	require.Greater(t, largest, 5, "batches were gathered")

	rows, err := p.db.QueryContext(t.Context(), `SELECT order_id, sequence FROM effect ORDER BY n`)
	require.NoError(t, err)
	defer rows.Close()
	last, total := map[string]int64{}, 0
	for rows.Next() {
		var order string
		var sequence int64
		require.NoError(t, rows.Scan(&order, &sequence))
		require.Equal(t, last[order]+1, sequence, "%s: lost, doubled or out of order", order)
		last[order] = sequence
		total++
	}
	require.NoError(t, rows.Err())
	require.NoError(t, rows.Close())
	require.Equal(t, pathEvents-behind, total)
	require.Equal(t, int64(8), last["o-7"])

	parked, err := p.db.QueryContext(t.Context(), `SELECT sequence, cause FROM tidings_dead_letter ORDER BY id`)
	require.NoError(t, err)
	defer parked.Close()
	for want := int64(9); want <= pathSteps; want++ {
		var sequence int64
		var cause string
		require.True(t, parked.Next(), "event %d of the parked order is neither applied nor parked", want)
		require.NoError(t, parked.Scan(&sequence, &cause))
		require.Equal(t, want, sequence)
		require.Equal(t, want == 9, cause == "error", cause)
	}
	require.False(t, parked.Next())
	require.NoError(t, parked.Err())
}
