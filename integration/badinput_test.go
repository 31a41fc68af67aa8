package integration

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/internal/testenv"
	"github.com/tidings-bus/tidings/publisher"
	"github.com/tidings-bus/tidings/schema"
	"github.com/tidings-bus/tidings/subscriber"
)

// requireSays checks an error's text: what was wrong, on what, and the way out.
func requireSays(t *testing.T, who string, err error, parts ...string) {
	t.Helper()
	require.Error(t, err, who)
	for _, part := range parts {
		require.ErrorContains(t, err, part, who)
	}
	t.Logf("the %s says: %v", who, err)
}

// What Kafka refuses is an error that says what to do, at once where waiting
// does not help.
func TestWhatKafkaRefusesIsAnErrorWithTheWayOut(t *testing.T) {
	s := newScene(t, stage{})
	one := plan("x", shape{1, 1})[0]

	t.Run("no brokers reachable", func(t *testing.T) {
		nobody := connection.Config{Brokers: []string{"127.0.0.1:1"}}
		err := s.publishError(nobody)
		require.ErrorIs(t, err, publisher.ErrUnreachable)
		require.ErrorIs(t, err, context.DeadlineExceeded, "the publisher tries until its context ends")
		requireSays(t, "publisher", err, "127.0.0.1:1", one.Type)
		requireSays(t, "subscriber", s.subscribeError(nobody), "no broker reachable", "127.0.0.1:1", "Connection.Brokers")
	})

	t.Run("topic missing", func(t *testing.T) {
		missing := testenv.Name("missing")
		begun := time.Now()
		err := s.publishOne(publisher.Config{
			Connection: s.connection(), TopicFor: func(event.Event) string { return missing },
		}, one)
		require.ErrorIs(t, err, publisher.ErrUnknownTopic)
		require.NotErrorIs(t, err, context.DeadlineExceeded, "%v of waiting for a topic that nobody makes", time.Since(begun))
		requireSays(t, "publisher", err, missing, "tidings topics create")
		err = s.subscribe(subscriber.Config{Connection: s.connection(), Group: "g"}, missing)
		require.ErrorIs(t, err, subscriber.ErrTopicMissing)
		requireSays(t, "subscriber", err, missing, "tidings topics create", "WaitForTopic")
	})

	t.Run("event too large", func(t *testing.T) {
		topic := testenv.Name("small")
		s.createTopic(topic, 1, map[string]string{"max.message.bytes": "4000"})
		pub, err := publisher.New(publisher.Config{Connection: s.connection(), TopicFor: func(event.Event) string { return topic }})
		require.NoError(t, err)
		defer func() { require.NoError(t, pub.Close(context.WithoutCancel(s.ctx))) }()
		catalog, err := newCatalog()
		require.NoError(t, err)
		raise := func(key, customer string, sequence int64) event.Event {
			e, err := catalog.Event(s.ctx, event.Raised{
				Aggregate: event.Aggregate{Type: aggregateType, ID: key}, Sequence: sequence, Payload: orderPlaced{Customer: customer},
			})
			require.NoError(t, err)
			return e
		}
		events := []event.Event{
			raise("a", "small", 1), raise("b", strings.Repeat("large", 2000), 1), raise("b", "small", 2), raise("c", "small", 1),
		}
		err = pub.Publish(s.ctx, events...)
		var failed *publisher.PublishError
		require.ErrorAs(t, err, &failed)
		require.ErrorIs(t, err, publisher.ErrTooLarge)
		requireSays(t, "publisher", err, events[1].ID().String(), topic, "max.message.bytes")
		require.Len(t, failed.Failed, 2, "the other keys' events are published")
		require.Equal(t, events[1].ID(), failed.Failed[0].Event.ID())
		require.Equal(t, events[2].ID(), failed.Failed[1].Event.ID(), "what follows under the key is held back (I2)")
		require.ErrorIs(t, failed.Failed[1].Err, publisher.ErrHeldBack)
		ends, err := s.admin.ListEndOffsets(s.ctx, topic)
		require.NoError(t, err)
		ends.Each(func(o kadm.ListedOffset) { require.EqualValues(t, 2, o.Offset, "records in the topic") })
		require.NoError(t, pub.Publish(s.ctx, events[2]), "later calls may proceed")
	})

	t.Run("topic grown by other hands", func(t *testing.T) {
		topic := testenv.Name("grown")
		s.createTopic(topic, 2, nil)
		config := publisher.Config{Connection: s.connection(), TopicFor: func(event.Event) string { return topic }}
		require.NoError(t, s.publishOne(config, one))
		grown, err := s.admin.UpdatePartitions(s.ctx, 5, topic)
		require.NoError(t, errors.Join(err, grown.Error()))
		s.await("the topic has grown", func(ctx context.Context) (bool, string, error) {
			topics, err := s.admin.ListTopics(ctx, topic)
			return err == nil && len(topics[topic].Partitions) == 5, "not yet", err
		})
		err = s.publishOne(config, one)
		require.ErrorIs(t, err, publisher.ErrPartitionsChanged)
		requireSays(t, "publisher", err, topic, "5", "2")
	})
}

