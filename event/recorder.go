package event

import (
	"slices"
	"time"

	"github.com/google/uuid"
)

// Raised is a domain event before it is on its way: what happened, to which
// aggregate. Recorder makes them; a domain service or a value makes one itself
// and names the aggregate it acted on. Zero ID and Time are filled in later.
type Raised struct {
	ID        uuid.UUID
	Aggregate Aggregate
	Sequence  int64 // 0 = none
	Time      time.Time
	Headers   []Header
	Payload   any // by value, of a type registered in the catalog
}

// Recording is an aggregate that records its events; embed Recorder to be one.
type Recording interface {
	// Recorded returns the events recorded since ClearRecorded, in order.
	Recorded() []Raised
	// ClearRecorded forgets them, once they are on their way.
	ClearRecorded()
}

// Unsequenced is given to Identify instead of a last sequence: it makes a Recorder number nothing.
const Unsequenced int64 = -1

// Recorder records what happens to one aggregate. Embed it; its zero value
// records, and gets its identity by Identify then or later. Like the aggregate,
// it belongs to one goroutine at a time.
type Recorder struct {
	aggregate Aggregate
	last      int64
	sequenced bool
	recorded  []Raised
}

// Identify says whose events these are and the sequence of the last one already
// stored: 0 for a new aggregate, whose first event is 1; Unsequenced for no
// numbers. Events recorded before their aggregate had an identity get it now.
func (r *Recorder) Identify(a Aggregate, lastSequence int64) {
	r.aggregate, r.last, r.sequenced = a, lastSequence, lastSequence >= 0
	for i := range r.recorded {
		if r.recorded[i].Aggregate == (Aggregate{}) {
			r.recorded[i].Aggregate = a
			r.recorded[i].Sequence = r.next()
		}
	}
}

// Record notes that payload happened now. Payload is a value of a registered
// type; headers travel with the event.
func (r *Recorder) Record(payload any, headers ...Header) {
	ev := Raised{
		ID: uuid.Must(uuid.NewV7()), Time: time.Now().UTC(),
		Aggregate: r.aggregate, Headers: slices.Clone(headers), Payload: payload,
	}
	if r.aggregate != (Aggregate{}) {
		ev.Sequence = r.next()
	}
	r.recorded = append(r.recorded, ev)
}

func (r *Recorder) next() int64 {
	if !r.sequenced {
		return 0
	}
	r.last++
	return r.last
}

// LastSequence returns the sequence of the last event recorded or stored; 0 for
// none.
func (r *Recorder) LastSequence() int64 {
	return max(r.last, 0)
}

// Recorded returns the events recorded since ClearRecorded, in order. The slice
// is the caller's.
func (r *Recorder) Recorded() []Raised { return slices.Clone(r.recorded) }

// ClearRecorded forgets the recorded events. Numbering goes on.
func (r *Recorder) ClearRecorded() { r.recorded = nil }
