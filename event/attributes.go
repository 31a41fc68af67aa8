package event

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// attr is an attribute that has a field of its own in Event.
type attr int8

const (
	attrSpecVersion attr = iota
	attrID
	attrSource
	attrType
	attrTime
	attrSubject
	attrDataSchema
	attrContentType
	attrSequence
	attrPartitionKey
	attrAggregateType
	attrDataVersion
	attrCorrelation
	attrCausation
	attrTraceParent
	attrTraceState
	attrCount
)

// attrNone is no attribute of Event's own.
const attrNone attr = -1

// specVersion is the only version of CloudEvents there is for 1.0.x.
const specVersion = "1.0"

// attrNames are the wire names, in the order they are written.
var attrNames = [attrCount]string{
	attrSpecVersion:   "specversion",
	attrID:            "id",
	attrSource:        "source",
	attrType:          "type",
	attrTime:          "time",
	attrSubject:       "subject",
	attrDataSchema:    "dataschema",
	attrContentType:   "datacontenttype",
	attrSequence:      "sequence",      // CloudEvents extension "Sequence"
	attrPartitionKey:  "partitionkey",  // CloudEvents extension "Partitioning"
	attrAggregateType: "aggregatetype", // ours
	attrDataVersion:   "dataversion",   // ours: version of the payload's schema
	attrCorrelation:   "correlationid", // CloudEvents extension "Correlation"
	attrCausation:     "causationid",   // CloudEvents extension "Correlation"
	attrTraceParent:   "traceparent",   // CloudEvents extension "Distributed Tracing"
	attrTraceState:    "tracestate",
}

func lookUp(name string) attr {
	switch name {
	case "specversion":
		return attrSpecVersion
	case "id":
		return attrID
	case "source":
		return attrSource
	case "type":
		return attrType
	case "time":
		return attrTime
	case "subject":
		return attrSubject
	case "dataschema":
		return attrDataSchema
	case "datacontenttype":
		return attrContentType
	case "sequence":
		return attrSequence
	case "partitionkey":
		return attrPartitionKey
	case "aggregatetype":
		return attrAggregateType
	case "dataversion":
		return attrDataVersion
	case "correlationid":
		return attrCorrelation
	case "causationid":
		return attrCausation
	case "traceparent":
		return attrTraceParent
	case "tracestate":
		return attrTraceState
	}
	return attrNone
}

// attributes collects what a decoder finds on the wire, before it is an Event.
type attributes struct {
	values [attrCount]string
	seen   [attrCount]bool
	extra  []Header
}

// set takes one attribute; name is valid, value anything.
func (a *attributes) set(name, value string) error {
	if name == "data" {
		return &InvalidError{name, value, "is no attribute: CloudEvents reserves the name"}
	}
	at := lookUp(name)
	if at == attrNone {
		// Twins are found once, after sorting: looking for them here would be
		// quadratic in a hostile record.
		a.extra = append(a.extra, Header{name, value})
		return nil
	}
	if a.seen[at] {
		return &InvalidError{name, value, "is given twice: an attribute has one value"}
	}
	a.seen[at] = true
	a.values[at] = value
	return nil
}

// event makes the event of what was set. key is the Kafka key, nil where there
// is none.
func (a *attributes) event(key []byte, data []byte) (Event, error) {
	if v := a.values[attrSpecVersion]; v != specVersion {
		if v == "" {
			return Event{}, &InvalidError{"specversion", v, "is missing: this is no CloudEvent; a producer must send specversion 1.0, id, source and type"}
		}
		return Event{}, &InvalidError{"specversion", v, "is not known: send CloudEvents 1.0"}
	}
	for _, at := range [...]attr{attrID, attrSource, attrType} {
		if a.values[at] == "" {
			return Event{}, &InvalidError{attrNames[at], "", "is missing or empty: CloudEvents requires it"}
		}
	}
	for at, v := range a.values {
		if err := checkString(attrNames[at], v); err != nil {
			return Event{}, err
		}
	}
	e := Event{
		typ: a.values[attrType], source: a.values[attrSource],
		aggregate:   Aggregate{Type: a.values[attrAggregateType], ID: a.aggregateID(key)},
		correlation: a.values[attrCorrelation], causation: a.values[attrCausation],
		traceState: a.values[attrTraceState], subject: a.values[attrSubject],
		dataSchema: a.values[attrDataSchema], contentType: a.values[attrContentType],
		data: data,
	}
	e.setID(a.values[attrID])
	if err := a.time(&e); err != nil {
		return Event{}, err
	}
	a.numbers(&e)
	if err := a.headers(&e); err != nil {
		return Event{}, err
	}
	return e, nil
}

// setID tells our ids from those of other producers. Text that is not exactly
// how uuid writes it stays as it is: CloudEvents compares ids by character.
func (e *Event) setID(text string) {
	if id, ok := canonicalUUID(text); ok {
		e.id = id
		return
	}
	e.foreignID = text
	e.id = deriveID(e.source, text)
}

func (a *attributes) aggregateID(key []byte) string {
	if id := a.values[attrPartitionKey]; id != "" {
		return id
	}
	if len(key) > 0 {
		if id := string(key); checkString("key", id) == nil {
			return id
		}
	}
	return a.values[attrSubject]
}

