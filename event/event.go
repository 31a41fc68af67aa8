package event

import (
	"bytes"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Aggregate names the consistency boundary an event belongs to. Its ID is the
// Kafka key: all events of one aggregate are in one partition, in order.
type Aggregate struct {
	Type string // such as "order"; chooses the topic
	ID   string // such as "o-4711"; the key
}

// String returns type/id.
func (a Aggregate) String() string { return a.Type + "/" + a.ID }

// Header is one application header: a name and a text, carried as a CloudEvents
// extension attribute.
type Header struct{ Name, Value string }

// Event is one thing that happened. It is immutable: make one with New, read it
// by its accessors, and pass it by value.
type Event struct { //nolint:recvcheck // its decoders fill it in by pointer
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
		return strings.Compare(h.Name, n)
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

// IsZero reports whether e is the zero Event, which is no event: neither New
// nor a decoder returns it without an error.
func (e Event) IsZero() bool { return e.typ == "" }

// Equal reports whether e and o say the same: every attribute, every header and
// the bytes of the data. Absent data equals empty data.
func (e Event) Equal(o Event) bool {
	return e.id == o.id && e.foreignID == o.foreignID &&
		e.typ == o.typ && e.version == o.version && e.source == o.source &&
		e.aggregate == o.aggregate && e.sequence == o.sequence && e.time.Equal(o.time) &&
		e.correlation == o.correlation && e.causation == o.causation &&
		e.traceParent == o.traceParent && e.traceState == o.traceState &&
		e.subject == o.subject && e.dataSchema == o.dataSchema && e.contentType == o.contentType &&
		slices.Equal(e.headers, o.headers) && bytes.Equal(e.data, o.data)
}

// String names the event for a log line or an error: type, version, id,
// aggregate and sequence, never the data.
func (e Event) String() string {
	s := fmt.Sprintf("%s v%d %s of %s", e.typ, e.version, e.CloudEventID(), e.aggregate)
	if e.sequence > 0 {
		s += fmt.Sprintf(" #%d", e.sequence)
	}
	return s
}

// LogValue is what slog writes of an event: a group of id, type, aggregate and,
// where there is one, sequence. The data stays out of the log.
func (e Event) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.String("id", e.CloudEventID()),
		slog.String("type", e.typ),
		slog.String("aggregate", e.aggregate.String()),
	}
	if e.sequence > 0 {
		attrs = append(attrs, slog.Int64("sequence", e.sequence))
	}
	return slog.GroupValue(attrs...)
}
