package router

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/internal/delivery"
)

// batchFeed hands out what it has to be gathered, and notes what became of it.
type batchFeed struct {
	left    []*delivery.Delivery
	given   []*delivery.Delivery // the first message too
	arrived chan struct{}
	verdict map[int]delivery.Verdict
	order   []int
}

func (f *batchFeed) Next(context.Context) *delivery.Context { return nil }
func (f *batchFeed) Arrived() <-chan struct{}               { return f.arrived }

func (f *batchFeed) Gather(most int, _ int64) []*delivery.Delivery {
	n := min(most, len(f.left))
	given := f.left[:n]
	f.left = f.left[n:]
	for _, d := range given {
		d.Attempt, d.RetryIn, d.Alone = d.Attempt+1, 0, false
	}
	f.given = append(f.given, given...)
	return given
}

func (f *batchFeed) Settle(ends []delivery.End) {
	for _, end := range ends {
		f.verdict[end.Index] = end.Verdict
		f.order = append(f.order, end.Index)
	}
}

// offerAll offers ds as one batch.
func offerAll(g *rig, ds ...*delivery.Delivery) (*batchFeed, bool) {
	f := &batchFeed{left: ds[1:], given: ds[:1:1], arrived: make(chan struct{}, 1), verdict: map[int]delivery.Verdict{}}
	ds[0].Feed = f
	return f, g.sub.offer(ds[0])
}

// settled lists the sequences of messages by verdict, as "key/sequence".
func (f *batchFeed) settled(t *testing.T, v delivery.Verdict) []string {
	t.Helper()
	var list []string
	for _, i := range f.order {
		if f.verdict[i] == v {
			list = append(list, nameOf(t, f.given[i]))
		}
	}
	slices.Sort(list)
	return list
}

func (f *batchFeed) unsettled(t *testing.T) []string {
	t.Helper()
	var list []string
	for i, d := range f.given {
		if _, ok := f.verdict[i]; !ok {
			list = append(list, nameOf(t, d))
		}
	}
	slices.Sort(list)
	return list
}

func nameOf(t *testing.T, d *delivery.Delivery) string {
	t.Helper()
	e, err := event.FromKafka(d.Record)
	if err != nil {
		return fmt.Sprintf("%s@%d", d.Record.Key, d.Offset)
	}
	return fmt.Sprintf("%s/%d", e.Aggregate().ID, e.Sequence())
}

// bulk is a batch handler that writes its effects, unless do says otherwise.
func (b *bookkeeping) bulk(do func(ctx context.Context, es []event.Of[placed]) error) handlers.Batched[*sql.Tx, placed] {
	return handlers.Batch("bulk", b.box, func(ctx context.Context, tx *sql.Tx, es []event.Of[placed]) error {
		for _, e := range es {
			if _, err := tx.ExecContext(ctx, `INSERT INTO effect (handler, key, sequence) VALUES ('bulk', ?, ?)`, e.Aggregate().ID, e.Sequence()); err != nil {
				return err
			}
		}
		if do == nil {
			return nil
		}
		return do(ctx, es)
	}).With(handlers.Settings{Tries: 3, MinBackoff: time.Second, MaxBackoff: time.Second})
}

// deliveries makes one for each name such as "a/1", in their order.
func deliveries(t *testing.T, names ...string) []*delivery.Delivery {
	t.Helper()
	ds := make([]*delivery.Delivery, len(names))
	for i, name := range names {
		var sequence int64
		_, err := fmt.Sscanf(name[2:], "%d", &sequence)
		require.NoError(t, err)
		ds[i] = at(int64(i+1), record(t, "order.placed", name[:1], sequence, placed{}))
	}
	return ds
}

