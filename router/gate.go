package router

import "time"

// closedFor is how long who may not run waits before it asks again.
const closedFor = time.Second

// mayRun says whether the handler may be tried with m now, and when not, how
// long to wait before asking again. Messages and retries of parked events ask
// it right before each try, which ends with tell; what it turns away has not
// failed and is not counted as a try.
func (h *boundHandler) mayRun(m *delivered) (wait time.Duration, ok bool) {
	if h.router.killed.Load() { // running handlers are cancelled: none begins
		return closedFor, false
	}
	if h.outage == nil || !h.outage.Watchful() {
		return 0, true
	}
	return h.outage.Ask(m.keyHash(), time.Now())
}

// mayBatch is mayRun for many events at once: during an outage single ones are
// tried.
func (h *boundHandler) mayBatch() (wait time.Duration, ok bool) {
	if h.router.killed.Load() || h.out() {
		return closedFor, false
	}
	return 0, true
}
