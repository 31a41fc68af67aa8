package line

import (
	"maps"
	"slices"

	"github.com/tidings-bus/tidings/deadletter"
)

// Request returns one.
func (d *Desk) Request(id int64) (_ deadletter.Request, ok bool) {
	r := d.find(id)
	if r == nil {
		return deadletter.Request{}, false
	}
	return r.Request, true
}

// RequestOf returns the oldest open request that a key is part of, or 0.
func (d *Desk) RequestOf(key int64) int64 { return d.requestOf(key) }

// Requests lists those of a group, newest first.
func (d *Desk) Requests(group string, open bool, limit int) []deadletter.Request {
	var list []deadletter.Request
	for _, r := range slices.Backward(d.requests) {
		if len(list) >= limit {
			break
		}
		if r.Group == group && (!open || r.State == deadletter.Open) {
			list = append(list, r.Request)
		}
	}
	return list
}

// Work is an open request to retry.
type Work struct {
	deadletter.Request

	Selected bool    // its keys are known
	Left     []int64 // those it is not done with
}

// Work lists a group's open requests to retry, oldest first.
func (d *Desk) Work(group string) []Work {
	var work []Work
	for _, r := range d.open {
		if r.Group == group {
			work = append(work, Work{Request: r.Request, Selected: r.selected, Left: slices.Sorted(maps.Keys(r.left))})
		}
	}
	return work
}

// Audit lists a group's entries, newest first, before the ID (0: from the newest).
func (d *Desk) Audit(group string, before int64, limit int) []deadletter.Entry {
	var list []deadletter.Entry
	for _, e := range slices.Backward(d.audit) {
		if len(list) >= limit {
			break
		}
		if e.Group == group && (before == 0 || e.ID < before) {
			list = append(list, e)
		}
	}
	return list
}
