package event

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Media types of the CloudEvents 1.0.2 JSON format.
const (
	MediaTypeCloudEvent      = "application/cloudevents+json"
	MediaTypeCloudEventBatch = "application/cloudevents-batch+json"
)

// maxEmbeddedDepth keeps data that are themselves deep within the depth that
// encoding/json reads (10,000) when they stand inside an event and a batch.
const maxEmbeddedDepth = 9_000

// MarshalCloudEvent writes e in the CloudEvents 1.0.2 JSON format. JSON data
// stand in it byte by byte as they are; other text is a string; the rest is
// data_base64. It fails for the zero Event only.
func MarshalCloudEvent(e Event) ([]byte, error) {
	if e.IsZero() {
		return nil, fmt.Errorf("marshal a cloud event: %w", errZeroEvent)
	}
	return appendCloudEvent(nil, e), nil
}

// MarshalCloudEventBatch writes es in the CloudEvents 1.0.2 JSON batch format.
func MarshalCloudEventBatch(es []Event) ([]byte, error) {
	b := []byte{'['}
	for i, e := range es {
		if e.IsZero() {
			return nil, fmt.Errorf("marshal event %d of a batch: %w", i, errZeroEvent)
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = appendCloudEvent(b, e)
	}
	return append(b, ']'), nil
}

var errZeroEvent = &InvalidError{"type", "", "is empty: this is the zero Event; make one with New"}

// UnmarshalCloudEvent reads one event in the CloudEvents 1.0.2 JSON format, of
// any producer. Numbers and booleans among the extensions become their JSON
// text. The event keeps no part of b. An *InvalidError names an attribute that
// cannot be accepted; other errors mean that b is no JSON object.
func UnmarshalCloudEvent(b []byte) (Event, error) { return unmarshalCloudEvent(b, nil) }

// UnmarshalCloudEventBatch reads a batch. One bad event fails it as a whole;
// the error names its index from 0.
func UnmarshalCloudEventBatch(b []byte) ([]Event, error) {
	if err := checkJSON(b); err != nil {
		return nil, fmt.Errorf("read a batch of cloud events: %w", err)
	}
	s := jsonScanner{b: b}
	if s.skipSpace(); s.b[s.i] != '[' {
		return nil, fmt.Errorf("read a batch of cloud events: it starts with %q, not with [: a batch is a JSON array", s.b[s.i])
	}
	es := []Event{}
	for s.i++; s.more(']'); {
		e, err := scanEvent(s.value(), nil)
		if err != nil {
			return nil, fmt.Errorf("read event %d of a batch: %w", len(es), err)
		}
		es = append(es, e)
	}
	return es, nil
}

func unmarshalCloudEvent(b, key []byte) (Event, error) {
	if err := checkJSON(b); err != nil {
		return Event{}, fmt.Errorf("read a cloud event: %w", err)
	}
	e, err := scanEvent(b, key)
	if err != nil {
		return Event{}, fmt.Errorf("read a cloud event: %w", err)
	}
	return e, nil
}

// checkJSON makes sure of what the scanner relies on.
func checkJSON(b []byte) error {
	if !utf8.Valid(b) {
		return &InvalidError{"json", string(b), "is not valid UTF-8"}
	}
	if !json.Valid(b) {
		var raw json.RawMessage
		return fmt.Errorf("invalid JSON: %w", json.Unmarshal(b, &raw)) // says where
	}
	return nil
}

// scanEvent reads one JSON object; b is valid JSON.
func scanEvent(b, key []byte) (Event, error) {
	s := jsonScanner{b: b}
	if s.skipSpace(); s.b[s.i] != '{' {
		return Event{}, fmt.Errorf("it starts with %q, not with {: an event is a JSON object", s.b[s.i])
	}
	var a attributes
	var data, base []byte
	for s.i++; s.more('}'); {
		quoted := s.value()
		name, err := unquote(quoted)
		if err != nil {
			return Event{}, &InvalidError{"attribute name", string(quoted), err.Error()}
		}
		s.skipSpace()
		s.i++ // the colon
		s.skipSpace()
		value := s.value()
		switch name {
		case "data":
			err = once(name, &data, value)
		case "data_base64":
			err = once(name, &base, value)
		default:
			err = a.setJSON(name, value)
		}
		if err != nil {
			return Event{}, err
		}
	}
	bytes, err := a.jsonData(data, base)
	if err != nil {
		return Event{}, err
	}
	return a.event(key, bytes)
}

func once(name string, to *[]byte, value []byte) error {
	if *to != nil {
		return &InvalidError{name, string(value), "is given twice: an event has one"}
	}
	*to = value
	return nil
}

func (a *attributes) setJSON(name string, value []byte) error {
	if !validAttributeName(name) {
		return &InvalidError{"attribute name", name, "must be made of a-z and 0-9 only, by CloudEvents"}
	}
	switch value[0] {
	case 'n': // null is the same as absent
		return nil
	case '{', '[':
		return &InvalidError{name, string(value), "is an object or an array: an attribute is a string, a number or a boolean"}
	case '"':
		text, err := unquote(value)
		if err != nil {
			return &InvalidError{name, string(value), err.Error()}
		}
		return a.set(name, text)
	}
	if at := lookUp(name); at <= attrContentType && at != attrNone {
		return &InvalidError{name, string(value), "must be a string"}
	}
	return a.set(name, string(value))
}

// jsonData finds the event's data by section 3.1.2 of the format.
func (a *attributes) jsonData(data, base []byte) ([]byte, error) {
	if base != nil && base[0] != 'n' {
		if data != nil {
			return nil, &InvalidError{"data_base64", string(base), "stands beside data: an event has one of them"}
		}
		if base[0] != '"' {
			return nil, &InvalidError{"data_base64", string(base), "is no string: send base64"}
		}
		text, err := unquote(base)
		if err != nil {
			return nil, &InvalidError{"data_base64", string(base), err.Error()}
		}
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, &InvalidError{"data_base64", text, "is not base64: " + err.Error()}
		}
		return noEmpty(b), nil
	}
	if data == nil {
		return nil, nil
	}
	if a.values[attrContentType] == "" {
		a.values[attrContentType] = DefaultContentType // what the format implies, made explicit
	}
	ct := a.values[attrContentType]
	if jsonType(ct) {
		return append([]byte(nil), data...), nil
	}
	switch data[0] {
	case 'n':
		return nil, nil
	case '"':
		text, err := unquote(data)
		if err != nil {
			return nil, &InvalidError{"data", string(data), err.Error()}
		}
		return noEmpty([]byte(text)), nil
	}
	return nil, &InvalidError{"data", string(data), "is JSON, but datacontenttype is " + ct + ": send a string or data_base64"}
}

