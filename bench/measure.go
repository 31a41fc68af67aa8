package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// measure is one comparison, or several that one run answers. A side returns
// its figure for one round.
type measure struct {
	name string
	what string // one line for the table's reader
	unit string
	goal float64 // what the figure is to reach: see by
	// less is set where less is better: the goal is then the most that it may be.
	less bool
	// by is what is held against the goal.
	by by
	// parts are what one round answers when it is several figures: each has its
	// own name, unit and goal, and the measure has none.
	parts []part
	// prepare makes what both sides need, once. Its cleanup may be nil.
	prepare func(ctx context.Context, e *env) (sides, error)
}

// part is one of several figures that the rounds of a measure answer.
type part struct {
	name string
	what string
	unit string
	goal float64
	less bool
	by   by
}

// by is which figure is held against a goal.
type by string

const (
	byRatio      by = ""           // ours by the peer's
	byDifference by = "difference" // ours less the peer's
	alone        by = "alone"      // ours: it has no peer
)

func (b by) figure(r round) float64 {
	switch b {
	case byDifference:
		return r.Ours - r.Peer
	case alone:
		return r.Ours
	default:
		return r.Ours / r.Peer
	}
}

// sides are the two things compared; each returns its figure for one round.
type sides struct {
	ours, peer func(ctx context.Context, d time.Duration) (float64, error)
	// oursParts and peerParts stand for them where the measure has parts, with a
	// figure for each, in their order. Without the second no part has a peer, or
	// the first returns the peers' figures too, behind its own.
	oursParts, peerParts func(ctx context.Context, d time.Duration) ([]float64, error)
	// cold: there is nothing to warm up.
	cold    bool
	cleanup func()
}

// errLeftOut is wrapped by prepare's error when this machine lacks what the peer
// is made of: the measure is left out, with a note.
var errLeftOut = errors.New("left out")

// result is one line of results.json.
type result struct {
	Measure string  `json:"measure"`
	Ours    float64 `json:"ours"`
	Peer    float64 `json:"peer"`
	Ratio   float64 `json:"ratio"` // what is held against the goal: see By
	Goal    float64 `json:"goal"`
	Holds   bool    `json:"holds"`
	Rounds  []round `json:"rounds"`
	Unit    string  `json:"unit"`
	What    string  `json:"what"`
	By      by      `json:"by,omitempty"`
}

type round struct {
	Ours float64 `json:"ours"`
	Peer float64 `json:"peer"`
}

// spread is from the least to the largest figure of the rounds.
func (r result) spread() (least, most float64) {
	least, most = math.Inf(1), math.Inf(-1)
	for _, x := range r.Rounds {
		least, most = min(least, r.By.figure(x)), max(most, r.By.figure(x))
	}
	return least, most
}

func (m measure) run(ctx context.Context, e *env, side string, rounds int, d time.Duration) ([]result, error) {
	s, err := m.prepare(ctx, e)
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", m.name, err)
	}
	if s.cleanup != nil {
		defer s.cleanup()
	}
	parts := m.parts
	if len(parts) == 0 {
		parts = []part{{name: m.name, what: m.what, unit: m.unit, goal: m.goal, less: m.less, by: m.by}}
		s.oursParts, s.peerParts = one(s.ours), one(s.peer)
	}
	if !s.cold {
		if _, err := s.round(ctx, len(parts), side, false, time.Second); err != nil {
			return nil, fmt.Errorf("%s, warming up: %w", m.name, err)
		}
	}
	results := make([]result, len(parts))
	for i, p := range parts {
		results[i] = result{Measure: p.name, Goal: p.goal, Unit: p.unit, What: p.what, By: p.by}
	}
	for n := range rounds {
		got, err := s.round(ctx, len(parts), side, n%2 == 1, d)
		if err != nil {
			return nil, fmt.Errorf("%s, round %d: %w", m.name, n+1, err)
		}
		for i := range results {
			r := &results[i]
			r.Rounds = append(r.Rounds, got[i])
			if r.By == alone {
				e.logf("%s round %d: %.4g %s", r.Measure, n+1, got[i].Ours, r.Unit)
				continue
			}
			e.logf("%s round %d: ours %.4g, peer %.4g %s", r.Measure, n+1, got[i].Ours, got[i].Peer, r.Unit)
		}
	}
	for i := range results {
		results[i] = results[i].judged(parts[i].less)
	}
	return results, nil
}

func one(side func(context.Context, time.Duration) (float64, error)) func(context.Context, time.Duration) ([]float64, error) {
	if side == nil {
		return nil
	}
	return func(ctx context.Context, d time.Duration) ([]float64, error) {
		figure, err := side(ctx, d)
		return []float64{figure}, err
	}
}

// judged is the result with the medians of its rounds.
func (r result) judged(less bool) result {
	r.Ours = median(r.Rounds, func(x round) float64 { return x.Ours })
	r.Peer = median(r.Rounds, func(x round) float64 { return x.Peer })
	r.Ratio = median(r.Rounds, r.By.figure)
	r.Holds = r.Ratio >= r.Goal
	if less {
		r.Holds = r.Ratio <= r.Goal
	}
	return r
}

// round runs both sides once, or the one that is asked for. The warm-up is such
// a round too, uncounted: a cold broker compiles its way through whichever side
// comes first.
func (s sides) round(ctx context.Context, parts int, side string, peerFirst bool, d time.Duration) ([]round, error) {
	got := make([]round, parts)
	order := []func() error{
		func() error {
			if side == "peer" {
				return nil
			}
			figures, err := s.oursParts(ctx, d)
			if err != nil {
				return err
			}
			for i := range got {
				got[i].Ours = figures[i]
				if len(figures) == 2*parts {
					got[i].Peer = figures[parts+i]
				}
			}
			return nil
		},
		func() error {
			if side == "ours" || s.peerParts == nil {
				return nil
			}
			figures, err := s.peerParts(ctx, d)
			if err != nil {
				return err
			}
			for i := range got {
				got[i].Peer = figures[i]
			}
			return nil
		},
	}
	if peerFirst {
		slices.Reverse(order)
	}
	for _, run := range order {
		if err := run(); err != nil {
			return nil, err
		}
	}
	return got, nil
}

// goes tells whether the measure answers to the name: its own, or a part's.
func (m measure) goes(name string) bool {
	return m.name == name || strings.HasPrefix(name, m.name) && slices.ContainsFunc(m.parts, func(p part) bool { return p.name == name })
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
