package handlers_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/handlers/inbox/sqlinbox"
	"github.com/tidings-bus/tidings/schema"
)

type orderPaid struct{ Amount int }

type unregistered struct{}

func catalog(t testing.TB) *event.Catalog {
	t.Helper()
	c, err := event.NewCatalog(event.CatalogConfig{Source: "/orders"})
	require.NoError(t, err)
	require.NoError(t, event.Register[orderPaid](c, "order.paid", 1))
	return c
}

func database(t testing.TB) (*sql.DB, *sqlinbox.Inbox) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "billing.db")+"?_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, schema.MigrateSQLite(t.Context(), db))
	_, err = db.ExecContext(t.Context(), `CREATE TABLE payment (event TEXT, amount INTEGER)`)
	require.NoError(t, err)
	box, err := sqlinbox.New(sqlinbox.Config{DB: db, Dialect: sqlinbox.SQLite, AcceptPowerLoss: true})
	require.NoError(t, err)
	return db, box
}

func bind(t testing.TB, h handlers.Handler) handlers.Bound {
	t.Helper()
	b, err := h.Bind(t.Context(), handlers.Binding{Group: "billing", Catalog: catalog(t)})
	require.NoError(t, err)
	return b
}

func call(t testing.TB, sequence int64) handlers.Call {
	t.Helper()
	e, err := event.New(event.Draft{
		Type: "order.paid", Source: "/orders", Aggregate: event.Aggregate{Type: "order", ID: "o-1"}, Sequence: sequence, Data: []byte(`{"Amount":7}`),
	})
	require.NoError(t, err)
	return handlers.Call{
		Event: e, Payload: orderPaid{Amount: 7}, Attempt: 1,
		Place: inbox.Place{Topic: "order", Offset: sequence, Key: []byte("o-1")},
	}
}