func appendCloudEvent(b []byte, e Event) []byte {
	if b == nil {
		b = make([]byte, 0, 2*e.attributeBytes()+len(e.data)*4/3+64)
	}
	b = append(b, `{"specversion":"1.0","id":`...)
	b = appendString(b, e.CloudEventID())
	text := func(at attr, value string) {
		if value != "" {
			b = appendString(appendName(b, attrNames[at]), value)
		}
	}
	text(attrSource, e.source)
	text(attrType, e.typ)
	if !e.time.IsZero() {
		b = append(appendName(b, attrNames[attrTime]), '"')
		b = append(e.time.AppendFormat(b, time.RFC3339Nano), '"')
	}
	text(attrSubject, e.subject)
	text(attrDataSchema, e.dataSchema)
	text(attrContentType, e.contentType)
	if e.sequence > 0 {
		text(attrSequence, string(appendSequence(nil, e.sequence)))
	}
	text(attrPartitionKey, e.aggregate.ID)
	text(attrAggregateType, e.aggregate.Type)
	if !e.hasHeader(attrDataVersion) {
		text(attrDataVersion, strconv.Itoa(e.version))
	}
	text(attrCorrelation, e.correlation)
	text(attrCausation, e.causation)
	text(attrTraceParent, e.traceParent)
	text(attrTraceState, e.traceState)
	for _, h := range e.headers {
		b = appendString(appendName(b, h.Name), h.Value)
	}
	return append(appendData(b, e), '}')
}

func appendData(b []byte, e Event) []byte {
	switch {
	case len(e.data) == 0:
		return b
	case jsonType(e.contentType) && utf8Charset(e.contentType) && embeddable(e.data):
		return append(appendName(b, "data"), e.data...)
	case textType(e.contentType) && utf8Charset(e.contentType) && utf8.Valid(e.data):
		return appendString(appendName(b, "data"), string(e.data))
	}
	b = append(appendName(b, "data_base64"), '"')
	return append(base64.StdEncoding.AppendEncode(b, e.data), '"')
}

func appendName(b []byte, name string) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	return append(b, '"', ':')
}

// embeddable tells whether data can stand in an event as they are and be found
// again byte by byte.
func embeddable(data []byte) bool {
	if isSpace(data[0]) || isSpace(data[len(data)-1]) {
		return false
	}
	opening := 0
	for _, c := range data {
		if c == '{' || c == '[' {
			opening++
		}
	}
	return opening < maxEmbeddedDepth && utf8.Valid(data) && json.Valid(data)
}

// mediaType strips the parameters of a content type and lowers its case.
func mediaType(contentType string) string {
	t, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(t))
}

// cloudEventsType tells structured mode from binary, as the Kafka binding does.
func cloudEventsType(contentType string) bool {
	const prefix = "application/cloudevents"
	return len(contentType) >= len(prefix) && strings.EqualFold(contentType[:len(prefix)], prefix)
}

func jsonType(contentType string) bool {
	if contentType == DefaultContentType {
		return true
	}
	t := mediaType(contentType)
	return strings.HasSuffix(t, "/json") || strings.HasSuffix(t, "+json")
}

func textType(contentType string) bool {
	t := mediaType(contentType)
	return strings.HasPrefix(t, "text/") || strings.HasSuffix(t, "/xml") || strings.HasSuffix(t, "+xml")
}

func utf8Charset(contentType string) bool {
	_, params, ok := strings.Cut(contentType, ";")
	if !ok {
		return true
	}
	params = strings.ToLower(params)
	return !strings.Contains(params, "charset") || strings.Contains(params, "utf-8")
}
