package kafkastore_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/deadletter/kafkastore"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/router"
	"github.com/tidings-bus/tidings/subscriber"
)

type step struct{ N int }

// service is a group's member as users wire it: a subscriber, a router, and a
// plain handler that parks in Kafka. It returns what stops it.
func service(t *testing.T, c *kfake.Cluster, e *effects, catalog *event.Catalog) (store *kafkastore.Store, stop func()) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	store, err := kafkastore.New(config(c))
	require.NoError(t, err)
	sub, err := subscriber.New(subscriber.Config{Connection: connection.Config{Brokers: c.ListenAddrs()}, Group: group, Logger: log})
	require.NoError(t, err)
	r, err := router.New(router.Config{
		Group: group, Catalog: catalog, Logger: log,
		DeadLetters: router.DeadLetters{Poll: 20 * time.Millisecond},
	})
	require.NoError(t, err)
	h := handlers.On(charge, func(_ context.Context, o event.Of[step]) error {
		return e.handle(o.Aggregate().ID, o.Payload.N)
	}).ParkIn(store).With(handlers.Settings{Tries: 2, MinBackoff: time.Millisecond})
	require.NoError(t, r.Subscribe(router.Subscription{Topic: topic, Subscriber: sub, Handlers: []handlers.Handler{h}}))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	return store, func() {
		cancel()
		require.NoError(t, <-ended)
		require.NoError(t, sub.Close())
	}
}

// I6 on the whole path, without any database: poisoned keys park, others flow;
// a member that takes over keeps the order; mended and asked for, the parked
// ones drain, and newly arriving events flow directly again.
func TestI6AGroupWithoutADatabaseParksAndDrains(t *testing.T) {
	const keys, each = 30, 12
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, topic), kfake.GroupMinSessionTimeout(time.Second))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	poisoned := func(k int) bool { return k%5 == 0 }
	bad := map[string]bool{}
	for k := range keys {
		bad[name(k)] = poisoned(k)
	}
	e := &effects{t: t, by: map[string][]int{}, running: map[string]bool{}, poison: func(key string, n int) bool { return bad[key] && n == 2 }}
	catalog, err := event.NewCatalog(event.CatalogConfig{Source: "/shop"})
	require.NoError(t, err)
	require.NoError(t, event.Register[step](catalog, "order.stepped", 1))
	writer, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	require.NoError(t, err)
	t.Cleanup(writer.Close)
	publish := func(from, to int) {
		for n := from; n < to; n++ {
			for k := range keys {
				made, err := catalog.Event(t.Context(), event.Raised{Aggregate: event.Aggregate{Type: topic, ID: name(k)}, Sequence: int64(n + 1), Payload: step{N: n}})
				require.NoError(t, err)
				rec := event.ToKafka(made)
				r := &kgo.Record{Topic: topic, Key: rec.Key, Value: rec.Value}
				for _, h := range rec.Headers {
					r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
				}
				writer.Produce(t.Context(), r, nil)
			}
		}
		require.NoError(t, writer.Flush(t.Context()))
	}
	publish(0, each/2)
	_, stop := service(t, c, e, catalog)
	const stopped = 2 * keys / 5 // effects of the poisoned keys: the two before the poison
	direct := func(n int) int { return n*keys*4/5 + stopped }
	require.Eventually(t, func() bool { return e.done() == direct(each/2) }, 30*time.Second, 5*time.Millisecond)
	stop()

	publish(each/2, each-2)
	store, stop := service(t, c, e, catalog)
	defer stop()
	require.Eventually(t, func() bool { return e.done() == direct(each-2) }, 30*time.Second, 5*time.Millisecond)
	var parked []deadletter.Count
	require.Eventually(t, func() bool {
		parked, err = store.Letters().Count(t.Context(), deadletter.Filter{}, deadletter.ByCause)
		return err == nil && len(parked) == 1 && parked[0].Events == (each-4)*keys/5
	}, 30*time.Second, 5*time.Millisecond, "behind the failed events wait the later ones")
	require.Equal(t, int64(keys/5), parked[0].Keys)
	require.Equal(t, "error", parked[0].Group[deadletter.ByCause])

	e.mend()
	q, err := store.Letters().Ask(t.Context(), deadletter.Request{Group: group, Kind: deadletter.RequestRetry}, ann)
	require.NoError(t, err)
	publish(each-2, each) // while they drain
	require.Eventually(t, func() bool { return e.done() >= keys*each }, 30*time.Second, 5*time.Millisecond)
	require.Eventually(t, func() bool {
		q, err = store.Letters().Request(t.Context(), q.ID)
		return err == nil && q.State == deadletter.Done
	}, 10*time.Second, 5*time.Millisecond)
	require.Equal(t, int64(keys/5), q.KeysDone)
	e.exact(keys, each)
	_, err = store.Letters().Ask(t.Context(), deadletter.Request{Group: group, Kind: deadletter.RequestRetry}, ann)
	require.ErrorIs(t, err, deadletter.ErrNotFound, "nothing is parked")
}

func TestParkInBesideRememberAndWithoutAPlaceIsRefused(t *testing.T) {
	catalog, err := event.NewCatalog(event.CatalogConfig{Source: "/shop"})
	require.NoError(t, err)
	require.NoError(t, event.Register[step](catalog, "order.stepped", 1))
	store, err := kafkastore.New(config(newCluster(t)))
	require.NoError(t, err)
	h := handlers.On(charge, func(context.Context, event.Of[step]) error { return nil })
	for _, wrong := range []handlers.Handler{h.Remember(store).ParkIn(store), h.ParkIn(store).Remember(store), h.ParkIn(nil)} {
		_, err = wrong.Bind(t.Context(), handlers.Binding{Group: group, Catalog: catalog})
		require.ErrorContains(t, err, "ParkIn")
	}
	bound, err := h.ParkIn(store).Bind(t.Context(), handlers.Binding{Group: group, Catalog: catalog})
	require.NoError(t, err)
	require.Same(t, store.Letters(), bound.Letters())
}
