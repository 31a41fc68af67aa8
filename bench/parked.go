package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/internal/testenv"
)

// parkedOthers has 5 % of the keys fail for good, under the default settings:
// five tries in about ten seconds, then the key is parked and what follows goes
// behind it. A window is four times as long as a round of other measures, so
// that retries, parking and parked keys are all in it.
var parkedOthers = measure{
	name: "parked-others",
	what: "one partition, 1,000 keys, InTx handlers that update one row; 5 % of the keys fail for good",
	parts: []part{
		{
			name: "parked-others-rate", unit: perSecond, goal: 0.95,
			what: "events of the other 95 % of the keys while 5 % fail for good, one partition, InTx handlers that update one row; peer: the same events while none fails",
		},
		{
			name: "parked-others-stock", unit: "events", goal: 0, less: true, by: alone,
			what: "the same keys failing under stock watermill-kafka: events that it handles in the second half of the window, for its partition stands still",
		},
	},
	prepare: prepareParked,
}

const (
	faultyEvery   = 20 // of so many keys one is faulty
	parkedWindows = 4
)

var errFaulty = errors.New("this key fails for good")

// faulty tells the keys that fail; the first is not the topic's first key.
func faulty(key string) bool {
	n, err := strconv.Atoi(strings.TrimPrefix(key, "order-"))
	return err == nil && n%faultyEvery == faultyEvery/2
}

func prepareParked(ctx context.Context, e *env) (sides, error) {
	const events = 400_000
	topic, brokers, err := load(ctx, e, "parked-others", events)
	if err != nil {
		return sides{}, err
	}
	db, err := e.fresh(ctx)
	if err != nil {
		return sides{}, err
	}
	p := &parking{env: e, db: db, topic: topic, brokers: brokers, events: events}
	return sides{
		cleanup: db.close,
		oursParts: func(ctx context.Context, d time.Duration) ([]float64, error) {
			failing, err := p.ours(ctx, d, true)
			if err != nil {
				return nil, err
			}
			stock, err := p.stock(ctx, d)
			return []float64{failing, stock}, err
		},
		peerParts: func(ctx context.Context, d time.Duration) ([]float64, error) {
			all, err := p.ours(ctx, d, false)
			return []float64{all, 0}, err
		},
	}, nil
}

// parking is what a side of parkedOthers runs on.
type parking struct {
	env     *env
	db      *database
	topic   string
	brokers []string
	events  int
}

// ours is the rate of the keys that do not fail.
func (p *parking) ours(ctx context.Context, d time.Duration, failing bool) (float64, error) {
	// Rounds share the database: each has handlers of its own.
	name := testenv.Name("change")
	c := newCount(p.events - p.events/faultyEvery)
	h := handlers.InTx(name, p.db.box, func(ctx context.Context, tx pgx.Tx, e event.Of[placed]) error {
		bad := faulty(e.Aggregate().ID)
		if bad && failing {
			return errFaulty
		}
		if err := changeRow(ctx, tx, e.Aggregate().ID); err != nil {
			return err
		}
		if !bad {
			c.one()
		}
		return nil
	})
	err := consumeWith(ctx, p.brokers, p.topic, sqlLanes, c, parkedWindows*d, h)
	if err != nil {
		return 0, err
	}
	if failing {
		counts, err := p.db.box.Letters().Count(ctx, deadletter.Filter{Handlers: []string{name}})
		if err != nil {
			return 0, err
		}
		for _, k := range counts {
			p.env.logf("parked-others: %d keys are parked with %d events, and %d events of the others were handled", k.Keys, k.Events, c.n.Load())
		}
	}
	return c.rate()
}

// stock is how many events watermill-kafka's subscriber handles in the second
// half of its window, under watermill's router, with the same effect.
func (p *parking) stock(ctx context.Context, d time.Duration) (float64, error) {
	c := newCount(p.events)
	var first, late atomic.Int64 // Unix time in nanoseconds; a count
	window := parkedWindows * d
	//nolint:contextcheck // each message has its context
	err := consumePeer(ctx, p.brokers, p.topic, c, window, func(m *message.Message) error {
		var body placed
		if err := json.Unmarshal(m.Payload, &body); err != nil {
			return err
		}
		key := m.Metadata.Get("ce_partitionkey")
		if key == "" {
			return fmt.Errorf("event %s names no key", m.UUID)
		}
		if faulty(key) {
			return errFaulty
		}
		if err := pgx.BeginFunc(m.Context(), p.db.pool, func(tx pgx.Tx) error { return changeRow(m.Context(), tx, key) }); err != nil {
			return err
		}
		now := time.Now().UnixNano()
		first.CompareAndSwap(0, now)
		if now-first.Load() > int64(window/2) {
			late.Add(1)
		}
		c.one()
		return nil
	})
	if err != nil {
		return 0, err
	}
	if c.n.Load() == 0 {
		return 0, errNothing
	}
	p.env.logf("parked-others: stock watermill-kafka handled %d of the partition's events in %v, %d of them in its second half", c.n.Load(), window, late.Load())
	return float64(late.Load()), nil
}
