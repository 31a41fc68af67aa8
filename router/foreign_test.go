package router

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// messageOf is the watermill form of a record.
func messageOf(rec event.KafkaRecord) *message.Message {
	m := message.NewMessage("", rec.Value)
	for _, h := range rec.Headers {
		m.Metadata.Set(h.Key, string(h.Value))
		if h.Key == "ce_id" {
			m.UUID = string(h.Value)
		}
	}
	m.Metadata.Set(metadataKey, string(rec.Key))
	return m
}

// foreignRig is a router on watermill's gochannel, which knows no lanes and
// brings a refused message again at once.
func foreignRig(t *testing.T, cfg Config, hs ...handlers.Handler) (*rig, *gochannel.GoChannel) {
	t.Helper()
	channel := gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, watermill.NopLogger{})
	g := &rig{logs: &logBook{}, done: make(chan error, 1)}
	cfg.Group, cfg.Catalog = "billing", newCatalog(t)
	cfg.Logger = slog.New(slog.NewJSONHandler(g.logs, nil))
	r, err := New(cfg)
	require.NoError(t, err)
	g.Router = r
	require.NoError(t, r.Subscribe(Subscription{Topic: "orders", Subscriber: channel, Handlers: hs}))
	t.Cleanup(func() { require.NoError(t, channel.Close()) })
	return g.start(t), channel
}

func TestAnyWatermillSubscriberWillDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		var place inbox.Place
		box := &memInbox{id: "db", answer: func(a inbox.Admission) (inbox.Answer, error) { place = a.Place; return inbox.Fresh, nil }}
		g, channel := foreignRig(t, Config{}, inTx("charge", box, &j))
		require.NoError(t, channel.Publish("orders", messageOf(placedRecord(t))))
		require.Equal(t, []string{"charge"}, j.all())
		require.Equal(t, inbox.Place{Topic: "orders", Partition: -1, Offset: -1, Key: []byte("o-1")}, place)
		require.NoError(t, g.end())
	})
}

func TestPlaceComesFromTheSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		var place inbox.Place
		box := &memInbox{id: "db", answer: func(a inbox.Admission) (inbox.Answer, error) { place = a.Place; return inbox.Fresh, nil }}
		channel := gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, watermill.NopLogger{})
		r, err := New(Config{Group: "billing", Catalog: newCatalog(t), Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		require.NoError(t, r.Subscribe(Subscription{
			Topic: "orders", Subscriber: channel, Handlers: []handlers.Handler{inTx("charge", box, &j)},
			Place: func(context.Context) (int32, int64, bool) { return 4, 99, true },
		}))
		g := (&rig{Router: r, done: make(chan error, 1)}).start(t)
		require.NoError(t, channel.Publish("orders", messageOf(placedRecord(t))))
		require.Equal(t, inbox.Place{Topic: "orders", Partition: 4, Offset: 99, Key: []byte("o-1")}, place)
		require.NoError(t, g.end())
		require.NoError(t, channel.Close())
	})
}

func TestWithoutLanesFinishedHandlersAreRememberedAndDelaysWaitedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		g, channel := foreignRig(t, Config{SlowRetry: time.Minute}, onPlaced("a", &j, nil), onPlaced("b", &j, failTimes(3)))
		began := time.Now()
		require.NoError(t, channel.Publish("orders", messageOf(placedRecord(t))))
		require.Equal(t, []string{"a", "b", "b", "b", "b"}, j.all())
		require.Greater(t, time.Since(began), 48*time.Second, "two short delays and a slow one")
		require.Len(t, g.logs.lines(slog.LevelError), 1, "held once")
		require.Empty(t, g.Held())
		require.Empty(t, g.memory.messages, "finished is forgotten")
		require.NoError(t, g.end())
	})
}

func TestUnfinishedMessagesOfOnePayloadDoNotShareProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		fails := handlers.On("b", func(_ context.Context, e event.Of[placed]) error {
			if e.Aggregate().ID == "o-1" {
				return errors.New("no")
			}
			j.add("b " + e.Aggregate().ID)
			return nil
		}).With(handlers.Settings{Tries: 3, MinBackoff: time.Second, MaxBackoff: time.Second})
		applies := handlers.On("a", func(_ context.Context, e event.Of[placed]) error {
			j.add("a " + e.Aggregate().ID)
			return nil
		})
		g, _ := foreignRig(t, Config{}, applies, fails)
		first := messageOf(record(t, "order.placed", "o-1", 1, placed{}))
		second := messageOf(record(t, "order.placed", "o-2", 1, placed{}))
		first.UUID, second.UUID = "1", "1" // of two sources: an id is unique only with its source
		require.Error(t, g.subs[0].handle(first))
		require.NoError(t, g.subs[0].handle(second))
		require.Equal(t, []string{"a o-1", "a o-2", "b o-2"}, j.all())
		require.NoError(t, g.end())
	})
}

func TestUndecodableMessageWithoutUUIDIsHeldWithoutLanesToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		g, channel := foreignRig(t, Config{}, onPlaced("a", &j, nil))
		go func() { _ = channel.Publish("orders", message.NewMessage("", []byte("garbage"))) }()
		time.Sleep(10 * time.Minute)
		require.Len(t, g.logs.lines(slog.LevelError), 1)
		require.Equal(t, "undecodable", g.Held()[0].Reason)
		require.NoError(t, g.end(), "a held message does not hold the stop")
	})
}

func TestStopDoesNotCancelHandlersOfSubscribersThatCancelTheirMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		started, release := make(chan struct{}), make(chan struct{})
		var ended error
		h := handlers.On("a", func(ctx context.Context, _ event.Of[placed]) error {
			close(started)
			<-release
			ended = ctx.Err()
			return ctx.Err()
		})
		g, channel := foreignRig(t, Config{}, h)
		msg := messageOf(placedRecord(t))
		go func() { _ = channel.Publish("orders", msg) }()
		<-started
		g.stop()
		time.Sleep(10 * time.Second)
		close(release)
		require.NoError(t, <-g.done)
		require.NoError(t, ended)
	})
}

// I8.
func TestI8MemoryOfUnfinishedMessagesIsBounded(t *testing.T) {
	m := memory{limit: 3}
	key := func(i int) memoryKey { return memoryKey{topic: "t", id: strconv.Itoa(i)} }
	for i := range 100 {
		m.keep(key(i), &progress{})
		m.keep(key(i), &progress{}) // again: no second place in the queue
		require.LessOrEqual(t, len(m.messages), 3)
		require.LessOrEqual(t, len(m.oldest), 7)
	}
	require.Nil(t, m.recall(key(96)), "the oldest went")
	p := m.recall(key(99))
	require.NotNil(t, p)
	require.Nil(t, m.recall(key(99)), "one attempt at a time uses it")
	m.keep(key(99), p)
	require.Same(t, p, m.recall(key(99)))
	for i := range 1000 {
		m.keep(key(i), &progress{})
		m.forget(key(i))
		require.LessOrEqual(t, len(m.oldest), 7)
	}
}

func TestWarningsOfOneHandlerAreThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var th throttle
		passed, unlogged := 0, int64(0)
		for range 1000 {
			if n, ok := th.pass(time.Now()); ok {
				passed++
				unlogged += n
			}
			time.Sleep(time.Millisecond)
		}
		require.Equal(t, 10, passed)
		require.EqualValues(t, 891, unlogged)
	})
}