func pay(ctx context.Context, tx *sql.Tx, e event.Of[orderPaid]) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO payment (event, amount) VALUES (?, ?)`, e.ID().String(), e.Payload.Amount)
	return err
}

func payments(t testing.TB, db *sql.DB) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRowContext(t.Context(), `SELECT count(*) FROM payment`).Scan(&n))
	return n
}

func TestPlainHandlerSeesTheEventItsAttemptAndItAsCause(t *testing.T) {
	c := call(t, 1)
	c.Attempt = 3
	var seen int
	b := bind(t, handlers.On("mail", func(ctx context.Context, e event.Of[orderPaid]) error {
		seen++
		require.Equal(t, 7, e.Payload.Amount)
		require.Equal(t, c.Event.ID(), e.ID())
		require.Equal(t, 3, handlers.Attempt(ctx))
		cause, ok := event.CauseFrom(ctx)
		require.True(t, ok)
		require.Equal(t, c.Event.ID(), cause.ID())
		deadline, ok := ctx.Deadline()
		require.True(t, ok)
		require.InDelta(t, handlers.DefaultTimeout.Seconds(), time.Until(deadline).Seconds(), 5)
		return nil
	}))
	require.Equal(t, "mail", b.Name())
	require.Equal(t, "order.paid", b.Type())
	require.Nil(t, b.Inbox())
	for range 2 { // at least once: nothing is remembered
		answer, err := b.Handle(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, inbox.Fresh, answer)
	}
	require.Equal(t, 2, seen)
	require.Zero(t, handlers.Attempt(t.Context()))
}

func TestI4EffectOnceInATransaction(t *testing.T) {
	db, box := database(t)
	fail := errors.New("card declined")
	failing := true
	b := bind(t, handlers.InTx("charge", box, func(ctx context.Context, tx *sql.Tx, e event.Of[orderPaid]) error {
		require.NoError(t, pay(ctx, tx, e))
		if failing {
			return fail
		}
		return nil
	}))
	require.Same(t, box, b.Inbox())
	c := call(t, 1)
	_, err := b.Handle(t.Context(), c)
	require.ErrorIs(t, err, fail)
	require.Zero(t, payments(t, db))
	failing = false
	for _, want := range []inbox.Answer{inbox.Fresh, inbox.Duplicate, inbox.Duplicate} {
		answer, err := b.Handle(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, want, answer)
		require.Equal(t, 1, payments(t, db))
	}
	answer, err := b.Handle(t.Context(), call(t, 1)) // another event with a used sequence
	require.NoError(t, err)
	require.Equal(t, inbox.Late, answer)
}

func TestI4PlainHandlersRowFollowsTheEffect(t *testing.T) {
	_, box := database(t)
	ran, fail := 0, true
	b := bind(t, handlers.On("mail", func(context.Context, event.Of[orderPaid]) error {
		ran++
		if fail {
			return errors.New("smtp is away")
		}
		return nil
	}).Remember(box))
	require.Same(t, box, b.Inbox())
	c := call(t, 1)
	_, err := b.Handle(t.Context(), c)
	require.EqualError(t, err, "smtp is away")
	fail = false
	for _, want := range []inbox.Answer{inbox.Fresh, inbox.Duplicate} {
		answer, err := b.Handle(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, want, answer)
	}
	require.Equal(t, 2, ran)
}

// I4: an effect that happened is recorded, though its attempt was cut off with
// its partition meanwhile.
func TestAnEffectIsRecordedWhenItsAttemptWasCutOff(t *testing.T) {
	_, box := database(t)
	ctx, cancel := context.WithCancel(t.Context())
	sent := 0
	b := bind(t, handlers.On("mail", func(context.Context, event.Of[orderPaid]) error {
		sent++
		cancel()
		return nil
	}).Remember(box))
	c := call(t, 1)
	answer, err := b.Handle(ctx, c)
	require.NoError(t, err)
	require.Equal(t, inbox.Fresh, answer)
	answer, err = b.Handle(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, inbox.Duplicate, answer)
	require.Equal(t, 1, sent)
}

func TestAnEffectThatCouldNotBeRecordedIsSaidToRepeat(t *testing.T) {
	db, box := database(t)
	b := bind(t, handlers.On("mail", func(ctx context.Context, _ event.Of[orderPaid]) error {
		_, err := db.ExecContext(ctx, `DROP TABLE tidings_inbox`)
		return err
	}).Remember(box))
	_, err := b.Handle(t.Context(), call(t, 1))
	var unrecorded *handlers.UnrecordedError
	require.ErrorAs(t, err, &unrecorded)
	require.NotErrorIs(t, err, inbox.ErrNotAdmitted, "the function ran: it was an attempt")
	require.ErrorContains(t, err, `handler "mail" did its work but could not record it, and will repeat it: `)
}

func TestTheTimeoutCoversTheFunctionAndNotTheWaitForTheKey(t *testing.T) {
	db, box := database(t)
	holder, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer holder.Close()
	_, err = holder.ExecContext(t.Context(), `BEGIN IMMEDIATE`)
	require.NoError(t, err)

	const timeout = 50 * time.Millisecond
	started := time.Now()
	b := bind(t, handlers.InTx("charge", box, func(ctx context.Context, _ *sql.Tx, _ event.Of[orderPaid]) error {
		require.Greater(t, time.Since(started), 2*timeout)
		require.NoError(t, ctx.Err())
		<-ctx.Done()
		return context.Cause(ctx)
	}).With(handlers.Settings{Timeout: timeout}))
	require.Equal(t, timeout, b.Timeout())
	time.AfterFunc(3*timeout, func() { _, _ = holder.ExecContext(context.Background(), `ROLLBACK`) })
	_, err = b.Handle(t.Context(), call(t, 1))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, `handler "charge": attempt 1 took longer than its timeout of 50ms`)
}

func TestAPayloadOfAnotherTypeIsAnError(t *testing.T) {
	b := bind(t, handlers.On("mail", func(context.Context, event.Of[orderPaid]) error { return nil }))
	c := call(t, 1)
	c.Payload = 5
	_, err := b.Handle(t.Context(), c)
	require.EqualError(t, err, fmt.Sprintf(
		`handler "mail" takes handlers_test.orderPaid, but event %s of type "order.paid" was decoded as int: the type is registered differently than when the handler was bound`, c.Event.ID()))
}

func TestBindNamesTheMistake(t *testing.T) {
	mail := func(context.Context, event.Of[orderPaid]) error { return nil }
	charge := func(context.Context, *sql.Tx, event.Of[orderPaid]) error { return nil }
	good := handlers.Binding{Group: "billing", Catalog: catalog(t)}
	unmigrated, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "new.db")+"?_pragma=journal_mode(WAL)")
	require.NoError(t, err)
	defer unmigrated.Close()
	fresh, err := sqlinbox.New(sqlinbox.Config{DB: unmigrated, Dialect: sqlinbox.SQLite})
	require.NoError(t, err)
	var none *sqlinbox.Inbox
	for _, c := range []struct {
		want    string
		handler handlers.Handler
		binding handlers.Binding
	}{
		{`bind handler "": handler name is empty`, handlers.On("", mail), good},
		{`bind handler "send mail": handler name "send mail" has a character at byte 4 that is not a letter, a digit or one of - _ . : /`, handlers.On("send mail", mail), good},
		{`: handler name is 201 bytes long; the limit is 200`, handlers.On(strings.Repeat("x", 201), mail), good},
		{`bind handler "mail": group is empty`, handlers.On("mail", mail), handlers.Binding{Catalog: good.Catalog}},
		{`bind handler "mail": epoch -1 is negative; the first is 0`, handlers.On("mail", mail), handlers.Binding{Group: "g", Catalog: good.Catalog, Epoch: -1}},
		{`bind handler "mail": its function is nil`, handlers.On[orderPaid]("mail", nil), good},
		{`bind handler "charge": its function is nil`, handlers.InTx[*sql.Tx, orderPaid]("charge", fresh, nil), good},
		{`bind handler "mail": no catalog; give the router the event.Catalog that handlers_test.orderPaid is registered in`, handlers.On("mail", mail), handlers.Binding{Group: "g"}},
		{
			`bind handler "mail": it takes handlers_test.unregistered, which is not in the catalog; register it: event.Register[handlers_test.unregistered](catalog, name, version): `,
			handlers.On("mail", func(context.Context, event.Of[unregistered]) error { return nil }), good,
		},
		{`bind handler "charge": InTx got no inbox; make one with pgxinbox.New or sqlinbox.New`, handlers.InTx("charge", nil, charge), good},
		{`bind handler "charge": InTx got no inbox; make one with pgxinbox.New or sqlinbox.New`, handlers.InTx("charge", none, charge), good},
		{`bind handler "mail": Remember got no inbox; make one with pgxinbox.New or sqlinbox.New`, handlers.On("mail", mail).Remember(nil), good},
		{`bind handler "charge": check its inbox: database is not migrated`, handlers.InTx("charge", fresh, charge), good},
		{`bind handler "mail": check its inbox: database is not migrated`, handlers.On("mail", mail).Remember(fresh), good},
		{`bind handler "mail": settings: Tries is -1; use 1 or more, or 0 for 5`, handlers.On("mail", mail).With(handlers.Settings{Tries: -1}), good},
		{`bind handler "charge": settings: MinBackoff is -1s; use a positive duration, or 0 for 700ms`, handlers.InTx("charge", fresh, charge).With(handlers.Settings{MinBackoff: -time.Second}), good},
		{`bind handler "mail": settings: MaxBackoff is -1s; use a positive duration, or 0 for 5s`, handlers.On("mail", mail).With(handlers.Settings{MaxBackoff: -time.Second}), good},
		{`settings: Tries is 1001; use 1000 at most: `, handlers.On("mail", mail).With(handlers.Settings{Tries: 1001}), good},
		{`settings: MinBackoff is 2m0s; use 1m0s at most, and RetryAfter for what takes longer`, handlers.On("mail", mail).With(handlers.Settings{MinBackoff: 2 * time.Minute}), good},
		{`settings: MaxBackoff is 2m0s; use 1m0s at most, and RetryAfter for what takes longer`, handlers.On("mail", mail).With(handlers.Settings{MaxBackoff: 2 * time.Minute}), good},
		{`settings: Patience is -1s; use a positive duration, or 0 for none`, handlers.On("mail", mail).With(handlers.Settings{Patience: -time.Second}), good},
		{`settings: Deadline is -1s; use a positive duration, or 0 for none`, handlers.On("mail", mail).With(handlers.Settings{Deadline: -time.Second}), good},
		{`settings: Bounds.Events is -1; use 1 or more, or 0 for no bound`, handlers.On("mail", mail).With(handlers.Settings{Bounds: inbox.Bounds{Events: -1}}), good},
		{`settings: Bounds.Bytes is -1; use 1 or more, or 0 for no bound`, handlers.On("mail", mail).With(handlers.Settings{Bounds: inbox.Bounds{Bytes: -1}}), good},
		{`settings: Bounds.Age is -1s; use a positive duration, or 0 for no bound`, handlers.On("mail", mail).With(handlers.Settings{Bounds: inbox.Bounds{Age: -time.Second}}), good},
		{`settings: Concurrency.Max is -1; use 1 or more, or 0 for no bound`, handlers.On("mail", mail).With(handlers.Settings{Concurrency: handlers.Concurrency{Max: -1}}), good},
		{`settings: Concurrency.Min is -1; use 1 or more, or 0 for 1`, handlers.On("mail", mail).With(handlers.Settings{Concurrency: handlers.Concurrency{Min: -1, Adaptive: true}}), good},
		{`settings: Concurrency.Min is 2, and Adaptive is off; Min is for Adaptive, a fixed bound is Max alone`, handlers.On("mail", mail).With(handlers.Settings{Concurrency: handlers.Concurrency{Min: 2, Max: 3}}), good},
		{`settings: Concurrency.Min is 4, above Max 3; lower the first or raise the second`, handlers.On("mail", mail).With(handlers.Settings{Concurrency: handlers.Concurrency{Min: 4, Max: 3, Adaptive: true}}), good},
		{`bind handler "mail": settings: MinBackoff is 2s, above MaxBackoff 1s; lower the first or raise the second`, handlers.On("mail", mail).With(handlers.Settings{MinBackoff: 2 * time.Second, MaxBackoff: time.Second}), good},
	} {
		_, err := c.handler.Bind(t.Context(), c.binding)
		require.ErrorContains(t, err, c.want)
	}
}

func TestTheScheduleOfTries(t *testing.T) {
	for _, c := range []struct {
		name     string
		settings handlers.Settings
		want     []time.Duration // after each try but the last
	}{
		{"five tries in about ten seconds", handlers.Settings{}, []time.Duration{700 * time.Millisecond, 1400 * time.Millisecond, 2800 * time.Millisecond, 5 * time.Second}},
		{"one try", handlers.Settings{Tries: 1}, nil},
		{"a bound below the default start", handlers.Settings{MaxBackoff: time.Millisecond, Tries: 3}, []time.Duration{time.Millisecond, time.Millisecond}},
		{"a start above the default bound", handlers.Settings{MinBackoff: time.Minute, Tries: 3}, []time.Duration{time.Minute, time.Minute}},
		{"doubling to the bound", handlers.Settings{MinBackoff: time.Second, MaxBackoff: 3 * time.Second, Tries: 5}, []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := bind(t, handlers.On("mail", func(context.Context, event.Of[orderPaid]) error { return nil }).With(c.settings))
			for i, want := range c.want {
				distinct := map[time.Duration]bool{}
				for range 50 {
					d, spent := b.Delay(i+1, 0)
					require.False(t, spent)
					require.InDelta(t, float64(want), float64(d), 0.2*float64(want)+1)
					distinct[d] = true
				}
				require.Greater(t, len(distinct), 10, "jitter")
			}
			_, spent := b.Delay(len(c.want)+1, 0)
			require.True(t, spent)
			d, spent := b.Delay(1<<30, 0)
			require.True(t, spent)
			require.Positive(t, d)
		})
	}
	b := bind(t, handlers.On("mail", func(context.Context, event.Of[orderPaid]) error { return nil }).With(handlers.Settings{Timeout: -1}))
	require.Zero(t, b.Timeout())
}

func TestErrorsThatSteer(t *testing.T) {
	cause := errors.New("away")
	var later *handlers.RetryAfterError
	wrapped := fmt.Errorf("call the bank: %w", handlers.RetryAfter(time.Minute).Because(cause))
	require.ErrorAs(t, wrapped, &later)
	require.Equal(t, time.Minute, later.After)
	require.ErrorIs(t, wrapped, cause)
	require.EqualError(t, wrapped, "call the bank: retry after 1m0s: away")
	require.EqualError(t, handlers.RetryAfter(-time.Second), "retry after 0s")
	capped := handlers.RetryAfter(1000 * time.Hour).Because(cause)
	require.Equal(t, handlers.MaxRetryAfter, capped.After)
	require.EqualError(t, capped, "retry after 720h0m0s (asked for 1000h0m0s; the most is 720h0m0s: reject the event, or give its handler a Deadline, where it may never be taken): away")

	var rejected *handlers.RejectError
	require.ErrorAs(t, fmt.Errorf("charge: %w", handlers.Reject(cause)), &rejected)
	require.ErrorIs(t, rejected, cause)
	require.EqualError(t, rejected, "rejected: away")
	require.EqualError(t, handlers.Reject(nil), "rejected without a reason")
}

func TestAPanicPassesThroughAndLeavesNothing(t *testing.T) {
	db, box := database(t)
	b := bind(t, handlers.InTx("charge", box, func(ctx context.Context, tx *sql.Tx, e event.Of[orderPaid]) error {
		require.NoError(t, pay(ctx, tx, e))
		panic("boom")
	}))
	require.PanicsWithValue(t, "boom", func() { _, _ = b.Handle(t.Context(), call(t, 1)) })
	require.Zero(t, payments(t, db))
}
