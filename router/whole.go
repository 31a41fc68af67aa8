package router

import (
	"log/slog"
	"time"
)

// refuse gives up a message that no handler could be given: it cannot be decoded,
// or its type is unknown and refused. It is parked under its raw key for every
// handler of the subscription, whatever type they take, so that it holds back
// its key for all of them (I7); handlers without dead letters hold it. Refuse
// reports whether all have parked it.
func (m *delivered) refuse(why cause, err error) bool {
	s := m.sub
	if m.progress == nil {
		m.progress = &progress{}
	}
	p := m.progress
	if p.every == nil {
		p.every = make([]tryState, len(s.bound))
		if why == causeUnknownType {
			s.unknown.Inc()
		} else {
			s.undecodable.Inc()
		}
	}
	finished, hold := true, false
	now := time.Now()
	for i, h := range s.bound {
		st := &p.every[i]
		if st.done {
			continue
		}
		if st.due.After(now) {
			finished = false
			continue
		}
		switch m.refuseFor(st, h, why, err) {
		case refusalParked:
			st.done = true
		case refusalHeld:
			hold = true
			fallthrough
		case refusalAgain:
			finished = false
		}
		if m.stopped {
			return false
		}
	}
	if hold {
		m.holdWhole(why, err)
	}
	return finished
}

// What became of a refused message, for one handler.
type refusal int

const (
	refusalParked refusal = iota
	refusalAgain          // later
	refusalHeld           // by who has no dead letters
)

func (m *delivered) refuseFor(st *tryState, h *boundHandler, why cause, err error) refusal {
	st.failed(time.Now(), err)
	a := &attempt{message: m, handler: h, number: 1}
	w := &wish{why: why, err: err}
	if !h.parks {
		return refusalHeld
	}
	if m.park(st, a, w) {
		if st.held {
			m.release(h.name)
		}
		return refusalParked
	}
	return refusalAgain
}

// holdWhole holds the message for every handler that cannot park it.
func (m *delivered) holdWhole(why cause, err error) {
	s, st := m.sub, &m.progress.whole
	st.tries++
	st.due = time.Now().Add(around(s.router.cfg.SlowRetry))
	for i, h := range s.bound {
		if !h.parks {
			m.progress.every[i].due = st.due
		}
	}
	attrs := append(placeAttrs(m.place), slog.String("handler", everyHandler), slog.Int("attempt", st.tries))
	if why == causeUnknownType {
		attrs = append(attrs, eventAttrs(m.event)...)
	} else {
		attrs = append(attrs, dump(m.record))
	}
	s.whole.retries[why].Inc()
	m.hold(st, everyHandler, s.whole, why, err, attrs)
}

// readable ends what refuse began: the message can be given to handlers now.
func (m *delivered) readable() {
	p := m.progress
	if p == nil || p.every == nil {
		return
	}
	if p.whole.held {
		m.release(everyHandler)
	}
	for i := range p.every {
		if p.every[i].held {
			m.release(m.sub.bound[i].name)
		}
	}
	p.whole, p.every = tryState{}, nil
}
