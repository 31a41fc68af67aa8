package router

import (
	"fmt"
	"hash/maphash"
	"log/slog"
	"time"

	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/internal/outage"
)

// Outage says how an outage of what a handler depends on is told from events
// that fail by themselves. During an outage the handler's events wait in their
// lanes, until their partitions are full and pause; single ones are tried, one
// at a time, at growing intervals; no try counts, and nothing is parked for
// want of tries. The first success ends it. The zero value is useful.
type Outage struct {
	// Off tells no outage: every event that has spent its tries is parked.
	Off bool
	// Keys is how many different keys must fail, beside half of the latest
	// events. Zero: 10; at most 32. Three are enough when the handler's database
	// admits none.
	Keys int
	// First is the time before the first event that is tried; it doubles with
	// each that fails, up to Longest. Zero: 1 s and 30 s.
	First, Longest time.Duration
}

func (o Outage) validate() error {
	switch {
	case o.Keys < 0 || o.Keys > maxOutageKeys:
		return fmt.Errorf("router: Outage.Keys is %d: use 1 to %d, or 0 for 10", o.Keys, maxOutageKeys)
	case o.First < 0:
		return fmt.Errorf("router: Outage.First is %v: use a positive duration, or 0 for 1s", o.First)
	case o.Longest < 0:
		return fmt.Errorf("router: Outage.Longest is %v: use a positive duration, or 0 for 30s", o.Longest)
	case o.First > 0 && o.Longest > 0 && o.First > o.Longest:
		return fmt.Errorf("router: Outage.First is %v, above Outage.Longest %v: lower the first or raise the second", o.First, o.Longest)
	}
	return nil
}

const maxOutageKeys = 32

func (o Outage) detector() *outage.Detector {
	if o.Off {
		return nil
	}
	return outage.New(outage.Config{Keys: o.Keys, First: o.First, Longest: o.Longest})
}

var keySeed = maphash.MakeSeed()

// keyHash tells keys apart; an event without one is a key of its own.
func (m *delivered) keyHash() uint64 {
	if len(m.place.Key) > 0 {
		return maphash.Bytes(keySeed, m.place.Key)
	}
	id := m.event.ID()
	return maphash.Bytes(keySeed, id[:])
}

// out tells whether there is an outage.
func (h *boundHandler) out() bool {
	return h.outage != nil && !h.outage.State().Since.IsZero()
}

// tell says what came of a try that mayRun let through.
func (h *boundHandler) tell(a *attempt, answer inbox.Answer, canceled bool, err error) {
	if h.outage == nil || err == nil && !h.outage.Watchful() {
		return
	}
	result := outage.Success
	switch {
	case err == nil && answer != inbox.Fresh: // the handler did not run
		result = outage.Answered
	case err == nil:
	case canceled:
		result = outage.Canceled
	default:
		result = outageOf(answer, err)
	}
	now := time.Now()
	before := h.outage.State()
	began, ended := h.outage.Tell(a.message.keyHash(), a.number, result, err, now)
	switch {
	case began:
		h.met.outage.Set(float64(now.UnixMilli()) / 1000)
		h.router.log.Error("handler is in an outage: its events wait, none is parked for want of tries, and single ones are tried until one succeeds",
			slog.String("handler", h.name), slog.String("topic", a.message.place.Topic), slog.Any("cause", err))
	case ended:
		h.met.outage.Set(0)
		h.router.log.Info("the outage of the handler is over",
			slog.String("handler", h.name), slog.String("topic", a.message.place.Topic),
			slog.Duration("after", now.Sub(before.Since)), slog.Int("probes", before.Probes+1))
	}
}

// outageOf says what a failure tells of the handler's surroundings.
func outageOf(answer inbox.Answer, err error) outage.Result {
	switch why, _ := classify(answer, err); why {
	case causeError, causeTimeout, causePanic, causeCommitUnknown:
		return outage.Failure
	case causeNotAdmitted:
		return outage.Away
	case causeFull, causeBehind, causeCanceled:
		return outage.Canceled
	case causeRetryAfter, causeRejected, causeLate, causeUndecodable, causeUnknownType, causeDeadline, causes:
	}
	return outage.Refused
}

// outageWarnings says which handlers are in an outage, and since when.
func (r *Router) outageWarnings() []string {
	if r.phase.Load() < phaseRunning { // its handlers are being bound
		return nil
	}
	var list []string
	for _, s := range r.subs {
		for _, h := range s.bound {
			if h.outage == nil {
				continue
			}
			if st := h.outage.State(); !st.Since.IsZero() {
				list = append(list, fmt.Sprintf("handler %q of topic %q is in an outage since %s, %d probes failed, its events wait: %v",
					h.name, s.topic, st.Since.UTC().Format(time.RFC3339), st.Probes, st.Last))
			}
		}
	}
	return list
}
