package integration

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/internal/testenv"
)

// A transactional producer of another make commits some of its transactions and
// aborts others. What was aborted reaches no handler, and the group's offsets
// pass over it and over the control records.
func TestAbortedTransactionsReachNoHandlerAndHoldNothingUp(t *testing.T) {
	s := newScene(t, stage{partitions: 2})
	const rounds, perRound = 12, 20
	committed := plan("o", shape{perRound, rounds})
	aborted := plan("aborted", shape{perRound, rounds})
	s.expect(committed)
	hs := every(0, 0)
	s.takes("billing", hs)
	a := s.member(member{Name: "a", Group: "billing", Handlers: hs})

	catalog, err := newCatalog()
	require.NoError(t, err)
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.brokers...), kgo.TransactionalID(testenv.Name("tx")))
	require.NoError(t, err)
	defer cl.Close()
	transact := func(end kgo.TransactionEndTry, events ...planned) {
		require.NoError(t, cl.BeginTransaction())
		for _, p := range events {
			require.NoError(t, cl.ProduceSync(s.ctx, s.record(catalog, p)).FirstErr())
		}
		require.NoError(t, cl.EndTransaction(s.ctx, end))
	}
	for round := range rounds {
		from, to := round*perRound, (round+1)*perRound
		if round%2 == 0 {
			transact(kgo.TryAbort, aborted[from:to]...)
		}
		transact(kgo.TryCommit, committed[from:to]...)
		if round%2 == 1 {
			transact(kgo.TryAbort, aborted[from:to]...)
		}
	}
	// The last transaction is an aborted one: its records and its marker are all
	// that stands at the end of the log.
	s.awaitDrained("billing")
	a.stop(t)
	s.requireEffectsOnce("billing")
	n, err := s.effects(s.ctx, "aggregate LIKE 'aborted%'")
	require.NoError(t, err)
	require.Zero(t, n, "effects of aborted transactions")

	// A successor starts behind all of it, and goes on.
	next := plan("later", shape{10, 3})
	s.expect(next)
	b := s.member(member{Name: "b", Group: "billing", Handlers: hs})
	transact(kgo.TryCommit, next...)
	s.awaitDrained("billing")
	b.stop(t)
	s.requireEffectsOnce("billing")
}

// record makes the Kafka record of an event, for producers that are not ours.
func (s *scene) record(catalog *event.Catalog, p planned) *kgo.Record {
	s.t.Helper()
	e, err := p.event(context.WithoutCancel(s.ctx), catalog)
	require.NoError(s.t, err)
	return rawRecord(s.topic, event.ToKafka(e))
}

func rawRecord(topic string, k event.KafkaRecord) *kgo.Record {
	r := &kgo.Record{Topic: topic, Key: k.Key, Value: k.Value}
	for _, h := range k.Headers {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	return r
}
