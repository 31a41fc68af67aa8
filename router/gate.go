package router

import "time"

// closedFor is how long who may not run waits before it asks again.
const closedFor = time.Second

// mayRun says whether the handler may be tried now, and when not, how long to
// wait before asking again. Messages and retries of parked events ask it before
// each try; what it turns away has not failed and is not counted as a try.
func (h *boundHandler) mayRun() (wait time.Duration, ok bool) {
	if h.router.killed.Load() { // running handlers are cancelled: none begins
		return closedFor, false
	}
	return 0, true
}
