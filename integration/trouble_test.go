package integration

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
)

// trouble is what some events meet in a handler, after their effect was written.
// Which they are follows from their keys and IDs: members and suite agree on it.
type trouble struct {
	// Poisoned is the share of keys with an event that fails until the ledger says
	// that the handlers are cured: one of the Spread that follow the key's second.
	// The half of them are rejected, the others spend their tries.
	Poisoned float64
	Spread   uint64
	// Slow is the share of events whose first try takes SlowWork, or, for one in
	// four, does not end before its context does.
	Slow     float64
	SlowWork time.Duration
}

// poison is the sequence of the key's event that fails; 0: there is none.
func (h *handlerSpec) poison(aggregate string) int64 {
	n := hashOf(h.Name, []byte(aggregate))
	if float64(n%10_000) >= h.Trouble.Poisoned*10_000 {
		return 0
	}
	return 3 + int64(n/10_000%h.Trouble.Spread)
}

// slow says how a first try goes.
func (h *handlerSpec) slow(id uuid.UUID) (slow, stuck bool) {
	n := hashOf("slow "+h.Name, id[:])
	return float64(n%10_000) < h.Trouble.Slow*10_000, n/10_000%4 == 0
}

func hashOf(name string, b []byte) uint64 {
	f := fnv.New64a()
	_, _ = f.Write([]byte(name))
	_, _ = f.Write(b)
	// FNV's last bytes reach only the low bits: once more over its own sum.
	_, _ = f.Write(binary.BigEndian.AppendUint64(nil, f.Sum64()))
	return f.Sum64()
}

// meet is the trouble that the handler has with the event.
func (e effects) meet(ctx context.Context, tx pgx.Tx, h *handlerSpec, ev event.Event) error {
	if slow, stuck := h.slow(ev.ID()); slow && handlers.Attempt(ctx) == 1 {
		if stuck {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		if err := work(ctx, h.Trouble.SlowWork); err != nil {
			return err
		}
	}
	if h.poison(ev.Aggregate().ID) != ev.Sequence() {
		return nil
	}
	var cured bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM cured)`).Scan(&cured); err != nil || cured {
		return err
	}
	if hashOf("", []byte(ev.Aggregate().ID))%2 == 0 {
		return handlers.Reject(errOnPurpose)
	}
	return errors.Join(errOnPurpose, e.fail(ctx, h.Name, ev.ID()))
}

// cure takes the poison out of all handlers.
func (s *scene) cure() {
	s.t.Helper()
	_, err := s.pool.Exec(s.ctx, `INSERT INTO cured DEFAULT VALUES`)
	require.NoError(s.t, err)
}

// poisoned are keys of a handler and the first of their events that fails.
type poisoned struct {
	handlers, aggregates []string
	sequences            []int64
}

// poisonedBy are those that the handlers find among the events.
func poisonedBy(hs []handlerSpec, events []planned) (p poisoned) {
	for _, e := range events {
		for i := range hs {
			if h := &hs[i]; h.Type == e.Type && h.poison(e.Aggregate) == e.Sequence {
				p.handlers = append(p.handlers, h.Name)
				p.aggregates = append(p.aggregates, e.Aggregate)
				p.sequences = append(p.sequences, e.Sequence)
			}
		}
	}
	return p
}

// countBehind counts the effects of poison and of what follows it under its key
// by the same handler.
func (s *scene) countBehind(ctx context.Context, group string, p poisoned) (n int, first string, err error) {
	err = s.pool.QueryRow(ctx, `
		SELECT count(*), coalesce(min(format('handler %s, aggregate %s, sequence %s by %s: poison is %s',
			e.handler, e.aggregate, e.sequence, e.member, p.sequence)), '')
		FROM effect e JOIN unnest($2::text[], $3::text[], $4::bigint[]) p (handler, aggregate, sequence) USING (handler, aggregate)
		WHERE e.grp = $1 AND e.sequence >= p.sequence`, group, p.handlers, p.aggregates, p.sequences).Scan(&n, &first)
	return n, first, err
}

// requireNothingPassed fails when anything has passed the poison that its handler
// cannot apply yet (I3, I6).
func (s *scene) requireNothingPassed(group string, p poisoned) {
	s.t.Helper()
	n, first, err := s.countBehind(s.ctx, group, p)
	require.NoError(s.t, err)
	require.Zero(s.t, n, "effects of poison or of events behind it, such as %s", first)
}

// awaitNewEffects waits for n more effects than there are.
func (s *scene) awaitNewEffects(n int) {
	s.t.Helper()
	var before int
	s.await("the ledger can be read", func(ctx context.Context) (done bool, _ string, err error) {
		before, err = s.effects(ctx, "true")
		return err == nil, "", err
	})
	s.await(fmt.Sprintf("%d more effects are there", n), func(ctx context.Context) (bool, string, error) {
		now, err := s.effects(ctx, "true")
		return now >= before+n, fmt.Sprintf("%d more", now-before), err
	})
}
