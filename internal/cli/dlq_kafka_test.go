package cli_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/deadletter/kafkastore"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/internal/cli"
	"github.com/tidings-bus/tidings/router"
	"github.com/tidings-bus/tidings/subscriber"
)

// The same commands are for a group that parks in Kafka.
func TestWhatIsParkedInKafkaIsListedRetriedAndDiscarded(t *testing.T) {
	b := newBilling(t)
	r := run(t, "", "dlq", "list", "--brokers", b.conn.Brokers[0])
	require.Equal(t, cli.ExitFailed, r.code)
	require.Contains(t, r.stderr, "no group parks here (there is no topic tidings.parked.*); is what you look for in a database? say --postgres or --sqlite\n")

	var (
		mended atomic.Bool
		sent   atomic.Int64
	)
	log := slog.New(slog.DiscardHandler)
	store, err := kafkastore.New(kafkastore.Config{Connection: b.conn, Group: "mails", Logger: log})
	require.NoError(t, err)
	sub, err := subscriber.New(subscriber.Config{Connection: b.conn, Group: "mails", Logger: log})
	require.NoError(t, err)
	m, err := router.New(router.Config{Group: "mails", Catalog: b.catalog, Logger: log, DeadLetters: router.DeadLetters{Poll: 20 * time.Millisecond}})
	require.NoError(t, err)
	require.NoError(t, m.Subscribe(router.Subscription{Topic: "order", Subscriber: sub, Handlers: []handlers.Handler{
		handlers.On("mail", func(context.Context, event.Of[paid]) error {
			if !mended.Load() {
				return errors.New("no mail server")
			}
			sent.Add(1)
			return nil
		}).ParkIn(store).With(handlers.Settings{Tries: 1}),
	}}))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	defer func() {
		cancel()
		require.NoError(t, <-ended)
		require.NoError(t, sub.Close())
	}()
	b.pays("o-1", 1, 1, 2)
	b.pays("o-2", 1, 1)
	list := func(args ...string) (events int64) {
		keys := decode[struct{ Keys []parkedKey }](t, ok(t, "", append([]string{"dlq", "list", "--by", "key", "--json", "--brokers", b.conn.Brokers[0], "--group", "mails"}, args...)...))
		for _, k := range keys.Keys {
			require.Equal(t, []string{"mail", "no mail server"}, []string{k.Handler, k.Error})
			events += k.Events
		}
		return events
	}
	require.Eventually(t, func() bool {
		return run(t, "", "dlq", "list", "--brokers", b.conn.Brokers[0]).code == 0 && list() == 3
	}, 30*time.Second, 50*time.Millisecond)

	r = run(t, "", "dlq", "list", "--brokers", b.conn.Brokers[0], "--group", "mail")
	require.Equal(t, "tidings: group \"mail\" parks nothing in Kafka: there is no topic tidings.parked.mail; did you mean \"mails\"?\n", r.stderr)
	mended.Store(true)
	at := []string{"--brokers", b.conn.Brokers[0], "--group", "mails"}
	r = run(t, "", append([]string{"dlq", "retry", "--key", "o-1"}, at...)...)
	require.Zero(t, r.code, r.stderr)
	require.Equal(t, "request 1 is done: 1 of 1 key drained; 2 events applied\n", r.stdout)
	require.EqualValues(t, 2, sent.Load())
	require.Contains(t, ok(t, "", append([]string{"dlq", "discard", "--key", "o-2", "--reason", "r", "--yes"}, at...)...), "discarded 1 event of key o-2")
	require.Zero(t, list())
	require.EqualValues(t, 2, sent.Load())
}