// A database that cannot do is found out at start, before anything is read.
func TestAnUnfitDatabaseIsAnErrorWithTheWayOut(t *testing.T) {
	s := newScene(t, stage{})
	hs := every(0, 0)
	runs := func(url string) error {
		ctx, cancel := context.WithTimeout(s.ctx, 20*time.Second)
		defer cancel()
		m := member{Name: "a", Group: "billing", Handlers: hs, Brokers: s.brokers, Topic: s.topic, Postgres: url}
		return m.run(ctx)
	}
	with := func(raw string, change func(*url.URL)) string {
		u, err := url.Parse(raw)
		require.NoError(t, err)
		change(u)
		return u.String()
	}
	set := func(url, values string) {
		db, err := sql.Open("pgx", url)
		require.NoError(t, err)
		defer func() { require.NoError(t, db.Close()) }()
		_, err = db.ExecContext(s.ctx, `UPDATE tidings.meta SET `+values)
		require.NoError(t, err)
	}

	t.Run("not migrated", func(t *testing.T) {
		err := runs(testenv.Postgres(t))
		require.ErrorIs(t, err, schema.ErrNotMigrated)
		requireSays(t, "router", err, `handler "open"`, "tidings migrate", "schema.MigratePostgres")
	})
	t.Run("newer and incompatible", func(t *testing.T) {
		url := testenv.Postgres(t)
		migrate(t, s.ctx, url)
		set(url, `version = 99, oldest_binary = 98, oldest_release = '9.8.0'`)
		err := runs(url)
		require.ErrorIs(t, err, schema.ErrTooNew)
		requireSays(t, "router", err, `handler "open"`, "99", "upgrade this binary to release 9.8.0")
		db, err := sql.Open("pgx", url)
		require.NoError(t, err)
		defer func() { require.NoError(t, db.Close()) }()
		require.ErrorIs(t, schema.MigratePostgres(s.ctx, db), schema.ErrTooNew)
	})
	t.Run("newer and compatible is used", func(t *testing.T) {
		url := testenv.Postgres(t)
		migrate(t, s.ctx, url)
		set(url, `version = 99, oldest_release = '9.8.0'`)
		db, err := sql.Open("pgx", url)
		require.NoError(t, err)
		defer func() { require.NoError(t, db.Close()) }()
		require.NoError(t, schema.CheckPostgres(s.ctx, db))
		require.NoError(t, schema.MigratePostgres(s.ctx, db))
	})
	t.Run("database does not exist", func(t *testing.T) {
		requireSays(t, "router", runs(with(s.postgres, func(u *url.URL) { u.Path = "/nowhere" })), `handler "open"`, `"nowhere"`, "does not exist")
	})
	t.Run("wrong password", func(t *testing.T) {
		err := runs(with(s.postgres, func(u *url.URL) { u.User = url.UserPassword("postgres", "hunter2") }))
		requireSays(t, "router", err, `handler "open"`, "password authentication failed", "postgres")
		require.NotContains(t, err.Error(), "hunter2")
	})
	t.Run("nobody listens", func(t *testing.T) {
		err := runs(with(s.postgres, func(u *url.URL) { u.Host = "127.0.0.1:1" }))
		requireSays(t, "router", err, `handler "open"`, "127.0.0.1:1", "refused")
		require.NotContains(t, err.Error(), "postgres:postgres")
	})
	t.Run("no URL", func(t *testing.T) {
		requireSays(t, "pool", runs("postgres://%zz"), "URL")
	})
}
