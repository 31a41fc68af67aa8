package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

var inboxEffect = measure{
	name: "inbox-effect", unit: perSecond, goal: 0.7,
	what:    "InTx handlers that update one row, on 16 connections, without Kafka; peer: the same transaction, bare",
	prepare: prepareEffect,
}

var inboxBatch = measure{
	name: "inbox-batch", unit: perSecond, goal: 10,
	what:    "a Batch handler with 500 events at a time, four batches side by side, without Kafka; peer: an InTx handler, one by one, on 16 connections",
	prepare: prepareBatches,
}

const (
	batchLength = 500
	// batchesAtOnce is how many batches of a partition the subscriber runs at once.
	batchesAtOnce = 4
)

// prepareEffect compares what the inbox costs where it is: in the database. Each
// goroutine has keys of its own, as lanes do.
func prepareEffect(ctx context.Context, e *env) (sides, error) {
	db, err := e.fresh(ctx)
	if err != nil {
		return sides{}, err
	}
	one, err := db.bindOne(ctx)
	if err != nil {
		db.close()
		return sides{}, err
	}
	calls := newCalls(conns)
	return sides{
		cleanup: db.close,
		ours: db.counted(func(ctx context.Context, d time.Duration) (float64, error) {
			return lanesRate(d, conns, func(lane int) (int, error) { return 1, handleOne(ctx, one, calls.next(lane)) })
		}),
		peer: db.counted(func(ctx context.Context, d time.Duration) (float64, error) {
			return lanesRate(d, conns, func(lane int) (int, error) {
				return 1, pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error { return changeRow(ctx, tx, calls.key(lane)) })
			})
		}),
	}, nil
}

func prepareBatches(ctx context.Context, e *env) (sides, error) {
	db, err := e.fresh(ctx)
	if err != nil {
		return sides{}, err
	}
	one, err := db.bindOne(ctx)
	if err != nil {
		db.close()
		return sides{}, err
	}
	many, err := db.bindMany(ctx)
	if err != nil {
		db.close()
		return sides{}, err
	}
	singles, batches := newCalls(conns), newCalls(batchesAtOnce)
	return sides{
		cleanup: db.close,
		ours: db.counted(func(ctx context.Context, d time.Duration) (float64, error) {
			return lanesRate(d, batchesAtOnce, func(lane int) (int, error) {
				cs := make([]handlers.Call, batchLength)
				for i := range cs {
					cs[i] = batches.next(lane)
				}
				answers, err := many.HandleBatch(ctx, cs)
				for _, a := range answers {
					if a != inbox.Fresh {
						return 0, fmt.Errorf("an event was answered by %v", a)
					}
				}
				return batchLength, err
			})
		}),
		peer: db.counted(func(ctx context.Context, d time.Duration) (float64, error) {
			return lanesRate(d, conns, func(lane int) (int, error) { return 1, handleOne(ctx, one, singles.next(lane)) })
		}),
	}, nil
}

// counted fails a side that says that nothing was done, or whose effects are not
// in the database.
func (db *database) counted(side func(context.Context, time.Duration) (float64, error)) func(context.Context, time.Duration) (float64, error) {
	return func(ctx context.Context, d time.Duration) (float64, error) {
		before, err := db.changes(ctx)
		if err != nil {
			return 0, err
		}
		rate, err := side(ctx, d)
		if err != nil {
			return 0, err
		}
		after, err := db.changes(ctx)
		if err == nil && float64(after-before) < rate*d.Seconds()*0.9 {
			err = fmt.Errorf("%d effects are in the database after %.0f/s for %v", after-before, rate, d)
		}
		return rate, err
	}
}

func (db *database) bindOne(ctx context.Context) (handlers.Bound, error) {
	catalog, err := newCatalog()
	if err != nil {
		return nil, err
	}
	return handlers.InTx("change", db.box, func(ctx context.Context, tx pgx.Tx, e event.Of[placed]) error {
		return changeRow(ctx, tx, e.Aggregate().ID)
	}).Bind(ctx, handlers.Binding{Group: "bench", Catalog: catalog})
}

func (db *database) bindMany(ctx context.Context) (handlers.BatchBound, error) {
	catalog, err := newCatalog()
	if err != nil {
		return nil, err
	}
	bound, err := handlers.Batch("changes", db.box, func(ctx context.Context, tx pgx.Tx, es []event.Of[placed]) error {
		keys := make([]string, len(es))
		for i, e := range es {
			keys[i] = e.Aggregate().ID
		}
		// A batch may have several events of a key. Handlers of other batches have
		// other keys, so that no order of locks is needed.
		_, err := tx.Exec(ctx, `UPDATE account a SET changes = changes + c.n
			FROM (SELECT id, count(*) AS n FROM unnest($1::text[]) AS id GROUP BY id) c WHERE a.id = c.id`, keys)
		return err
	}).Of(handlers.BatchSettings{Max: batchLength}).Bind(ctx, handlers.Binding{Group: "bench-batches", Catalog: catalog})
	if err != nil {
		return nil, err
	}
	many, ok := bound.(handlers.BatchBound)
	if !ok {
		return nil, fmt.Errorf("a Batch handler is bound as %T", bound)
	}
	return many, nil
}

func handleOne(ctx context.Context, h handlers.Bound, c handlers.Call) error {
	answer, err := h.Handle(ctx, c)
	if err == nil && answer != inbox.Fresh {
		err = fmt.Errorf("an event was answered by %v", answer)
	}
	return err
}

// calls makes the events of lanes, as the router hands them over: each lane has
// its part of the keys, and goes round them.
type calls struct {
	lanes  int
	places []int // per lane: how many calls were made
}

func newCalls(lanes int) *calls { return &calls{lanes: lanes, places: make([]int, lanes)} }

// key is the one that the next call of the lane has; it goes on to the next key.
func (c *calls) key(lane int) string {
	n := c.places[lane]
	c.places[lane]++
	return "order-" + strconv.Itoa(n%(accounts/c.lanes)*c.lanes+lane)
}

func (c *calls) next(lane int) handlers.Call {
	n := c.places[lane]
	k := c.key(lane)
	ev, err := event.New(event.Draft{
		ID: uuid.Must(uuid.NewV7()), Type: eventType, Source: "/bench",
		Aggregate: event.Aggregate{Type: "order", ID: k}, Sequence: int64(n/(accounts/c.lanes) + 1), Data: payload,
	})
	if err != nil {
		panic(err) // the draft is the same each time, but for its numbers
	}
	return handlers.Call{
		Event: ev, Payload: placed{Number: n}, Attempt: 1,
		Place:   inbox.Place{Topic: "orders", Partition: int32(lane), Offset: int64(n), Key: []byte(k)}, //nolint:gosec // lanes are few
		Message: inbox.Message{Record: event.ToKafka(ev), Time: time.Now()},
	}
}

// lanesRate counts what lanes get done in d, one call after another in each.
func lanesRate(d time.Duration, lanes int, do func(lane int) (int, error)) (float64, error) {
	var (
		done atomic.Int64
		wg   sync.WaitGroup
	)
	failed := make(chan error, lanes)
	start := time.Now()
	for lane := range lanes {
		wg.Go(func() {
			for time.Since(start) < d {
				n, err := do(lane)
				if err != nil {
					failed <- err
					return
				}
				done.Add(int64(n))
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	close(failed)
	for err := range failed {
		return 0, err
	}
	return float64(done.Load()) / took.Seconds(), nil
}