// I4 and I6: the event that fails is found, however it fails; the others are
// applied in the same round, once and in order, and its key's later ones wait.
func TestBatchIsSplitUntilTheFailingEventIsAlone(t *testing.T) {
	for name, fail := range map[string]func(ctx context.Context) error{
		"an error": func(context.Context) error { return errors.New("card declined") },
		"a panic":  func(context.Context) error { panic("nil map") },
		"a timeout": func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := newBookkeeping(t)
			h := db.bulk(func(ctx context.Context, es []event.Of[placed]) error {
				if slices.ContainsFunc(es, func(e event.Of[placed]) bool { return e.Aggregate().ID == "b" && e.Sequence() == 2 }) {
					return fail(ctx)
				}
				return nil
			}).With(handlers.Settings{Tries: 2, Timeout: 200 * time.Millisecond, MinBackoff: time.Millisecond, MaxBackoff: time.Millisecond})
			g := newRig(t, Config{}, h).start(t)
			ds := deliveries(t, "a/1", "b/1", "c/1", "b/2", "b/3", "a/2", "d/1", "b/4", "c/2", "a/3")
			f, acked := offerAll(g, ds...)
			require.True(t, acked)
			require.Equal(t, []string{"a/1", "a/2", "a/3", "b/1", "c/1", "c/2", "d/1"}, f.settled(t, delivery.Finished))
			require.Equal(t, []string{"b/2"}, f.settled(t, delivery.Failed))
			require.Equal(t, []string{"b/3", "b/4"}, f.unsettled(t), "they go back behind it")
			require.True(t, ds[3].Alone)
			require.Positive(t, ds[3].RetryIn)
			require.Equal(t, []string{"bulk a/1", "bulk a/2", "bulk a/3", "bulk b/1", "bulk c/1", "bulk c/2", "bulk d/1"}, sorted(db.effects(t)))
			require.Positive(t, testutil.ToFloat64(g.met.splits.WithLabelValues("bulk")))
			require.InDelta(t, 7, g.counter(t, "bulk", "applied"), 0)

			time.Sleep(ds[3].RetryIn)
			f, acked = offerAll(g, ds[3], deliveries(t, "e/1")[0])
			require.True(t, acked, "its second try is its last, and it is parked")
			require.Empty(t, f.given[1:], "it is tried alone")
			f, acked = offerAll(g, ds[4], ds[7], deliveries(t, "e/1")[0])
			require.True(t, acked)
			require.Equal(t, []string{"b/3", "b/4", "e/1"}, f.settled(t, delivery.Finished))
			require.InDelta(t, 2, g.counter(t, "bulk", "parked_behind"), 0)
			require.Len(t, db.effects(t), 8)
			require.NoError(t, g.end())
		})
	}
}

func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
}

func TestEveryEventOfABatchThatIsRejectedIsParked(t *testing.T) {
	db := newBookkeeping(t)
	g := newRig(t, Config{}, db.bulk(func(context.Context, []event.Of[placed]) error { return handlers.Reject(errors.New("closed account")) })).start(t)
	f, acked := offerAll(g, deliveries(t, "a/1", "b/1", "a/2", "c/1")...)
	require.True(t, acked)
	require.Equal(t, []string{"a/1", "a/2", "b/1", "c/1"}, f.settled(t, delivery.Finished))
	require.Empty(t, db.effects(t))
	require.InDelta(t, 3, g.counter(t, "bulk", "parked"), 0)
	require.InDelta(t, 1, g.counter(t, "bulk", "parked_behind"), 0)
	require.NoError(t, g.end())
}

// I7: what cannot be decoded takes its place among its key's events: those before
// it are applied first, those behind it wait for what becomes of it.
func TestWhatNoBatchCanHaveTakesTheOrdinaryWayInItsPlace(t *testing.T) {
	db := newBookkeeping(t)
	g := newRig(t, Config{}, db.bulk(nil)).start(t)
	ds := deliveries(t, "a/1", "a/2", "b/1", "a/3", "c/2", "c/1", "c/3", "b/2")
	ds[1].Record.Value = []byte("{broken")
	ds[2].Record = record(t, "order.canceled", "b", 1, canceled{}) // nobody takes it
	f, acked := offerAll(g, ds...)
	require.True(t, acked)
	require.Equal(t, []string{"bulk a/1", "bulk b/2", "bulk c/2"}, sorted(db.effects(t)))
	require.Equal(t, []string{"a/1", "a/2", "b/1", "b/2", "c/1", "c/2"}, f.settled(t, delivery.Finished), "a/2 and the late c/1 are parked")
	require.Equal(t, []string{"a/3", "c/3"}, f.unsettled(t))
	require.InDelta(t, 2, g.counter(t, "bulk", "parked"), 0)
	require.InDelta(t, 3, g.counter(t, "bulk", "applied"), 0)
	require.Zero(t, g.counter(t, "bulk", "duplicate"), "each has its own answer, though c/3 has none")
	require.InDelta(t, 1, testutil.ToFloat64(g.subs[0].skipped), 0)
	f, acked = offerAll(g, ds[3], ds[6])
	require.True(t, acked)
	require.Equal(t, []string{"a/3", "c/3"}, f.settled(t, delivery.Finished))
	require.Len(t, db.effects(t), 3, "they went behind those that are parked")
	require.NoError(t, g.end())
}

// memBatches is a memInbox that takes batches.
type memBatches struct {
	*memInbox

	batch func(as []inbox.Admission) error
}

func (b *memBatches) ApplyBatch(ctx context.Context, as []inbox.Admission, effect func(context.Context, struct{}, []int) error) ([]inbox.Answer, error) {
	if err := b.batch(as); err != nil {
		return nil, err
	}
	var answers []inbox.Answer
	var fresh []int
	for i := range as {
		answers, fresh = append(answers, inbox.Fresh), append(fresh, i)
	}
	return answers, effect(ctx, struct{}{}, fresh)
}

func (b *memBatches) handler(do func(ctx context.Context, es []event.Of[placed]) error) handlers.Batched[struct{}, placed] {
	return handlers.Batch("bulk", b, func(ctx context.Context, _ struct{}, es []event.Of[placed]) error { return do(ctx, es) }).
		With(handlers.Settings{MinBackoff: time.Second, MaxBackoff: time.Second})
}

