package handlers_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/handlers/inbox/pgxinbox"
)

func ExampleBatch() {
	var box *pgxinbox.Inbox // from pgxinbox.New, over the service's own pool
	stats := handlers.Batch("stats", box, func(ctx context.Context, tx pgx.Tx, es []event.Of[OrderPlaced]) error {
		orders, totals := make([]string, len(es)), make([]int, len(es))
		for i, e := range es {
			orders[i], totals[i] = e.Aggregate().ID, e.Payload.Total
		}
		_, err := tx.Exec(ctx, `INSERT INTO turnover (order_id, total) SELECT o, t FROM unnest($1::text[], $2::int[]) AS x(o, t)`, orders, totals)
		return err // rolls back all, and the batch is split
	}).Of(handlers.BatchSettings{Max: 1000})
	fmt.Println(stats.Name())
	// Output: stats
}

// bulk is bound to what pays for all events.
func bulk(t *testing.T, box inbox.BatchInbox[*sql.Tx], do func(ctx context.Context, es []event.Of[orderPaid]) error) handlers.BatchBound {
	t.Helper()
	b, ok := bind(t, handlers.Batch("bulk", box, func(ctx context.Context, tx *sql.Tx, es []event.Of[orderPaid]) error {
		for _, e := range es {
			if err := pay(ctx, tx, e); err != nil {
				return err
			}
		}
		return do(ctx, es)
	}).With(handlers.Settings{Timeout: time.Minute})).(handlers.BatchBound)
	require.True(t, ok)
	return b
}

func TestI4EffectsOfABatchOnceInOneTransaction(t *testing.T) {
	db, box := database(t)
	fail := errors.New("card declined")
	var got [][]int64
	b := bulk(t, box, func(_ context.Context, es []event.Of[orderPaid]) error {
		var sequences []int64
		for _, e := range es {
			sequences = append(sequences, e.Sequence())
		}
		got = append(got, sequences)
		return fail
	})
	require.Equal(t, handlers.BatchSettings{Max: handlers.DefaultBatch, MaxBytes: handlers.DefaultBatchBytes}, b.Batch())
	cs := []handlers.Call{call(t, 1), call(t, 2), call(t, 3), call(t, 3)}
	_, err := b.HandleBatch(t.Context(), cs)
	require.ErrorIs(t, err, fail)
	require.Zero(t, payments(t, db))
	fail = nil
	answer, err := b.Handle(t.Context(), cs[0])
	require.NoError(t, err)
	require.Equal(t, inbox.Fresh, answer)
	answers, err := b.HandleBatch(t.Context(), cs)
	require.NoError(t, err)
	require.Equal(t, []inbox.Answer{inbox.Duplicate, inbox.Fresh, inbox.Fresh, inbox.Late}, answers)
	require.Equal(t, [][]int64{{1, 2, 3}, {1}, {2, 3}}, got, "it is given what is fresh, in order")
	require.Equal(t, 3, payments(t, db))
	_, err = b.HandleBatch(t.Context(), nil)
	require.Error(t, err)
}

func TestABatchHasATimeoutAndNoCause(t *testing.T) {
	_, box := database(t)
	begun := &beginning{}
	b := bulk(t, box, func(ctx context.Context, _ []event.Of[orderPaid]) error {
		require.Equal(t, 1, begun.times)
		require.Equal(t, 1, handlers.Attempt(ctx))
		_, ok := event.CauseFrom(ctx)
		require.False(t, ok, "no event of the batch is the cause of all that is written")
		deadline, ok := ctx.Deadline()
		require.True(t, ok)
		require.InDelta(t, 60, time.Until(deadline).Seconds(), 30)
		return nil
	})
	cs := []handlers.Call{call(t, 1), call(t, 2)}
	cs[0].Begun = begun
	_, err := b.HandleBatch(t.Context(), cs)
	require.NoError(t, err)
}

type beginning struct{ times int }

func (b *beginning) Begin() { b.times++ }

func TestMistakesInABatchHandlerAreReportedByBind(t *testing.T) {
	_, box := database(t)
	fn := func(context.Context, *sql.Tx, []event.Of[orderPaid]) error { return nil }
	for _, c := range []struct {
		h    handlers.Handler
		want string
	}{
		{handlers.Batch[*sql.Tx, orderPaid]("bulk", nil, fn), `bind handler "bulk": Batch got no inbox; make one with pgxinbox.New or sqlinbox.New`},
		{handlers.Batch[*sql.Tx, orderPaid]("bulk", box, nil), `bind handler "bulk": its function is nil`},
		{handlers.Batch("bulk", box, fn).Of(handlers.BatchSettings{Max: -1}), `bind handler "bulk": batch settings: Max is -1; use 1 to 10000, or 0 for 500`},
		{handlers.Batch("bulk", box, fn).Of(handlers.BatchSettings{Max: 10_001}), `bind handler "bulk": batch settings: Max is 10001; use 1 to 10000, or 0 for 500`},
		{handlers.Batch("bulk", box, fn).Of(handlers.BatchSettings{MaxBytes: -1}), `bind handler "bulk": batch settings: MaxBytes is -1; use 1 or more, or 0 for 8388608`},
		{handlers.Batch("bulk", box, fn).Of(handlers.BatchSettings{Wait: time.Minute}), `bind handler "bulk": batch settings: Wait is 1m0s; use 1s at most, or 0 for no wait`},
		{handlers.Batch("bulk", box, fn).With(handlers.Settings{Tries: -1}), `bind handler "bulk": settings: Tries is -1; use 1 or more, or 0 for 5`},
	} {
		_, err := c.h.Bind(t.Context(), handlers.Binding{Group: "billing", Catalog: catalog(t)})
		require.EqualError(t, err, c.want)
	}
}
