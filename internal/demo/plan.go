package demo

import (
	"fmt"
	"math/rand/v2"
)

// step is one business transaction of an order.
type step struct {
	do     string // the wire name of what it brings about
	amount int64
	twice  bool // its event is published a second time, on purpose
}

// plan is what happens to one order. It follows from the seed alone.
type plan struct {
	id       string
	customer string
	steps    []step
}

const (
	twiceEvery  = 25 // one event in so many is published twice
	cancelEvery = 5  // one order in so many is canceled
)

// plans divides events over orders as evenly as they go.
func plans(seed uint64, orders, events int) []plan {
	ps := make([]plan, orders)
	for i := range ps {
		n := events / orders
		if i < events%orders {
			n++
		}
		ps[i] = makePlan(seed, fmt.Sprintf("o-%04d", i+1), uint64(i), n)
	}
	return ps
}

// makePlan places an order, pays before it ships, and cancels some.
func makePlan(seed uint64, id string, index uint64, events int) plan {
	rng := rand.New(rand.NewPCG(seed, index)) //nolint:gosec // reproducible on purpose
	p := plan{id: id, customer: fmt.Sprintf("customer-%d", rng.IntN(100)+1), steps: make([]step, 0, events)}
	for i := range events {
		s := step{amount: int64(rng.IntN(9900) + 100), twice: rng.IntN(twiceEvery) == 0}
		switch {
		case i == 0:
			s.do = typePlaced
		case i == events-1 && i > 1 && rng.IntN(cancelEvery) == 0:
			s.do = typeCanceled
		case i == 1 || rng.IntN(2) == 0:
			s.do = typePaid
		default:
			s.do = typeShipped
		}
		p.steps = append(p.steps, s)
	}
	return p
}

// apply does the step to the order.
func (s step) apply(o *order, customer string) error {
	switch s.do {
	case typePlaced:
		return o.place(customer, s.amount)
	case typePaid:
		return o.pay(s.amount)
	case typeShipped:
		return o.ship()
	case typeCanceled:
		return o.cancel("customer changed their mind")
	}
	return fmt.Errorf("order %s: no such step: %q", o.id, s.do)
}
