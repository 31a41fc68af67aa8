package integration

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/event"
)

//go:embed testdata/ledger.sql
var ledgerSchema string

//go:embed testdata/audit.sql
var auditQuery string

// planned is an event that the suite publishes and counts.
type planned struct {
	ID        uuid.UUID
	Type      string
	Aggregate string
	Sequence  int64
}

// shape is the size of a plan.
type shape struct{ keys, perKey int }

func (s shape) events() int { return s.keys * s.perKey }

// plan makes the events of s, round robin over the keys: every key has events
// from the beginning to the end of the run. The prefix tells rounds apart.
func plan(prefix string, s shape) []planned {
	events := make([]planned, 0, s.events())
	for sequence := 1; sequence <= s.perKey; sequence++ {
		typ := changed
		switch sequence {
		case 1:
			typ = placed
		case s.perKey:
			typ = closed
		}
		for key := range s.keys {
			events = append(events, newPlanned(fmt.Sprintf("%s%d", prefix, key), typ, int64(sequence)))
		}
	}
	return events
}

func newPlanned(aggregate, typ string, sequence int64) planned {
	return planned{ID: uuid.Must(uuid.NewV7()), Type: typ, Aggregate: aggregate, Sequence: sequence}
}

// event makes the event to publish.
func (p planned) event(ctx context.Context, c *event.Catalog) (event.Event, error) {
	raised := event.Raised{
		ID:        p.ID,
		Aggregate: event.Aggregate{Type: aggregateType, ID: p.Aggregate},
		Sequence:  p.Sequence,
	}
	switch p.Type {
	case placed:
		raised.Payload = orderPlaced{Customer: "customer of " + p.Aggregate}
	case changed:
		raised.Payload = orderChanged{Amount: amount(p.Sequence)}
	case closed:
		raised.Payload = orderClosed{Reason: "delivered"}
	default:
		return event.Event{}, errors.New("no payload for type " + p.Type)
	}
	return c.Event(ctx, raised)
}

// lane spreads keys over n: all events of a key have the same lane.
func (p planned) lane(n int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(p.Aggregate))
	return int(h.Sum32() % uint32(n))
}

// expect enters events into the ledger's plan.
func (s *scene) expect(events []planned) {
	s.t.Helper()
	_, err := s.pool.CopyFrom(s.ctx, pgx.Identifier{"plan"},
		[]string{"event_id", "type", "aggregate", "sequence"},
		pgx.CopyFromSlice(len(events), func(i int) ([]any, error) {
			e := events[i]
			return []any{e.ID, e.Type, e.Aggregate, e.Sequence}, nil
		}))
	require.NoError(s.t, err)
}

// readPlan returns the planned events in order.
func readPlan(ctx context.Context, pool *pgxpool.Pool) ([]planned, error) {
	rows, err := pool.Query(ctx, `SELECT event_id, type, aggregate, sequence FROM plan ORDER BY n`)
	if err != nil {
		return nil, fmt.Errorf("read the plan: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (planned, error) {
		var p planned
		return p, row.Scan(&p.ID, &p.Type, &p.Aggregate, &p.Sequence)
	})
}

// takes registers a group's handlers for the audit.
func (s *scene) takes(group string, hs []handlerSpec) {
	s.t.Helper()
	for _, h := range hs {
		_, err := s.pool.Exec(s.ctx, `INSERT INTO taker (grp, handler, type) VALUES ($1, $2, $3)`, group, h.Name, h.Type)
		require.NoError(s.t, err)
	}
}

// audit counts every event of the group: it returns what is wrong with each
// kind's first offender, or nothing.
func (s *scene) audit(ctx context.Context, group string) (string, error) {
	rows, err := s.pool.Query(ctx, auditQuery, group)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	var kind, first string
	var count int
	_, err = pgx.ForEachRow(rows, []any{&kind, &count, &first}, func() error {
		fmt.Fprintf(&b, "%d %s, the first: %s\n", count, kind, first)
		return nil
	})
	return b.String(), err
}

