package integration

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver that the schema is made with
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/internal/testenv"
	"github.com/tidings-bus/tidings/publisher"
	"github.com/tidings-bus/tidings/schema"
)

// scene is what one suite works with: a topic, a database with a ledger in it,
// and processes.
type scene struct {
	t     *testing.T
	ctx   context.Context // ends with the suite's budget
	begun time.Time

	brokers  []string
	prefix   string // of the topic: TopicPrefix
	topic    string
	postgres string // URL
	dropIn   bool

	pool      *pgxpool.Pool
	admin     *kadm.Client
	processes []*process
}

// stage says what a scene stands on; the zero value is the shared containers.
type stage struct {
	brokers    []string
	postgres   string // URL of an empty database
	partitions int    // default: 3
	dropIn     bool   // members read by watermillkafka's subscriber
}

// newScene makes the topic and the database of a suite that has seconds to run.
func newScene(t *testing.T, st stage) *scene {
	t.Helper()
	if st.brokers == nil {
		st.brokers = testenv.Kafka(t)
	}
	s := ledgerOn(t, st.postgres)
	s.brokers, s.dropIn = st.brokers, st.dropIn
	s.prefix = testenv.Name("suite") + "."
	s.topic = s.prefix + aggregateType
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.brokers...))
	require.NoError(t, err)
	t.Cleanup(cl.Close)
	s.admin = kadm.NewClient(cl)
	s.createTopic(s.topic, st.partitions, nil)
	return s
}

// newLedger is a scene without Kafka.
func newLedger(t *testing.T) *scene { t.Helper(); return ledgerOn(t, "") }

func ledgerOn(t *testing.T, url string) *scene {
	t.Helper()
	if url == "" {
		url = testenv.Postgres(t)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), budget(t), fmt.Errorf("%s is over its budget of %v", t.Name(), budget(t)))
	t.Cleanup(cancel)
	s := &scene{t: t, ctx: ctx, begun: time.Now(), postgres: url}
	migrate(t, ctx, url)
	pool, err := pgxpool.New(ctx, url)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	s.pool = pool
	_, err = pool.Exec(ctx, ledgerSchema)
	require.NoError(t, err)
	return s
}

func migrate(t *testing.T, ctx context.Context, url string) {
	t.Helper()
	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	require.NoError(t, schema.MigratePostgres(ctx, db))
}

// createTopic makes a topic, and records its partition count; 0 stand for 3.
func (s *scene) createTopic(topic string, partitions int, settings map[string]string) {
	s.t.Helper()
	if partitions == 0 {
		partitions = 3
	}
	topics, err := publisher.NewTopics(publisher.TopicsConfig{Connection: s.connection()})
	require.NoError(s.t, err)
	defer func() { require.NoError(s.t, topics.Close()) }()
	require.NoError(s.t, topics.Create(s.ctx, publisher.TopicSpec{Name: topic, Partitions: partitions, Config: settings}))
}

// connection is how processes reach the open listener.
func (s *scene) connection() connection.Config {
	return connection.Config{Brokers: s.brokers, ClientID: "integration"}
}

// member starts a process of the consumer group. What m leaves out comes from
// the scene.
func (s *scene) member(m member) *process {
	s.t.Helper()
	m.Brokers, m.Topic, m.Postgres = s.brokers, s.topic, s.postgres
	m.DropIn = m.DropIn || s.dropIn
	p := start(s.t, roleMember, m.Name, m)
	s.processes = append(s.processes, p)
	return p
}

// producer starts a process that publishes the ledger's plan.
func (s *scene) producer(p producer) *process {
	s.t.Helper()
	p.Brokers, p.Prefix, p.Postgres = s.brokers, s.prefix, s.postgres
	proc := start(s.t, roleProducer, "producer", p)
	s.processes = append(s.processes, proc)
	return proc
}

// produce publishes the plan in a process and returns when it is done.
func (s *scene) produce(p producer) {
	s.t.Helper()
	s.producer(p).wait(s.t)
}

// await polls until the condition holds. It fails when the budget is spent, or
// when a process died that nobody killed. Errors of ask are answers like others:
// a broker or a database may just be away.
func (s *scene) await(what string, ask func(ctx context.Context) (done bool, state string, err error)) {
	s.t.Helper()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	state := "never asked"
	for {
		ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
		done, now, err := ask(ctx)
		cancel()
		if done && err == nil {
			return
		}
		if s.ctx.Err() == nil {
			state = now
			if err != nil {
				state = err.Error()
			}
		}
		for _, p := range s.processes {
			if err := p.fault(); err != nil {
				s.t.Fatalf("waiting until %s: %v", what, err)
			}
		}
		select {
		case <-s.ctx.Done():
			s.t.Fatalf("waiting until %s: %v; last answer: %s", what, context.Cause(s.ctx), state)
		case <-tick.C:
		}
	}
}

