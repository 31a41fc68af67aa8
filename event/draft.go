package event

import (
	"bytes"
	"fmt"
	"math"
	"mime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// What New accepts fits into one record of a broker and a topic with default
// settings (message.max.bytes, 1 MiB), with room for record and batch overhead.
const (
	// MaxDataBytes is the default limit of an event's data in bytes; see
	// CatalogConfig.MaxDataBytes to change it.
	MaxDataBytes = 1<<20 - 32<<10
	// MaxAttributeBytes is the limit of everything else an event carries: names
	// and values of its attributes and headers, in bytes as Kafka counts them.
	MaxAttributeBytes = 16 << 10
)

// DefaultContentType is the media type of data when a Draft names none.
const DefaultContentType = "application/json"

// Draft is what New makes an Event of. Zero ID, Time, Version and ContentType
// are filled in: a new UUIDv7, now, 1 and application/json.
type Draft struct {
	ID          uuid.UUID
	Type        string // wire name, past tense: "order.canceled"
	Version     int    // of the payload's schema, from 1
	Source      string // URI reference of the producing service: "/orders"
	Aggregate   Aggregate
	Sequence    int64 // within the aggregate, from 1; 0 = none
	Time        time.Time
	Correlation string
	Causation   string
	TraceParent string // W3C trace context, level 1
	TraceState  string
	Subject     string
	DataSchema  string // URI
	ContentType string
	Headers     []Header // names of a-z and 0-9, as CloudEvents demands
	Data        []byte
}

// New makes an event of d. It copies the headers and the data, turns the time
// to UTC without its monotonic reading, and returns an *InvalidError that names
// the first field it cannot accept. A zero time is filled in, never refused: an
// event made here always has one.
func New(d Draft) (Event, error) {
	if err := checkData(d.Data, MaxDataBytes); err != nil {
		return Event{}, err
	}
	d.Data = bytes.Clone(d.Data)
	return newOwned(d)
}

func checkData(data []byte, most int) error {
	if len(data) <= most {
		return nil
	}
	return &InvalidError{
		"data", fmt.Sprintf("%d bytes", len(data)),
		fmt.Sprintf("is over the limit of %d bytes: store the bulk elsewhere and send a reference, or raise CatalogConfig.MaxDataBytes together with the topic's max.message.bytes", most),
	}
}

// newOwned is New for data that nobody else holds and that is within its limit.
func newOwned(d Draft) (Event, error) {
	if err := d.fill(); err != nil {
		return Event{}, err
	}
	if err := d.validate(); err != nil {
		return Event{}, err
	}
	headers, err := sortedHeaders(d.Headers)
	if err != nil {
		return Event{}, err
	}
	e := Event{
		id: d.ID, typ: d.Type, version: d.Version, source: d.Source,
		aggregate: d.Aggregate, sequence: d.Sequence, time: d.Time,
		correlation: d.Correlation, causation: d.Causation,
		traceParent: d.TraceParent, traceState: d.TraceState,
		subject: d.Subject, dataSchema: d.DataSchema, contentType: d.ContentType,
		headers: headers, data: d.Data,
	}
	if n := e.attributeBytes(); n > MaxAttributeBytes {
		return Event{}, &InvalidError{
			Field: "headers", Value: fmt.Sprintf("%d bytes", n),
			Reason: fmt.Sprintf("headers and attributes together are over the limit of %d bytes: move what is large into the data", MaxAttributeBytes),
		}
	}
	return e, nil
}

func (d *Draft) fill() error {
	if d.ID == uuid.Nil {
		id, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("make an event id: %w", err)
		}
		d.ID = id
	}
	if d.Time.IsZero() {
		d.Time = time.Now()
	}
	d.Time = d.Time.UTC() // drops the monotonic reading too
	if d.Version == 0 {
		d.Version = 1
	}
	if d.ContentType == "" {
		d.ContentType = DefaultContentType
	}
	return nil
}

func (d *Draft) validate() error {
	switch {
	case d.ID == uuid.Max:
		return &InvalidError{"id", d.ID.String(), "is the max UUID, which names nothing: leave it zero for a new one"}
	case d.Type == "":
		return &InvalidError{"type", d.Type, `is empty: name what happened, such as "order.canceled"`}
	case d.Version < 1 || d.Version > math.MaxInt32:
		return &InvalidError{"version", strconv.Itoa(d.Version), "is not from 1 to 2147483647: count schema versions from 1"}
	case d.Source == "":
		return &InvalidError{"source", d.Source, `is empty: name the producing service, such as "/orders"`}
	case d.Aggregate.Type == "":
		return &InvalidError{"aggregate.type", "", `is empty: name the kind of aggregate, such as "order"; it chooses the topic`}
	case d.Aggregate.ID == "":
		return &InvalidError{"aggregate.id", "", "is empty: name the aggregate the event belongs to; its ID is the Kafka key and gives the order"}
	case d.Sequence < 0:
		return &InvalidError{"sequence", strconv.FormatInt(d.Sequence, 10), "is negative: number the events of an aggregate from 1, or give 0 for none"}
	}
	if err := checkTime("time", d.Time); err != nil {
		return err
	}
	for _, f := range [...]struct{ name, value string }{
		{"type", d.Type},
		{"source", d.Source},
		{"aggregate.type", d.Aggregate.Type},
		{"aggregate.id", d.Aggregate.ID},
		{"correlation", d.Correlation},
		{"causation", d.Causation},
		{"subject", d.Subject},
		{"dataschema", d.DataSchema},
		{"tracestate", d.TraceState},
		{"contenttype", d.ContentType},
	} {
		if err := checkString(f.name, f.value); err != nil {
			return err
		}
	}
	if err := checkURI("source", d.Source, false); err != nil {
		return err
	}
	if err := checkURI("dataschema", d.DataSchema, true); err != nil {
		return err
	}
	if d.TraceParent != "" && !validTraceParent(d.TraceParent) {
		return &InvalidError{"traceparent", d.TraceParent, "is no W3C traceparent: give version-traceid-parentid-flags in lower-case hex, or leave it empty"}
	}
	if d.TraceState != "" && !validTraceState(d.TraceState) {
		return &InvalidError{"tracestate", d.TraceState, "is no W3C tracestate: give up to 32 key=value members separated by commas, or leave it empty"}
	}
	if d.ContentType != DefaultContentType {
		if _, _, err := mime.ParseMediaType(d.ContentType); err != nil {
			return &InvalidError{"contenttype", d.ContentType, "is no media type (" + err.Error() + `): give one such as "application/json"`}
		}
	}
	return nil
}

// sortedHeaders returns a checked copy of hs in order of name.
func sortedHeaders(hs []Header) ([]Header, error) {
	if len(hs) == 0 {
		return nil, nil
	}
	hs = slices.Clone(hs)
	slices.SortFunc(hs, func(a, b Header) int { return strings.Compare(a.Name, b.Name) })
	for i, h := range hs {
		if err := checkHeaderName(h.Name); err != nil {
			return nil, err
		}
		if i > 0 && hs[i-1].Name == h.Name {
			return nil, &InvalidError{"header " + h.Name, h.Value, "is given twice: a header has one value"}
		}
		if err := checkString("header "+h.Name, h.Value); err != nil {
			return nil, err
		}
	}
	return hs, nil
}