// requireEffectsOnce fails unless every planned event has its effect once, in
// order (I3), by every handler of the group; nothing else has one; and each
// effect has its inbox row and the reverse (I4), but for rows of events that are
// settled without an effect.
func (s *scene) requireEffectsOnce(group string, settled ...effectless) {
	s.t.Helper()
	wrong, err := s.audit(s.ctx, group)
	require.NoError(s.t, err)
	require.Empty(s.t, wrong, "group %s: lost 0, doubled 0, stray 0, disordered 0, overlapping 0 were promised", group)
	var wanted, effects, rows, unpaired int
	err = s.pool.QueryRow(s.ctx, `
		WITH rows AS (
			SELECT h.name AS handler, i.event_id FROM tidings.inbox i JOIN tidings.handler h ON h.id = i.handler_id WHERE h.grp = $1
			UNION ALL
			SELECT h.name, i.event_id FROM tidings.inbox_other i JOIN tidings.handler h ON h.id = i.handler_id WHERE h.grp = $1
		), effects AS (SELECT handler, event_id FROM effect WHERE grp = $1)
		SELECT (SELECT count(*) FROM taker t JOIN plan USING (type) WHERE grp = $1),
			(SELECT count(*) FROM effects), (SELECT count(*) FROM rows),
			(SELECT count(*) FROM effects FULL JOIN rows USING (handler, event_id)
				WHERE effects.event_id IS NULL OR rows.event_id IS NULL)`, group).
		Scan(&wanted, &effects, &rows, &unpaired)
	require.NoError(s.t, err)
	require.Positive(s.t, wanted, "the suite expects nothing of group %s", group)
	require.Equal(s.t, wanted, effects, "effects of group %s", group)
	require.Equal(s.t, wanted+len(settled), rows, "inbox rows of group %s", group)
	require.Equal(s.t, len(settled), unpaired, "effects of group %s without an inbox row, or the reverse", group)
	for _, e := range settled {
		var n int
		err := s.pool.QueryRow(s.ctx, `SELECT count(*) FROM tidings.inbox i JOIN tidings.handler h ON h.id = i.handler_id
			WHERE h.grp = $1 AND h.name = $2 AND i.event_id = $3`, group, e.handler, e.event).Scan(&n)
		require.NoError(s.t, err)
		require.Equal(s.t, 1, n, "inbox rows of %s for %s", e.handler, e.event)
	}
	s.t.Logf("group %s: %d effects, lost 0, doubled 0, order breaks 0", group, effects)
}

// effectless is an event that a handler has settled without an effect: it had been
// parked for it before anybody knew that it is none of the handler's.
type effectless struct {
	handler string
	event   uuid.UUID
}

// effects counts those that match the condition, which may use $1 and so on.
func (s *scene) effects(ctx context.Context, condition string, args ...any) (n int, err error) {
	err = s.pool.QueryRow(ctx, `SELECT count(*) FROM effect WHERE `+condition, args...).Scan(&n)
	return n, err
}

// TestTheAuditSeesEveryKindOfFault breaks a ledger in each way that the suites
// promise it is not broken: a proof that counts nothing proves nothing.
func TestTheAuditSeesEveryKindOfFault(t *testing.T) {
	order := func(s *scene) []planned {
		events := plan("o", shape{keys: 2, perKey: 4})
		s.expect(events)
		s.takes("g", []handlerSpec{{Name: "book", Type: changed}})
		return events
	}
	apply := func(s *scene, p planned, before int64) {
		_, err := s.pool.Exec(s.ctx, `INSERT INTO effect (grp, handler, event_id, aggregate, sequence, before, member)
			VALUES ('g', 'book', $1, $2, $3, $4, 'm')`, p.ID, p.Aggregate, p.Sequence, before)
		require.NoError(s.t, err)
	}
	// In the plan, 2 and 3 are the keys' second events, 4 and 5 their third.
	for name, c := range map[string]struct {
		effects [][2]int64 // index into the plan, what it saw before
		want    []string
		without []string
	}{
		"all is well": {
			effects: [][2]int64{{2, 0}, {3, 0}, {4, 2}, {5, 2}},
			without: []string{"lost", "doubled", "stray", "disordered", "overlapping"},
		},
		"lost":        {effects: [][2]int64{{2, 0}, {3, 0}, {4, 2}}, want: []string{"1 lost", "o1"}, without: []string{"doubled", "disordered"}},
		"doubled":     {effects: [][2]int64{{2, 0}, {2, 2}, {3, 0}, {4, 2}, {5, 2}}, want: []string{"1 doubled", "by m, m"}, without: []string{"lost", "disordered"}},
		"stray":       {effects: [][2]int64{{0, 0}, {2, 1}, {3, 0}, {4, 2}, {5, 2}}, want: []string{"1 stray"}, without: []string{"lost"}},
		"disordered":  {effects: [][2]int64{{4, 0}, {2, 3}, {3, 0}, {5, 2}}, want: []string{"1 disordered", "after sequence 3"}, without: []string{"lost", "doubled"}},
		"overlapping": {effects: [][2]int64{{2, 0}, {3, 0}, {4, 0}, {5, 2}}, want: []string{"1 overlapping", "saw sequence 0, its predecessor is 2"}, without: []string{"disordered"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newLedger(t)
			events := order(s)
			for _, e := range c.effects {
				apply(s, events[e[0]], e[1])
			}
			found, err := s.audit(s.ctx, "g")
			require.NoError(t, err)
			for _, part := range c.want {
				require.Contains(t, found, part)
			}
			for _, part := range c.without {
				require.NotContains(t, found, part)
			}
		})
	}
}
