package kafkastore_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/deadletter/kafkastore"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const (
	group  = "billing"
	topic  = "order"
	charge = "charge"
)

var handler = inbox.Handler{Group: group, Name: charge}

var behind = inbox.Failure{Cause: inbox.CauseBehind}

func failed(why string) inbox.Failure {
	return inbox.Failure{Cause: inbox.CauseError, Error: why, Attempts: 5, First: time.Now(), Last: time.Now()}
}

func newCluster(t testing.TB) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func config(c *kfake.Cluster) kafkastore.Config {
	return kafkastore.Config{
		Connection: connection.Config{Brokers: c.ListenAddrs()},
		Group:      group,
		Timeout:    5 * time.Second,
		Logger:     slog.New(slog.DiscardHandler),
	}
}

// member is a store as one process has it, running until stop.
type member struct {
	*kafkastore.Store

	t    testing.TB
	stop func()
}

func newMember(t testing.TB, c *kfake.Cluster) *member {
	t.Helper()
	return start(t, config(c))
}

func start(t testing.TB, c kafkastore.Config) *member {
	t.Helper()
	s, err := kafkastore.New(c)
	require.NoError(t, err)
	return run(t, s)
}

// run runs s until the end of the test, or stop.
func run(t testing.TB, s *kafkastore.Store) *member {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var once sync.Once
	m := &member{Store: s, t: t, stop: func() {
		once.Do(func() {
			cancel()
			require.NoError(t, <-done)
		})
	}}
	t.Cleanup(m.stop)
	return m
}

var offsets atomic.Int64

// admission returns one of a new event.
func admission(key, value string) inbox.Admission {
	return inbox.Admission{
		Handler: handler, EventID: uuid.Must(uuid.NewV7()), Type: "order.placed", Source: "/shop",
		AggregateType: topic, AggregateID: key, Sequence: 7,
		Place: inbox.Place{Topic: topic, Partition: 3, Offset: offsets.Add(1), Key: []byte(key)},
		Message: &inbox.Message{
			Record: event.KafkaRecord{
				Key: []byte(key), Value: []byte(value),
				Headers: []event.KafkaHeader{{Key: "ce_type", Value: []byte("order.placed")}, {Key: "null"}},
			},
			Time: time.UnixMilli(1_700_000_000_000).UTC(),
		},
	}
}

func (m *member) park(a inbox.Admission, f inbox.Failure) {
	m.t.Helper()
	answer, err := m.Park(m.t.Context(), a, f)
	require.NoError(m.t, err)
	require.Equal(m.t, inbox.Parked.String(), answer.String())
}

func (m *member) look(a inbox.Admission, want inbox.Answer) {
	m.t.Helper()
	answer, err := m.Look(m.t.Context(), a)
	require.NoError(m.t, err)
	require.Equal(m.t, want.String(), answer.String())
}

// line parks events of a key: the first has failed, the others wait behind it.
func (m *member) line(key string, values ...string) {
	m.t.Helper()
	f := failed("no")
	for _, v := range values {
		m.park(admission(key, v), f)
		f = behind
	}
}

// parked lists the values of all that is parked, by key.
func (m *member) parked() map[string][]string {
	m.t.Helper()
	values := map[string][]string{}
	for _, l := range m.all() {
		values[string(l.Place.Key)] = append(values[string(l.Place.Key)], string(l.Record.Value))
	}
	return values
}

// all lists all letters, key by key in order.
func (m *member) all() []deadletter.Letter {
	m.t.Helper()
	keys, err := m.Letters().Keys(m.t.Context(), deadletter.Filter{}, 0, deadletter.MaxPage)
	require.NoError(m.t, err)
	var all []deadletter.Letter
	for _, k := range keys {
		for after := int64(0); ; {
			page, err := m.Letters().Letters(m.t.Context(), k.ID, after, 100)
			require.NoError(m.t, err)
			if len(page) == 0 {
				break
			}
			all = append(all, page...)
			after = page[len(page)-1].ID
		}
	}
	return all
}

// retry returns the admission of a letter's retry.
func retry(l *deadletter.Letter) inbox.Admission {
	return inbox.Admission{
		Handler: l.Handler, Place: l.Place, EventID: l.EventID, Type: l.Type, Letter: l.ID,
		Message: &inbox.Message{Record: l.Record, Time: l.Time},
	}
}

var ann = deadletter.Act{Who: "ann", Reason: "because"}

func name(i int) string { return fmt.Sprintf("k%d", i) }
