package event

import (
	"iter"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Aggregate names the consistency boundary an event belongs to. Its ID is the
// Kafka key: all events of one aggregate are in one partition, in order.
type Aggregate struct {
	Type string // such as "order"; chooses the topic
	ID   string // such as "o-4711"; the key
}

// Header is one application header: a name and a text, carried as a CloudEvents
// extension attribute.
type Header struct{ Name, Value string }

// Event is one thing that happened. It is immutable: make one with New, read it
// by its accessors, and pass it by value.
type Event struct {
	id          uuid.UUID
	foreignID   string // the CloudEvents id when it is not a UUID
	typ         string
	version     int
	source      string
	aggregate   Aggregate
	sequence    int64
	time        time.Time
	correlation string
	causation   string
	traceParent string
	traceState  string
	subject     string
	dataSchema  string
	contentType string
	headers     []Header // sorted by name
	data        []byte
}

// Draft is what New makes an Event of. Zero ID, Time, Version and ContentType
// are filled in: a new UUIDv7, now, 1 and application/json.
type Draft struct {
	ID          uuid.UUID
	Type        string
	Version     int
	Source      string
	Aggregate   Aggregate
	Sequence    int64
	Time        time.Time
	Correlation string
	Causation   string
	TraceParent string
	TraceState  string
	Subject     string
	DataSchema  string
	ContentType string
	Headers     []Header
	Data        []byte
}

// ID returns the event's identity: what the inbox remembers. It is a UUIDv7 for
// events made here; for another producer's id that is no UUID it is derived
// from source and id (UUIDv5, RFC 9562), so that it is the same at every read.
func (e Event) ID() uuid.UUID { return e.id }

// CloudEventID returns the id attribute as it stands on the wire.
func (e Event) CloudEventID() string {
	if e.foreignID != "" {
		return e.foreignID
	}
	return e.id.String()
}

// Type returns the wire name, past tense: "order.canceled".
func (e Event) Type() string { return e.typ }

// Version returns the version of the payload's schema, from 1.
func (e Event) Version() int { return e.version }

// Source returns the service that produced the event, a URI reference.
func (e Event) Source() string { return e.source }

// Aggregate returns the aggregate the event belongs to.
func (e Event) Aggregate() Aggregate { return e.aggregate }

// Sequence returns the event's number within its aggregate, from 1; 0 = none.
func (e Event) Sequence() int64 { return e.sequence }

// Time returns when it happened, in UTC.
func (e Event) Time() time.Time { return e.time }

// Correlation returns the ID shared by all events of one business transaction.
func (e Event) Correlation() string { return e.correlation }

// Causation returns the ID of the event that this one follows from, if any.
func (e Event) Causation() string { return e.causation }

// TraceParent returns the W3C traceparent, if any.
func (e Event) TraceParent() string { return e.traceParent }

// TraceState returns the W3C tracestate, if any.
func (e Event) TraceState() string { return e.traceState }

// Subject returns the CloudEvents subject, if any.
func (e Event) Subject() string { return e.subject }

// DataSchema returns the CloudEvents dataschema, if any.
func (e Event) DataSchema() string { return e.dataSchema }

// ContentType returns the media type of Data.
func (e Event) ContentType() string { return e.contentType }

// Data returns the encoded payload. The caller must not change it.
func (e Event) Data() []byte { return e.data }

// Header returns the header of that name.
func (e Event) Header(name string) (string, bool) {
	i, ok := slices.BinarySearchFunc(e.headers, name, func(h Header, n string) int {
		switch {
		case h.Name < n:
			return -1
		case h.Name > n:
			return 1
		}
		return 0
	})
	if !ok {
		return "", false
	}
	return e.headers[i].Value, true
}

// Headers yields the headers in order of name.
func (e Event) Headers() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, h := range e.headers {
			if !yield(h.Name, h.Value) {
				return
			}
		}
	}
}
