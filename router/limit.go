package router

import (
	"context"
	"errors"

	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/internal/limit"
)

// limitOf makes the limit that a handler asks for.
func (m *handlerMetrics) limitOf(c handlers.Concurrency) limit.Limit {
	var l limit.Limit
	switch {
	case c.Adaptive:
		l = limit.Adaptive(c.Min, c.Max, func(n int) { m.concurrency.Set(float64(n)) })
	case c.Max > 0:
		l = limit.Fixed(c.Max)
	default:
		return nil
	}
	m.concurrency.Set(float64(l.Now()))
	return l
}

// turn waits until the handler may begin one more try. It fails only when the
// message's context ends.
func (a *attempt) turn() (limit.Permit, error) {
	if a.handler.limit == nil {
		return nopPermit{}, nil
	}
	return a.handler.limit.Acquire(a.message.ctx)
}

// giveBack ends the turn. Of failures only timeouts tell how long tries take.
func giveBack(p limit.Permit, canceled bool, err error) {
	if canceled || err != nil && !errors.Is(err, context.DeadlineExceeded) {
		p.Drop()
		return
	}
	p.Record()
}

type nopPermit struct{}

func (nopPermit) Record() {}
func (nopPermit) Drop()   {}
