package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// measure is one comparison. A side returns its figure for one round.
type measure struct {
	name string
	what string // one line for the table's reader
	unit string
	goal float64 // the ratio ours/peer to reach
	// less is set where less is better: the goal is then the most the ratio may be.
	less bool
	// prepare makes what both sides need, once. Its cleanup may be nil.
	prepare func(ctx context.Context, e *env) (sides, error)
}

// sides are the two things compared; each returns its figure for one round.
type sides struct {
	ours, peer func(ctx context.Context, d time.Duration) (float64, error)
	cleanup    func()
}

// result is one line of results.json.
type result struct {
	Measure string  `json:"measure"`
	Ours    float64 `json:"ours"`
	Peer    float64 `json:"peer"`
	Ratio   float64 `json:"ratio"`
	Goal    float64 `json:"goal"`
	Holds   bool    `json:"holds"`
	Rounds  []round `json:"rounds"`
	Unit    string  `json:"unit"`
	What    string  `json:"what"`
}

type round struct {
	Ours float64 `json:"ours"`
	Peer float64 `json:"peer"`
}

func (m measure) run(ctx context.Context, e *env, side string, rounds int, d time.Duration) (result, error) {
	s, err := m.prepare(ctx, e)
	if err != nil {
		return result{}, fmt.Errorf("prepare %s: %w", m.name, err)
	}
	if s.cleanup != nil {
		defer s.cleanup()
	}
	if err := s.warm(ctx, side); err != nil {
		return result{}, fmt.Errorf("%s, warming up: %w", m.name, err)
	}
	r := result{Measure: m.name, Goal: m.goal, Unit: m.unit, What: m.what}
	for i := range rounds {
		var one round
		order := []func() error{
			func() (err error) { one.Ours, err = s.ours(ctx, d); return err },
			func() (err error) { one.Peer, err = s.peer(ctx, d); return err },
		}
		switch side {
		case "ours":
			order = order[:1]
		case "peer":
			order = order[1:]
		}
		if i%2 == 1 {
			slices.Reverse(order)
		}
		for _, side := range order {
			if err := side(); err != nil {
				return result{}, fmt.Errorf("%s, round %d: %w", m.name, i+1, err)
			}
		}
		e.logf("%s round %d: ours %.4g, peer %.4g %s", m.name, i+1, one.Ours, one.Peer, m.unit)
		r.Rounds = append(r.Rounds, one)
	}
	r.Ours = median(r.Rounds, func(x round) float64 { return x.Ours })
	r.Peer = median(r.Rounds, func(x round) float64 { return x.Peer })
	r.Ratio = median(r.Rounds, func(x round) float64 { return x.Ours / x.Peer })
	r.Holds = r.Ratio >= m.goal
	if m.less {
		r.Holds = r.Ratio <= m.goal
	}
	return r, nil
}

// warm runs both sides for a moment, uncounted: a cold broker compiles its way
// through whichever side comes first.
func (s sides) warm(ctx context.Context, side string) error {
	const moment = time.Second
	if side != "peer" {
		if _, err := s.ours(ctx, moment); err != nil {
			return err
		}
	}
	if side != "ours" {
		if _, err := s.peer(ctx, moment); err != nil {
			return err
		}
	}
	return nil
}

func median(rounds []round, of func(round) float64) float64 {
	v := make([]float64, 0, len(rounds))
	for _, x := range rounds {
		v = append(v, of(x))
	}
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
