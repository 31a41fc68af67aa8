package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/tidings-bus/tidings/dispatch"
	"github.com/tidings-bus/tidings/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type placed struct {
	Total int `json:"total"`
}

type canceled struct {
	Reason string `json:"reason"`
}

type unregistered struct{}

// order is an aggregate.
type order struct {
	event.Recorder
}

func newOrder(id string, last int64) *order {
	o := &order{}
	o.Identify(event.Aggregate{Type: "order", ID: id}, last)
	return o
}

// sink keeps what it is given, or fails.
type sink struct {
	calls [][]event.Event
	err   error
	ctx   func(context.Context)
}

func (s *sink) Publish(ctx context.Context, events ...event.Event) error {
	if s.ctx != nil {
		s.ctx(ctx)
	}
	if s.err != nil {
		return s.err
	}
	s.calls = append(s.calls, events)
	return nil
}

func (s *sink) data() (data []string) {
	for _, c := range s.calls {
		for _, e := range c {
			data = append(data, fmt.Sprintf("%s %s", e.Aggregate().ID, e.Data()))
		}
	}
	return data
}

func catalog(t testing.TB) *event.Catalog {
	t.Helper()
	c, err := event.NewCatalog(event.CatalogConfig{Source: "/orders"})
	require.NoError(t, err)
	require.NoError(t, event.Register[placed](c, "order.placed", 1))
	require.NoError(t, event.Register[canceled](c, "order.canceled", 1))
	return c
}

func dispatcher(t testing.TB, s dispatch.Sink) *dispatch.Dispatcher {
	t.Helper()
	d, err := dispatch.New(dispatch.Config{Catalog: catalog(t), Sink: s})
	require.NoError(t, err)
	return d
}

var customer = event.Aggregate{Type: "customer", ID: "c-1"}

func TestEventsArePublishedInTheOrderRaisedOnceTheWorkSucceeded(t *testing.T) {
	s := &sink{}
	d := dispatcher(t, s)
	a, b := newOrder("a", 4), newOrder("b", 0)
	err := d.Do(t.Context(), func(ctx context.Context) error {
		a.Record(placed{1})
		require.NoError(t, dispatch.Collect(ctx, a))
		require.NoError(t, dispatch.Raise(ctx, customer, canceled{"by phone"}))
		b.Record(placed{2})
		a.Record(placed{3})
		require.NoError(t, dispatch.Collect(ctx, b))
		require.NoError(t, dispatch.Collect(ctx, a), "again: what is new gets its place here")
		b.Record(placed{4}) // after Collect: comes last
		assert.Empty(t, s.calls, "nothing goes before the work is done")
		return nil
	})
	require.NoError(t, err)
	assert.Len(t, s.calls, 1)
	assert.Equal(t, []string{
		`a {"total":1}`, `c-1 {"reason":"by phone"}`, `b {"total":2}`, `a {"total":3}`, `b {"total":4}`,
	}, s.data())
	assert.Equal(t, []int64{5, 0, 1, 6, 2}, []int64{
		s.calls[0][0].Sequence(), s.calls[0][1].Sequence(), s.calls[0][2].Sequence(), s.calls[0][3].Sequence(), s.calls[0][4].Sequence(),
	})
	assert.Empty(t, a.Recorded())
	assert.Empty(t, b.Recorded())
}

func TestNothingIsPublishedWhenTheWorkFails(t *testing.T) {
	s := &sink{}
	d := dispatcher(t, s)
	o := newOrder("a", 0)
	work := func(end func()) func(context.Context) error {
		return func(ctx context.Context) error {
			o.Record(placed{1})
			require.NoError(t, dispatch.Collect(ctx, o))
			end()
			return assert.AnError
		}
	}
	require.ErrorIs(t, d.Do(t.Context(), work(func() {})), assert.AnError)
	assert.Panics(t, func() { _ = d.Do(t.Context(), work(func() { panic("x") })) })
	assert.Empty(t, s.calls)
	assert.Len(t, o.Recorded(), 2, "they are kept")
}

