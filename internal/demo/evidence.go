package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// collect reads the evidence: the journal, the topic, and each service's effects.
func (r *run) collect(ctx context.Context) (evidence, error) {
	var ev evidence
	journal, err := readJournal(ctx, r.stores[shop])
	if err != nil {
		return ev, err
	}
	ev.Journal = journal
	if ev.Log, err = r.cluster.records(ctx); err != nil {
		return ev, err
	}
	for _, s := range services {
		se := serviceEvidence{Name: s.name, Types: s.types, Refused: r.statsOf(s.name).Refused, Killed: s.name == billing && r.faults.kills > 0}
		if s.name == mail {
			noted, err := r.stores[mail].noted(ctx)
			if err != nil {
				return ev, fmt.Errorf("reading what mail noted as sent: %w", err)
			}
			se.Effects, se.Explained = r.provider.effects(r.faults.restart, noted)
		} else if err := readEffects(ctx, r.stores[s.name], &se); err != nil {
			return ev, err
		}
		ev.Services = append(ev.Services, se)
	}
	return ev, nil
}

func readJournal(ctx context.Context, q querier) ([]journalRow, error) {
	var rows []journalRow
	err := q.each(ctx, `SELECT event_id, order_id, sequence, type, amount, twice FROM demo_journal ORDER BY place`, nil,
		func(scan func(...any) error) error {
			var j journalRow
			err := scan(&j.ID, &j.OrderID, &j.Sequence, &j.Type, &j.Amount, &j.Twice)
			rows = append(rows, j)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	return rows, nil
}

// readNoted reads when events were noted as handled: rows of a UUID and a time in
// milliseconds since 1970.
func readNoted(ctx context.Context, q querier, query string) (map[string]time.Time, error) {
	noted := map[string]time.Time{}
	err := q.each(ctx, query, nil, func(scan func(...any) error) error {
		var (
			id uuid.UUID
			ms int64
		)
		err := scan(&id, &ms)
		noted[id.String()] = time.UnixMilli(ms)
		return err
	})
	return noted, err
}

// readEffects reads a service's effects, in the order they happened, and its balances.
func readEffects(ctx context.Context, q querier, se *serviceEvidence) error {
	err := q.each(ctx, `SELECT event_id, order_id, sequence, type FROM demo_effect WHERE service = $1 ORDER BY place`, []any{se.Name},
		func(scan func(...any) error) error {
			var e effectRow
			err := scan(&e.EventID, &e.OrderID, &e.Sequence, &e.Type)
			se.Effects = append(se.Effects, e)
			return err
		})
	if err != nil {
		return fmt.Errorf("reading the effects of %s: %w", se.Name, err)
	}
	se.Balances = map[string]int64{}
	err = q.each(ctx, `SELECT order_id, balance FROM demo_balance WHERE service = $1`, []any{se.Name},
		func(scan func(...any) error) error {
			var (
				order   string
				balance int64
			)
			err := scan(&order, &balance)
			se.Balances[order] = balance
			return err
		})
	if err != nil {
		return fmt.Errorf("reading the balances of %s: %w", se.Name, err)
	}
	return nil
}
