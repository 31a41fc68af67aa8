package router

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
)

func TestConfigErrorsNameTheFieldAndWhatWouldDo(t *testing.T) {
	catalog := newCatalog(t)
	for _, c := range []struct {
		cfg  Config
		text string
	}{
		{Config{Catalog: catalog}, "router: Group is empty: name the consumer group, the same that the subscribers read as"},
		{Config{Group: "g"}, "router: Catalog is nil: make one with event.NewCatalog and register the group's event types"},
		{Config{Group: "g", Catalog: catalog, UnknownTypes: 7}, "router: UnknownTypes is 7: use Skip or Refuse"},
		{Config{Group: "g", Catalog: catalog, Remember: -1}, "router: Remember is -1: use 1 or more, or 0 for the default of 10000"},
		{Config{Group: "g", Catalog: catalog, SlowRetry: -1}, "router: SlowRetry is -1ns: use a positive duration, or 0 for the default"},
		{Config{Group: "g", Catalog: catalog, Outage: Outage{Keys: 33}}, "router: Outage.Keys is 33: use 1 to 32, or 0 for 10"},
		{Config{Group: "g", Catalog: catalog, Outage: Outage{First: -1}}, "router: Outage.First is -1ns: use a positive duration, or 0 for 1s"},
		{Config{Group: "g", Catalog: catalog, Outage: Outage{Longest: -1}}, "router: Outage.Longest is -1ns: use a positive duration, or 0 for 30s"},
		{Config{Group: "g", Catalog: catalog, Outage: Outage{First: 2, Longest: 1}}, "router: Outage.First is 2ns, above Outage.Longest 1ns: lower the first or raise the second"},
		{Config{Group: "g", Catalog: catalog, StopTimeout: -time.Second}, "router: StopTimeout is -1s: use a positive duration, or 0 for the default"},
		{Config{Group: "g", Catalog: catalog, StopGrace: -time.Second}, "router: StopGrace is -1s: use a positive duration, or 0 for the default"},
	} {
		_, err := New(c.cfg)
		require.EqualError(t, err, c.text)
	}
}

func TestSubscriptionErrorsNameTheFieldAndWhatWouldDo(t *testing.T) {
	var j journal
	h := onPlaced("h", &j, nil)
	sub := &memSubscriber{}
	for _, c := range []struct {
		s    Subscription
		text string
	}{
		{Subscription{Subscriber: sub, Handlers: []handlers.Handler{h}}, "router: Subscription.Topic is empty: name the topic to read"},
		{Subscription{Topic: "t", Handlers: []handlers.Handler{h}}, `router: Subscription.Subscriber is nil for topic "t": give a watermill message.Subscriber, such as subscriber.New's`},
		{Subscription{Topic: "t", Subscriber: sub}, `router: Subscription.Handlers is empty for topic "t": without a handler every message would be acknowledged unhandled`},
		{Subscription{Topic: "t", Subscriber: sub, Handlers: []handlers.Handler{nil}}, `router: Subscription.Handlers[0] is nil for topic "t"`},
		{Subscription{Topic: "t", Subscriber: sub, Handlers: []handlers.Handler{onPlaced("", &j, nil)}}, `router: Subscription.Handlers[0] has no name for topic "t": its inbox goes by its name`},
		{Subscription{Topic: "orders", Subscriber: sub, Handlers: []handlers.Handler{h}}, `router: topic "orders" is subscribed twice in group "billing": list all its handlers in one Subscription, so that a message is finished when all of them are`},
		{Subscription{Topic: "t", Subscriber: sub, Handlers: []handlers.Handler{h, onPlaced("charge", &j, nil)}}, `router: handler name "charge" is used twice in group "billing": first for topic "orders", again for topic "t": a handler's inbox goes by its name, give each its own`},
		{Subscription{Topic: "t", Subscriber: sub, Handlers: []handlers.Handler{h, h}}, `router: handler name "h" is used twice in group "billing": first for topic "t", again for topic "t": a handler's inbox goes by its name, give each its own`},
	} {
		g := newRig(t, Config{}, onPlaced("charge", &j, nil))
		require.EqualError(t, g.Subscribe(c.s), c.text)
		require.Len(t, g.subs, 1)
	}
	g := newRig(t, Config{}, onPlaced("charge", &j, nil))
	require.Error(t, g.Subscribe(Subscription{Topic: "t", Subscriber: sub, Handlers: []handlers.Handler{h, onPlaced("charge", &j, nil)}}))
	require.NoError(t, g.Subscribe(Subscription{Topic: "t", Subscriber: sub, Handlers: []handlers.Handler{h}}), "a refused subscription leaves no name taken")
}

func TestRunRefusesWhatCannotWork(t *testing.T) {
	var j journal
	notThere := &memInbox{id: "db", check: errors.New(`table tidings_inbox does not exist: run "tidings migrate"`)}
	for _, c := range []struct {
		name    string
		handler handlers.Handler
		text    string
	}{
		{
			"type not registered",
			handlers.On("ship", func(context.Context, event.Of[shipped]) error { return nil }),
			`router: binding handler "ship" of topic "orders" in group "billing": bind handler "ship": it takes router.shipped, which is not in the catalog; register it: event.Register[router.shipped](catalog, name, version): unknown event type: Go type router.shipped is not registered: register it in the catalog at start`,
		},
		{
			"inbox not migrated", inTx("charge", notThere, &j),
			`router: binding handler "charge" of topic "orders" in group "billing": bind handler "charge": check its inbox: table tidings_inbox does not exist: run "tidings migrate"`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newRig(t, Config{}, c.handler)
			require.EqualError(t, g.Run(t.Context()), c.text)
			require.ErrorContains(t, g.Ready(t.Context()), "has stopped")
			require.EqualError(t, g.Run(t.Context()), `router: running group "billing": Run was called before; make a new router`)
		})
	}
	r, err := New(Config{Group: "billing", Catalog: newCatalog(t)})
	require.NoError(t, err)
	require.EqualError(t, r.Run(t.Context()), `router: running group "billing": no subscription: add them with Subscribe`)
}

func TestARouterMadeAgainCountsOn(t *testing.T) {
	reg := prometheus.NewRegistry()
	cfg := Config{Group: "billing", Catalog: newCatalog(t), Metrics: reg}
	first, err := New(cfg)
	require.NoError(t, err)
	second, err := New(cfg)
	require.NoError(t, err)
	require.Same(t, first.met.events, second.met.events)
	cfg.Group = "shipping"
	other, err := New(cfg)
	require.NoError(t, err, "two groups in one process")
	require.NotSame(t, first.met.events, other.met.events)

	clash := prometheus.NewRegistry()
	clash.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "tidings_router_events_total", Help: "another's"}))
	cfg.Metrics = clash
	_, err = New(cfg)
	require.ErrorContains(t, err, "router: registering metrics: ")
}