func TestCorrelationAndCausationFollowFromTheContext(t *testing.T) {
	s := &sink{}
	d := dispatcher(t, s)
	cause, err := event.New(event.Draft{Type: "payment.failed", Source: "/billing", Aggregate: event.Aggregate{Type: "payment", ID: "p"}, Correlation: "corr", Data: []byte("{}")})
	require.NoError(t, err)
	require.NoError(t, d.Do(event.WithCause(t.Context(), cause), func(ctx context.Context) error {
		return dispatch.Raise(ctx, customer, canceled{"unpaid"})
	}))
	e := s.calls[0][0]
	assert.Equal(t, "corr", e.Correlation())
	assert.Equal(t, cause.CloudEventID(), e.Causation())
	assert.Equal(t, "/orders", e.Source())
	assert.Equal(t, "order.canceled", e.Type())
}

type partial struct{ events []event.Event }

func (p partial) Error() string         { return "half of it" }
func (p partial) Events() []event.Event { return p.events }

func TestAFailedSinkIsToldApartFromFailedWorkAndKeepsTheEvents(t *testing.T) {
	s := &sink{err: assert.AnError}
	d := dispatcher(t, s)
	o := newOrder("a", 0)
	o.Record(placed{1})
	work := func(ctx context.Context) error {
		return errors.Join(dispatch.Collect(ctx, o), dispatch.Raise(ctx, customer, canceled{"x"}))
	}
	err := d.Do(t.Context(), work)
	var unpublished *dispatch.UnpublishedError
	require.ErrorAs(t, err, &unpublished)
	require.ErrorIs(t, err, assert.AnError)
	require.ErrorContains(t, err, "the work is done, but 2 of its events are not published")
	require.Len(t, unpublished.Events, 2)
	require.Len(t, o.Recorded(), 1, "not cleared")

	s.err = fmt.Errorf("wrapped: %w", partial{unpublished.Events[1:]})
	require.ErrorAs(t, d.Do(t.Context(), work), &unpublished)
	assert.Len(t, unpublished.Events, 1, "the sink said which")

	s.err = nil
	id := o.Recorded()[0].ID
	require.NoError(t, d.Do(t.Context(), work))
	assert.Equal(t, id, s.calls[0][0].ID(), "the same event, so that consumers know it")
	assert.Empty(t, o.Recorded())
}

func TestACallerWhoLeavesAfterTheWorkIsDoneDoesNotLoseItsEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{ctx: func(ctx context.Context) {
			require.NoError(t, ctx.Err())
			deadline, ok := ctx.Deadline()
			require.True(t, ok)
			assert.Equal(t, 30*time.Second, time.Until(deadline))
		}}
		d := dispatcher(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		require.NoError(t, d.Do(ctx, func(ctx context.Context) error {
			defer cancel()
			return dispatch.Raise(ctx, customer, canceled{"x"})
		}))
		assert.Len(t, s.calls, 1)
	})
}

func TestANestedUnitBelongsToTheOuterOne(t *testing.T) {
	s := &sink{}
	d := dispatcher(t, s)
	kept := newOrder("kept", 0)
	require.NoError(t, d.Do(t.Context(), func(ctx context.Context) error {
		require.NoError(t, dispatch.Raise(ctx, customer, canceled{"1"}))
		require.ErrorIs(t, d.Do(ctx, func(ctx context.Context) error {
			kept.Record(placed{9})
			require.NoError(t, dispatch.Collect(ctx, kept))
			require.NoError(t, dispatch.Raise(ctx, customer, canceled{"dropped"}))
			return assert.AnError
		}), assert.AnError)
		require.NoError(t, d.Do(ctx, func(ctx context.Context) error {
			return dispatch.Raise(ctx, customer, canceled{"2"})
		}))
		assert.Empty(t, s.calls)
		return dispatch.Raise(ctx, customer, canceled{"3"})
	}))
	assert.Equal(t, []string{`c-1 {"reason":"1"}`, `c-1 {"reason":"2"}`, `c-1 {"reason":"3"}`}, s.data())
	assert.Len(t, kept.Recorded(), 1, "what the failed part recorded is not published and not cleared")

	other := &sink{}
	require.NoError(t, d.Do(t.Context(), func(ctx context.Context) error {
		return dispatcher(t, other).Do(ctx, func(ctx context.Context) error {
			return dispatch.Raise(ctx, customer, canceled{"elsewhere"})
		})
	}))
	assert.Len(t, other.calls, 1, "another dispatcher has units of its own")
	assert.Len(t, s.calls, 1)
}