func TestBatchThatTheDatabaseDidNotAdmitComesAgainWhole(t *testing.T) {
	for _, why := range []error{inbox.ErrNotAdmitted, inbox.ErrCommitUnknown} {
		away, effects := true, 0
		admit := func() error {
			if away {
				return fmt.Errorf("the database is away: %w", why)
			}
			return nil
		}
		box := &memBatches{
			memInbox: &memInbox{answer: func(inbox.Admission) (inbox.Answer, error) { return inbox.Fresh, admit() }},
			batch:    func([]inbox.Admission) error { return admit() },
		}
		g := newRig(t, Config{}, box.handler(func(_ context.Context, es []event.Of[placed]) error { effects += len(es); return nil })).start(t)
		ds := deliveries(t, "a/1", "b/1", "a/2", "c/1")
		f, acked := offerAll(g, ds...)
		require.True(t, acked)
		require.Subset(t, f.settled(t, delivery.Failed), []string{"a/1", "b/1", "c/1"})
		require.Empty(t, f.settled(t, delivery.Finished))
		for _, d := range ds[1:] {
			require.False(t, d.Alone, "it is not to blame")
			if nameOf(t, d) != "a/2" {
				require.Equal(t, ds[0].RetryIn, d.RetryIn)
			}
		}
		require.Zero(t, testutil.ToFloat64(g.met.splits.WithLabelValues("bulk")))

		away = false
		f, acked = offerAll(g, ds[1], ds[3]) // the first was tried and may come alone
		require.True(t, acked)
		require.Equal(t, []string{"b/1", "c/1"}, f.settled(t, delivery.Finished))
		require.Equal(t, 2, effects)
		require.NoError(t, g.end())
	}
}

func TestCanceledBatchGoesBackUntried(t *testing.T) {
	started := make(chan struct{})
	box := &memBatches{memInbox: &memInbox{}, batch: func([]inbox.Admission) error { return nil }}
	g := newRig(t, Config{StopTimeout: time.Millisecond}, box.handler(func(ctx context.Context, _ []event.Of[placed]) error {
		close(started)
		<-ctx.Done()
		return ctx.Err()
	})).start(t)
	done := make(chan bool, 1)
	ds := deliveries(t, "a/1", "b/1")
	var f *batchFeed
	go func() {
		var acked bool
		f, acked = offerAll(g, ds...)
		done <- acked
	}()
	<-started
	require.NoError(t, g.end())
	require.False(t, <-done)
	require.Empty(t, f.verdict)
	require.Nil(t, ds[0].State)
}

func TestBatchWaitsForMoreWhenItsHandlerWantsThat(t *testing.T) {
	var sizes []int
	box := &memBatches{
		memInbox: &memInbox{answer: func(inbox.Admission) (inbox.Answer, error) { return inbox.Fresh, nil }},
		batch:    func([]inbox.Admission) error { return nil },
	}
	h := box.handler(func(_ context.Context, es []event.Of[placed]) error { sizes = append(sizes, len(es)); return nil })
	wait := handlers.BatchSettings{Max: 5, Wait: time.Second}
	ds := deliveries(t, "a/1", "b/1", "c/1", "d/1", "e/1", "f/1")
	synctest.Test(t, func(t *testing.T) {
		sizes = nil
		g := newRig(t, Config{}, h.Of(wait)).start(t)
		f := &batchFeed{given: ds[:1:1], arrived: make(chan struct{}, 1), verdict: map[int]delivery.Verdict{}}
		ds[0].Feed = f
		done := make(chan bool, 1)
		began := time.Now()
		go func() { done <- g.sub.offer(ds[0]) }()
		for _, d := range ds[1:4] {
			synctest.Wait()
			f.left = append(f.left, d)
			f.arrived <- struct{}{}
		}
		require.True(t, <-done)
		require.Equal(t, []int{4}, sizes)
		require.Equal(t, time.Second, time.Since(began), "it was not full")

		began = time.Now()
		_, acked := offerAll(g, deliveries(t, "a/2", "b/2", "c/2", "d/2", "e/2", "f/2")...)
		require.True(t, acked)
		require.Equal(t, []int{4, 5}, sizes)
		require.Zero(t, time.Since(began), "a full one does not wait")
		require.NoError(t, g.end())
	})
}

func TestBatchHandlerSharesItsGroupWithNobody(t *testing.T) {
	db := newBookkeeping(t)
	g := newRig(t, Config{}, db.bulk(nil))
	err := g.Subscribe(Subscription{Topic: "invoices", Subscriber: g.sub, Handlers: []handlers.Handler{db.charge("charge", nil)}})
	require.EqualError(t, err, `router: handler "bulk" takes events in batches, and shares group "billing" with handler "charge": give it a group of its own, by a router with another Config.Group`)
	g = newRig(t, Config{}, db.charge("charge", nil))
	require.ErrorContains(t, g.Subscribe(Subscription{Topic: "invoices", Subscriber: g.sub, Handlers: []handlers.Handler{db.bulk(nil)}}), "group of its own")
}
