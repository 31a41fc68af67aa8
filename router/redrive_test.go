package router_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/publisher"
	"github.com/tidings-bus/tidings/router"
	"github.com/tidings-bus/tidings/subscriber"
)

// mishap says what befalls one event in one handler, by chance that is the same
// in every run.
func mishap(handler, order string, sequence int64) uint32 {
	h := fnv.New32a()
	fmt.Fprint(h, handler, order, sequence)
	return h.Sum32() % 100
}

// prone is a handler of which some events fail for good until repaired is set, some
// at first, some panic at first, some are slow, some ask to wait.
func (p *path) prone(name string, repaired *atomic.Bool) handlers.Handler {
	return handlers.InTx(name, p.box, func(ctx context.Context, tx *sql.Tx, e event.Of[step]) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO effect (handler, order_id, sequence) VALUES (?, ?, ?)`, name, e.Aggregate().ID, e.Sequence())
		if err != nil {
			return err
		}
		switch chance, attempt := mishap(name, e.Aggregate().ID, e.Sequence()), handlers.Attempt(ctx); {
		case chance < 3 && !repaired.Load():
			return errors.New("poison")
		case chance < 10 && attempt == 1:
			return errors.New("transient")
		case chance < 12 && attempt <= 2:
			panic("transient")
		case chance < 14:
			time.Sleep(time.Millisecond)
		case chance == 14 && handlers.LastError(ctx) == nil:
			return handlers.RetryAfter(5 * time.Millisecond)
		case chance == 15 && !repaired.Load():
			return handlers.Reject(errors.New("rejected"))
		}
		return nil
	}).With(handlers.Settings{Tries: 3, MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond})
}

// advance publishes steps from to until for every order.
func (p *path) advance(ctx context.Context, from, until int) error {
	pub, err := publisher.New(publisher.Config{Connection: p.conn})
	if err != nil {
		return err
	}
	for n := from; n <= until; n++ {
		var batch []event.Event
		for o := range pathOrders {
			e, err := p.catalog.Event(ctx, event.Raised{
				Aggregate: event.Aggregate{Type: "order", ID: fmt.Sprintf("o-%d", o)}, Sequence: int64(n), Time: time.Now(), Payload: step{N: n},
			})
			if err != nil {
				return err
			}
			batch = append(batch, e)
		}
		if err := pub.Publish(ctx, batch...); err != nil {
			return err
		}
	}
	return pub.Close(ctx)
}

// requireInOrder fails unless every step up to last had its effect once, in order,
// in every handler.
func (p *path) requireInOrder(t *testing.T, names []string, last int64) {
	t.Helper()
	rows, err := p.db.QueryContext(t.Context(), `SELECT handler, order_id, sequence FROM effect ORDER BY n`)
	require.NoError(t, err)
	defer rows.Close()
	at := map[string]int64{}
	for rows.Next() {
		var handler, order string
		var sequence int64
		require.NoError(t, rows.Scan(&handler, &order, &sequence))
		require.Equal(t, at[handler+order]+1, sequence, "%s of %s: lost, doubled or out of order", handler, order)
		at[handler+order] = sequence
	}
	require.NoError(t, rows.Err())
	for _, name := range names {
		for o := range pathOrders {
			require.Equal(t, last, at[fmt.Sprintf("%so-%d", name, o)], "%s of o-%d", name, o)
		}
	}
}

// I3, I4, I5, I6 and I7 on the whole path: failing events are parked with what
// follows them, everything is acknowledged, the others go on; and when the parked
// keys are retried, while new events of theirs arrive, every event has had its
// effect once, in the order of its key.
func TestI6ParkedKeysAreRetriedInOrderWhileNewEventsArrive(t *testing.T) {
	p := newPath(t)
	var repaired atomic.Bool
	names := []string{"charge", "ship"}
	log := slog.New(slog.DiscardHandler)
	sub, err := subscriber.New(subscriber.Config{Connection: p.conn, Group: "billing", Logger: log})
	require.NoError(t, err)
	r, err := router.New(router.Config{
		Group: "billing", Catalog: p.catalog, Logger: log, Metrics: p.reg,
		DeadLetters: router.DeadLetters{Poll: 20 * time.Millisecond},
	})
	require.NoError(t, err)
	require.NoError(t, r.Subscribe(router.Subscription{Topic: "order", Subscriber: sub, Handlers: []handlers.Handler{
		p.prone(names[0], &repaired), p.prone(names[1], &repaired),
	}}))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()

	require.NoError(t, p.advance(t.Context(), 1, 10))
	all := func() (n int) {
		var parked int
		require.NoError(t, p.db.QueryRowContext(t.Context(), `SELECT (SELECT count(*) FROM effect), (SELECT count(*) FROM tidings_dead_letter)`).Scan(&n, &parked))
		return n + parked
	}
	require.Eventually(t, func() bool { return all() == 2*pathOrders*10 && p.lag(t) == 0 }, time.Minute, 10*time.Millisecond)
	store := p.box.Letters()
	sums, err := store.Count(t.Context(), deadletter.Filter{Group: "billing"})
	require.NoError(t, err)
	parked, applied := sums[0].Events, int64(p.effects(t))
	require.Greater(t, parked, int64(20))
	require.Greater(t, applied, int64(100))
	require.Empty(t, r.Held())

	// Not repaired: a retry stops at the first failure of each key, and changes nothing.
	asked, err := store.Ask(t.Context(), deadletter.Request{Group: "billing", Kind: deadletter.RequestRetry, Filter: deadletter.Filter{Group: "billing"}},
		deadletter.Act{Who: "tester", Reason: "in vain"})
	require.NoError(t, err)
	p.awaitRequest(t, store, asked.ID)
	require.EqualValues(t, applied, p.effects(t))

	repaired.Store(true)
	later := make(chan error, 1)
	go func() { later <- p.advance(t.Context(), 11, pathSteps) }()
	// A key stops at its first new failure, also a transient one: asked again until
	// nothing is left.
	for drained, published := false, false; !drained; {
		asked, err = store.Ask(t.Context(), deadletter.Request{Group: "billing", Kind: deadletter.RequestRetry, Filter: deadletter.Filter{Group: "billing"}},
			deadletter.Act{Who: "tester", Reason: "repaired"})
		if drained = errors.Is(err, deadletter.ErrNotFound); !drained && !errors.Is(err, deadletter.ErrBusy) {
			require.NoError(t, err)
			p.awaitRequest(t, store, asked.ID)
		}
		if drained && !published {
			drained = false // what is parked can grow yet
		}
		select {
		case err := <-later:
			require.NoError(t, err)
			published = true
		default:
		}
	}
	require.Eventually(t, func() bool { return p.effects(t) >= 2*pathEvents && p.lag(t) == 0 }, time.Minute, 10*time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
	require.NoError(t, sub.Close())
	require.Equal(t, 2*pathEvents, p.effects(t))
	p.requireInOrder(t, names, pathSteps)
	left, err := store.Count(t.Context(), deadletter.Filter{Group: "billing"})
	require.NoError(t, err)
	for _, c := range left {
		require.Zero(t, c.Events)
	}
}

// awaitRequest waits until the members have carried the request out.
func (p *path) awaitRequest(t *testing.T, store deadletter.Store, id int64) (q deadletter.Request) {
	t.Helper()
	require.Eventually(t, func() bool {
		var err error
		q, err = store.Request(t.Context(), id)
		require.NoError(t, err)
		return q.State != deadletter.Open
	}, time.Minute, 10*time.Millisecond)
	require.Equal(t, deadletter.Done, q.State)
	return q
}