func TestRaisingWithoutAUnitOfWorkIsAnError(t *testing.T) {
	d := dispatcher(t, &sink{})
	require.ErrorIs(t, dispatch.Raise(t.Context(), customer, canceled{}), dispatch.ErrNoUnit)
	require.ErrorContains(t, dispatch.Collect(t.Context(), newOrder("a", 0)), "call it inside Dispatcher.Do")
	var ended context.Context
	require.NoError(t, d.Do(t.Context(), func(ctx context.Context) error { ended = ctx; return nil })) //nolint:fatcontext // to use it too late
	require.ErrorIs(t, dispatch.Raise(ended, customer, canceled{}), dispatch.ErrNoUnit)
	require.ErrorIs(t, dispatch.Collect(ended, newOrder("a", 0)), dispatch.ErrNoUnit)
}

func TestWhatIsNoEventIsToldWhenItIsRaised(t *testing.T) {
	s := &sink{}
	d := dispatcher(t, s)
	err := d.Do(t.Context(), func(ctx context.Context) error {
		return dispatch.Raise(ctx, customer, unregistered{})
	})
	require.ErrorIs(t, err, event.ErrUnknownType)
	require.ErrorContains(t, err, `raise for customer "c-1"`)
	var invalid *event.InvalidError
	require.ErrorAs(t, d.Do(t.Context(), func(ctx context.Context) error {
		return dispatch.Raise(ctx, event.Aggregate{Type: "customer"}, canceled{})
	}), &invalid)
	assert.Empty(t, s.calls)
}

func TestConfigIsValidatedByNameAndWayOut(t *testing.T) {
	_, err := dispatch.New(dispatch.Config{PublishTimeout: -1})
	require.ErrorContains(t, err, "Catalog is nil")
	require.ErrorContains(t, err, "Sink is nil")
	require.ErrorContains(t, err, "PublishTimeout is -1ns")
}

func ExampleDispatcher_Do() {
	catalog, _ := event.NewCatalog(event.CatalogConfig{Source: "/orders"})
	_ = event.Register[placed](catalog, "order.placed", 1)
	d, err := dispatch.New(dispatch.Config{Catalog: catalog, Sink: printer{}}) // a *publisher.Publisher in a service
	if err != nil {
		fmt.Println(err)
		return
	}
	err = d.Do(context.Background(), func(ctx context.Context) error {
		o := newOrder("o-4711", 0)
		o.Record(placed{Total: 42})
		// ... store the order, and commit ...
		return dispatch.Collect(ctx, o)
	})
	fmt.Println(err)
	// Output:
	// order.placed o-4711 {"total":42}
	// <nil>
}

type printer struct{}

func (printer) Publish(_ context.Context, events ...event.Event) error {
	for _, e := range events {
		fmt.Println(e.Type(), e.Aggregate().ID, string(e.Data())) //nolint:forbidigo // the output of the example
	}
	return nil
}

func TestFailedInnerWorkDropsWhatCollectedAggregatesRecordedInIt(t *testing.T) {
	for name, again := range map[string]bool{"collected in it again": true, "only recorded": false} {
		t.Run(name, func(t *testing.T) {
			s := &sink{}
			d := dispatcher(t, s)
			o := newOrder("o", 0)
			fail := func(ctx context.Context, total int, inner func(context.Context)) {
				require.ErrorIs(t, d.Do(ctx, func(ctx context.Context) error {
					o.Record(placed{total})
					if again {
						require.NoError(t, dispatch.Collect(ctx, o))
					}
					inner(ctx)
					return assert.AnError
				}), assert.AnError)
			}
			none := func(context.Context) {}
			require.NoError(t, d.Do(t.Context(), func(ctx context.Context) error {
				o.Record(placed{1})
				require.NoError(t, dispatch.Collect(ctx, o))
				o.Record(placed{2}) // before the inner work, not yet taken
				fail(ctx, 90, none)
				o.Record(placed{3})
				fail(ctx, 91, func(ctx context.Context) { fail(ctx, 92, none) })
				require.NoError(t, d.Do(ctx, func(context.Context) error {
					o.Record(placed{4})
					fail(ctx, 93, none)
					return nil
				}))
				o.Record(placed{5})
				return nil
			}))
			assert.Equal(t, []string{`o {"total":1}`, `o {"total":2}`, `o {"total":3}`, `o {"total":4}`, `o {"total":5}`}, s.data())
			assert.Empty(t, o.Recorded())
		})
	}
}