func (a *attributes) time(e *Event) error {
	v := a.values[attrTime]
	if v == "" {
		return nil
	}
	t, err := time.Parse(time.RFC3339, v)
	if err != nil {
		// RFC 3339, section 5.6, lets T and Z be of lower case.
		if t, err = time.Parse(time.RFC3339, strings.ToUpper(v)); err != nil {
			return &InvalidError{"time", v, `is not of RFC 3339: send one such as "2026-01-31T12:00:00Z"`}
		}
	}
	e.time = t.UTC()
	return checkTime("time", e.time)
}

// sequenceDigits is the width of a written sequence: the extension demands
// values that sort as text, and int64 has 19 digits.
const sequenceDigits = 19

// appendSequence writes n, not negative, with leading zeros.
func appendSequence(b []byte, n int64) []byte {
	b = append(b, "0000000000000000000"...)
	for i := len(b) - 1; n > 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
	return b
}

// numbers reads what must be of a form of ours to be a field of Event. Another
// producer may mean something else by the same name: such a value stays a
// header, so that it is neither lost nor misread.
func (a *attributes) numbers(e *Event) {
	e.version = 1
	if v := a.values[attrDataVersion]; v != "" {
		if n, ok := positive(v); ok && n <= math.MaxInt32 {
			e.version = int(n)
		} else {
			a.extra = append(a.extra, Header{attrNames[attrDataVersion], v})
		}
	}
	if v := a.values[attrSequence]; v != "" {
		if n, ok := positive(v); ok {
			e.sequence = n
		} else {
			a.extra = append(a.extra, Header{attrNames[attrSequence], v})
		}
	}
	if v := a.values[attrTraceParent]; v != "" {
		if validTraceParent(v) {
			e.traceParent = v
		} else {
			a.extra = append(a.extra, Header{attrNames[attrTraceParent], v})
		}
	}
}

func (a *attributes) headers(e *Event) error {
	if len(a.extra) == 0 {
		return nil
	}
	slices.SortFunc(a.extra, func(x, y Header) int { return strings.Compare(x.Name, y.Name) })
	for i, h := range a.extra {
		if err := checkString(h.Name, h.Value); err != nil {
			return err
		}
		if i > 0 && a.extra[i-1].Name == h.Name {
			return &InvalidError{h.Name, h.Value, "is given twice: an attribute has one value"}
		}
	}
	e.headers = a.extra
	return nil
}

// positive reads a decimal number from 1, leading zeros allowed.
func positive(s string) (int64, bool) {
	var n int64
	for i := range len(s) {
		digit := int64(s[i]) - '0'
		if digit < 0 || digit > 9 || n > (math.MaxInt64-digit)/10 {
			return 0, false
		}
		n = n*10 + digit
	}
	return n, n > 0
}

// canonicalUUID reads a UUID written in lower case with hyphens. The nil and
// the max UUID name nothing.
func canonicalUUID(s string) (uuid.UUID, bool) {
	if len(s) != 36 {
		return uuid.Nil, false
	}
	id, err := uuid.Parse(s)
	if err != nil || id == uuid.Nil || id == uuid.Max {
		return uuid.Nil, false
	}
	for i := range len(s) {
		if s[i] >= 'A' && s[i] <= 'F' {
			return uuid.Nil, false
		}
	}
	return id, true
}

// idSpace is the UUIDv5 name space of ids derived from other producers' events.
var idSpace = uuid.MustParse("6f1f2f5c-8f3b-5d0e-9a51-2c9d7e4b6a10")

// deriveID gives an event with a foreign id its identity: CloudEvents says that
// source and id together are unique. Neither can contain the NUL between them.
func deriveID(source, id string) uuid.UUID {
	name := make([]byte, 0, len(source)+1+len(id))
	name = append(name, source...)
	name = append(name, 0)
	name = append(name, id...)
	return uuid.NewSHA1(idSpace, name)
}

// attributeBytes counts what e takes of a Kafka record beside its data: each
// header with its "ce_" and its lengths, and the key.
func (e Event) attributeBytes() int {
	const perHeader = 8
	n := len(e.aggregate.ID) // the key
	each := func(name string, size int) {
		if size > 0 {
			n += len(name) + size + perHeader
		}
	}
	each("specversion", len(specVersion))
	each("id", max(len(e.foreignID), len(uuidForm)))
	each("source", len(e.source))
	each("type", len(e.typ))
	each("time", len(time.RFC3339Nano))
	each("subject", len(e.subject))
	each("dataschema", len(e.dataSchema))
	each("datacontenttype", len(e.contentType))
	each("sequence", sequenceDigits)
	each("partitionkey", len(e.aggregate.ID))
	each("aggregatetype", len(e.aggregate.Type))
	each("dataversion", 20)
	each("correlationid", len(e.correlation))
	each("causationid", len(e.causation))
	each("traceparent", len(e.traceParent))
	each("tracestate", len(e.traceState))
	for _, h := range e.headers {
		n += len(h.Name) + len(h.Value) + perHeader
	}
	return n
}