// awaitEffects waits for at least n effects that match the condition.
func (s *scene) awaitEffects(n int, condition string, args ...any) {
	s.t.Helper()
	s.await(fmt.Sprintf("%d effects are there of %s %v", n, condition, args), func(ctx context.Context) (bool, string, error) {
		found, err := s.effects(ctx, condition, args...)
		return found >= n, fmt.Sprintf("%d effects", found), err
	})
}

// awaitDrained waits until the group has applied the whole plan and its
// committed offsets are the topic's ends: nothing is on its way any more that
// could still be applied a second time.
func (s *scene) awaitDrained(group string) {
	s.t.Helper()
	s.await("group "+group+" has applied every event", func(ctx context.Context) (bool, string, error) {
		var missing int
		err := s.pool.QueryRow(ctx, `SELECT count(*) FROM taker t JOIN plan p USING (type) WHERE t.grp = $1 AND NOT EXISTS
			(SELECT FROM effect e WHERE e.grp = t.grp AND e.handler = t.handler AND e.event_id = p.event_id)`, group).Scan(&missing)
		if err != nil || missing > 0 {
			return false, fmt.Sprintf("%d effects missing", missing), err
		}
		return true, "", nil
	})
	s.await("group "+group+" has acknowledged every event", func(ctx context.Context) (bool, string, error) {
		lag, err := s.lag(ctx, group)
		return lag == 0, fmt.Sprintf("lag %d", lag), err
	})
}

// lag is how many offsets of the topic the group has not committed.
func (s *scene) lag(ctx context.Context, group string) (int64, error) {
	ends, err := s.admin.ListEndOffsets(ctx, s.topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return 0, err
	}
	committed, err := s.committed(ctx, group)
	if err != nil {
		return 0, err
	}
	var lag int64
	ends.Each(func(o kadm.ListedOffset) { lag += o.Offset - committed[o.Partition] })
	return lag, nil
}

// committed are the group's committed offsets by partition; 0 where there is none.
func (s *scene) committed(ctx context.Context, group string) (map[int32]int64, error) {
	fetched, err := s.admin.FetchOffsets(ctx, group)
	if err == nil {
		err = fetched.Error()
	}
	if err != nil {
		return nil, err
	}
	offsets := map[int32]int64{}
	fetched.Each(func(o kadm.OffsetResponse) {
		if o.Topic == s.topic {
			offsets[o.Partition] = o.At
		}
	})
	return offsets, nil
}

// produced is how many offsets the topic has.
func (s *scene) produced(ctx context.Context) (int, error) {
	ends, err := s.admin.ListEndOffsets(ctx, s.topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return 0, err
	}
	n := 0
	ends.Each(func(o kadm.ListedOffset) { n += int(o.Offset) })
	return n, nil
}

// awaitProduced waits until the topic holds at least n records.
func (s *scene) awaitProduced(n int) {
	s.t.Helper()
	s.await(fmt.Sprintf("%d records are published", n), func(ctx context.Context) (bool, string, error) {
		found, err := s.produced(ctx)
		return found >= n, fmt.Sprintf("%d records", found), err
	})
}

// failures counts the tries that failed on purpose, and the events concerned.
func (s *scene) failures(group string) (tries, events int) {
	s.t.Helper()
	require.NoError(s.t, s.pool.QueryRow(s.ctx,
		`SELECT count(*), count(DISTINCT (handler, event_id)) FROM failure WHERE grp = $1`, group).Scan(&tries, &events))
	return tries, events
}

// countRetried counts the effects that a later try than the first brought about:
// of handlers that had begun and were cut off, or failed.
func (s *scene) countRetried(ctx context.Context, group string) (n int, err error) {
	err = s.pool.QueryRow(ctx, `SELECT count(*) FROM (SELECT handler_id, attempts FROM tidings.inbox
		UNION ALL SELECT handler_id, attempts FROM tidings.inbox_other) i
		JOIN tidings.handler h ON h.id = i.handler_id WHERE h.grp = $1 AND i.attempts > 1`, group).Scan(&n)
	return n, err
}

func (s *scene) retried(group string) int {
	s.t.Helper()
	n, err := s.countRetried(s.ctx, group)
	require.NoError(s.t, err)
	return n
}

// members lists who has effects of the group.
func (s *scene) members(ctx context.Context, group, condition string) ([]string, error) {
	rows, err := s.pool.Query(ctx, `SELECT DISTINCT member FROM effect WHERE grp = $1 AND `+condition, group)
	if err != nil {
		return nil, err
	}
	var names []string
	var name string
	for rows.Next() {
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names, rows.Err()
}

// step notes how far the suite is.
func (s *scene) step(what string) {
	s.t.Helper()
	s.t.Logf("after %.1f s: %s", time.Since(s.begun).Seconds(), what)
}

// size picks the ordinary size, or the full one of a long run.
func size[T any](ordinary, full T) T {
	if testenv.Long() {
		return full
	}
	return ordinary
}
