package router_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/internal/testenv"
	"github.com/tidings-bus/tidings/router"
	"github.com/tidings-bus/tidings/subscriber"
)

type noted struct{ Text string }

// logged is a record of the model's log, and what a batch handler does with it.
type logged struct {
	record  *kgo.Record
	name    string // of the event: key and a number, unique
	sorted  bool   // it is an event that the handler takes
	event   event.Event
	flaky   bool // fails at its first tries
	poison  bool // fails for good
	garbage bool // cannot be decoded
}

// batchModel says what must become of a log, key by key: no more than the words
// of the documentation, one record after the other.
type batchModel struct {
	applied, parked map[string][]string // by key, in order
	known           map[string]bool
	last            map[string]int64
}

func (m *batchModel) take(l *logged) {
	key := string(l.record.Key)
	held := key != "" && len(m.parked[key]) > 0
	switch {
	case !l.sorted && !l.garbage: // of a type that nobody takes
	case m.known[l.name]: // published twice
	case l.garbage || held || l.poison || key != "" && l.event.Sequence() > 0 && l.event.Sequence() <= m.last[key]:
		m.known[l.name] = true
		m.parked[key] = append(m.parked[key], l.name)
	default:
		m.known[l.name] = true
		m.applied[key] = append(m.applied[key], l.name)
		if l.event.Sequence() > 0 {
			m.last[key] = l.event.Sequence()
		}
	}
}

// randomLog makes records of every kind.
func (p *path) randomLog(t *testing.T, random *rand.Rand, n int) []*logged {
	t.Helper()
	var log []*logged
	next := map[string]int64{}
	for i := range n {
		if i > 0 && random.IntN(15) == 0 {
			log = append(log, log[random.IntN(len(log))])
			continue
		}
		key := fmt.Sprintf("o-%d", random.IntN(12))
		l := &logged{name: fmt.Sprintf("%s#%d", key, i), sorted: true}
		next[key]++
		raised := event.Raised{Aggregate: event.Aggregate{Type: "order", ID: key}, Sequence: next[key], Time: time.Now(), Payload: step{N: i}}
		switch random.IntN(40) {
		case 0, 1, 2:
			l.sorted, raised.Payload = false, noted{Text: "of no interest"}
		case 3, 4:
			l.flaky = true
		case 5:
			l.poison = key == "o-1" || key == "o-2"
		case 6:
			l.garbage = key == "o-3"
		case 7:
			if key == "o-4" && next[key] > 3 {
				raised.Sequence -= 2 // late
			}
		case 8:
			raised.Sequence = 0
		}
		var err error
		l.event, err = p.catalog.Event(t.Context(), raised)
		require.NoError(t, err)
		rec := event.ToKafka(l.event)
		l.record = &kgo.Record{Topic: "order", Key: rec.Key, Value: rec.Value}
		for _, h := range rec.Headers {
			l.record.Headers = append(l.record.Headers, kgo.RecordHeader(h))
		}
		if random.IntN(20) == 0 && !l.garbage {
			l.record.Key = nil
		}
		if l.garbage {
			l.sorted, l.record.Value = false, []byte("{broken")
		}
		log = append(log, l)
	}
	return log
}

// I3, I4, I6 and I7: whatever a log holds, batches do with it what the model says
// of its records one by one.
func TestBatchesDoWhatTheModelSaysOfEachRecord(t *testing.T) {
	seeds := uint64(1)
	if testenv.Long() {
		seeds = 20
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			p := newPath(t)
			require.NoError(t, event.Register[noted](p.catalog, "order.noted", 1))
			log := p.randomLog(t, rand.New(rand.NewPCG(seed, 1)), 600)
			model := &batchModel{applied: map[string][]string{}, parked: map[string][]string{}, known: map[string]bool{}, last: map[string]int64{}}
			byID, byPlace, applied := map[string]*logged{}, map[string]*logged{}, 0
			cl, err := kgo.NewClient(kgo.SeedBrokers(p.conn.Brokers...))
			require.NoError(t, err)
			defer cl.Close()
			for _, l := range log {
				model.take(l)
				byID[l.event.ID().String()] = l
				r := *l.record
				require.NoError(t, cl.ProduceSync(t.Context(), &r).FirstErr())
				byPlace[fmt.Sprintf("%d@%d", r.Partition, r.Offset)] = l
			}
			for _, names := range model.applied {
				applied += len(names)
			}
			p.runBatches(t, byID, func() bool { return p.effects(t) >= applied && p.lag(t) == 0 })

			got := map[string][]string{}
			p.each(t, `SELECT order_id FROM effect ORDER BY n`, func(id string) {
				l := byID[id]
				got[string(l.record.Key)] = append(got[string(l.record.Key)], l.name)
			})
			parked := map[string][]string{}
			p.each(t, `SELECT partition || '@' || "offset" FROM tidings_dead_letter ORDER BY id`, func(place string) {
				l := byPlace[place]
				parked[string(l.record.Key)] = append(parked[string(l.record.Key)], l.name)
			})
			for _, maps := range []map[string][]string{got, parked, model.applied, model.parked} {
				slices.Sort(maps[""]) // nothing orders them
			}
			require.Greater(t, len(clean(model.parked)), 2, "the log has something of each kind")
			require.Equal(t, model.applied, clean(got))
			require.Equal(t, clean(model.parked), clean(parked))
			t.Logf("%d applied, %d keys with parked events", applied, len(clean(parked)))
		})
	}
}

// clean has no empty lists.
func clean(m map[string][]string) map[string][]string {
	for k, v := range m {
		if len(v) == 0 {
			delete(m, k)
		}
	}
	return m
}

func (p *path) each(t *testing.T, query string, f func(value string)) {
	t.Helper()
	rows, err := p.db.QueryContext(t.Context(), query)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var value string
		require.NoError(t, rows.Scan(&value))
		f(value)
	}
	require.NoError(t, rows.Err())
}

func (p *path) runBatches(t *testing.T, log map[string]*logged, done func() bool) {
	t.Helper()
	h := handlers.Batch("bulk", p.box, func(ctx context.Context, tx *sql.Tx, es []event.Of[step]) error {
		var failed error
		for _, e := range es {
			if _, err := tx.ExecContext(ctx, `INSERT INTO effect (handler, order_id, sequence) VALUES ('bulk', ?, ?)`, e.ID().String(), e.Sequence()); err != nil {
				return err
			}
			switch l := log[e.ID().String()]; {
			case l.poison:
				failed = errors.New("fails for good")
			case l.flaky && handlers.Attempt(ctx) == 1:
				failed = errors.New("fails at first")
			}
		}
		return failed
	}).With(handlers.Settings{Tries: 3, MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond})
	quiet := slog.New(slog.DiscardHandler)
	sub, err := subscriber.New(subscriber.Config{Connection: p.conn, Group: "billing", Logger: quiet})
	require.NoError(t, err)
	r, err := router.New(router.Config{Group: "billing", Catalog: p.catalog, Logger: quiet, Outage: router.Outage{Off: true}})
	require.NoError(t, err)
	require.NoError(t, r.Subscribe(router.Subscription{Topic: "order", Subscriber: sub, Handlers: []handlers.Handler{h}}))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	require.Eventually(t, done, time.Minute, 5*time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
	require.NoError(t, sub.Close())
}
