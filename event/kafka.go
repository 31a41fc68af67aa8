package event

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// KafkaHeader is one record header.
type KafkaHeader struct {
	Key   string
	Value []byte
}

// KafkaRecord is what of a Kafka record the CloudEvents binding speaks of.
type KafkaRecord struct {
	Key     []byte
	Value   []byte
	Headers []KafkaHeader
}

const (
	kafkaPrefix      = "ce_"
	kafkaContentType = "content-type"
)

const uuidForm = "00000000-0000-7000-8000-000000000000"

// kafkaNames are the header names, made once.
var kafkaNames = func() (names [attrCount]string) {
	for at, name := range attrNames {
		names[at] = kafkaPrefix + name
	}
	names[attrContentType] = kafkaContentType
	return names
}()

// ToKafka writes e in the binary mode of the CloudEvents 1.0.2 Kafka binding:
// key = aggregate ID, value = data, all else in headers. As the binding says,
// an event without data has a null value: on a compacted topic that is a
// tombstone. An event whose data are themselves CloudEvents is written in
// structured mode, since binary mode could not be told apart from it.
//
// The value shares e's data; nobody may change it.
func ToKafka(e Event) KafkaRecord {
	if cloudEventsType(e.contentType) {
		return toKafkaStructured(e)
	}
	w := newKafkaWriter(e)
	w.text(kafkaNames[attrSpecVersion], specVersion)
	w.id(e)
	w.text(kafkaNames[attrSource], e.source)
	w.text(kafkaNames[attrType], e.typ)
	w.time(e.time)
	w.text(kafkaNames[attrSubject], e.subject)
	w.text(kafkaNames[attrDataSchema], e.dataSchema)
	w.text(kafkaNames[attrContentType], e.contentType)
	if e.sequence > 0 {
		w.sequence(e.sequence)
	}
	w.text(kafkaNames[attrPartitionKey], e.aggregate.ID)
	w.text(kafkaNames[attrAggregateType], e.aggregate.Type)
	if !e.hasHeader(attrDataVersion) {
		w.number(kafkaNames[attrDataVersion], int64(e.version))
	}
	w.text(kafkaNames[attrCorrelation], e.correlation)
	w.text(kafkaNames[attrCausation], e.causation)
	w.text(kafkaNames[attrTraceParent], e.traceParent)
	w.text(kafkaNames[attrTraceState], e.traceState)
	w.extra(e.headers)
	return KafkaRecord{Key: w.key(e.aggregate.ID), Value: noEmpty(e.data), Headers: w.headers}
}

func toKafkaStructured(e Event) KafkaRecord {
	r := KafkaRecord{
		Value:   appendCloudEvent(nil, e),
		Headers: []KafkaHeader{{kafkaContentType, []byte(MediaTypeCloudEvent)}},
	}
	if e.aggregate.ID != "" {
		r.Key = []byte(e.aggregate.ID)
	}
	return r
}

func noEmpty(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

func (e Event) hasHeader(at attr) bool {
	_, ok := e.Header(attrNames[at])
	return ok
}

// kafkaWriter lays all header values out in one buffer that it never outgrows.
type kafkaWriter struct {
	headers []KafkaHeader
	buf     []byte
}

func newKafkaWriter(e Event) *kafkaWriter {
	const always = 5 // specversion, id, time, sequence, dataversion
	headers := always + len(e.headers)
	size := len(specVersion) + len(uuidForm) + len(e.foreignID) + len(time.RFC3339Nano) + sequenceDigits + sequenceDigits
	for _, text := range [...]string{
		e.source, e.typ, e.subject, e.dataSchema, e.contentType, e.aggregate.ID, e.aggregate.Type,
		e.correlation, e.causation, e.traceParent, e.traceState,
	} {
		if text != "" {
			headers++
			size += len(text)
		}
	}
	for i := range e.headers {
		size += len(e.headers[i].Value)
	}
	return &kafkaWriter{
		headers: make([]KafkaHeader, 0, headers),
		buf:     make([]byte, 0, size+len(e.aggregate.ID)), // which is the key, too
	}
}

// add makes a header of what was appended since from.
func (w *kafkaWriter) add(name string, from int) {
	w.headers = append(w.headers, KafkaHeader{name, w.since(from)})
}

// since cuts the capacity too, so that a caller's append cannot run into the next value.
func (w *kafkaWriter) since(from int) []byte { return w.buf[from:len(w.buf):len(w.buf)] }

func (w *kafkaWriter) text(name, value string) {
	if value == "" {
		return
	}
	from := len(w.buf)
	w.buf = append(w.buf, value...)
	w.add(name, from)
}

func (w *kafkaWriter) number(name string, n int64) {
	from := len(w.buf)
	w.buf = strconv.AppendInt(w.buf, n, 10)
	w.add(name, from)
}

func (w *kafkaWriter) sequence(n int64) {
	from := len(w.buf)
	w.buf = appendSequence(w.buf, n)
	w.add(kafkaNames[attrSequence], from)
}

func (w *kafkaWriter) id(e Event) {
	from := len(w.buf)
	w.buf = appendID(w.buf, e)
	w.add(kafkaNames[attrID], from)
}

func (w *kafkaWriter) time(t time.Time) {
	if t.IsZero() {
		return
	}
	from := len(w.buf)
	w.buf = t.AppendFormat(w.buf, time.RFC3339Nano)
	w.add(kafkaNames[attrTime], from)
}

func (w *kafkaWriter) extra(hs []Header) {
	if len(hs) == 0 {
		return
	}
	size := 0
	for _, h := range hs {
		size += len(kafkaPrefix) + len(h.Name)
	}
	var b strings.Builder // one string for all names
	b.Grow(size)
	for _, h := range hs {
		b.WriteString(kafkaPrefix)
		b.WriteString(h.Name)
	}
	names := b.String()
	for _, h := range hs {
		n := len(kafkaPrefix) + len(h.Name)
		from := len(w.buf)
		w.buf = append(w.buf, h.Value...)
		w.add(names[:n], from)
		names = names[n:]
	}
}

func (w *kafkaWriter) key(id string) []byte {
	if id == "" {
		return nil
	}
	from := len(w.buf)
	w.buf = append(w.buf, id...)
	return w.since(from)
}

func appendID(b []byte, e Event) []byte {
	if e.foreignID != "" {
		return append(b, e.foreignID...)
	}
	for i, part := range [...][]byte{e.id[:4], e.id[4:6], e.id[6:8], e.id[8:10], e.id[10:]} {
		if i > 0 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, part)
	}
	return b
}

// FromKafka reads a record of the CloudEvents 1.0.2 Kafka binding, in binary or
// structured JSON mode; which one, the content-type header says. It returns an
// *InvalidError when the record is no CloudEvent.
//
// Other producers' events are read as far as the specification goes. Without
// the attributes of ours, the aggregate's type is empty and its ID is the
// partitionkey, else the record's key where that is text, else the subject,
// else empty; the version is 1; the time may be zero. Attributes it does not
// know become headers. Record headers without the prefix ce_ are not the
// event's.
//
// The event's data is r.Value in binary mode: it must not be changed as long as
// the event lives. Nothing else of r's bytes is kept.
func FromKafka(r KafkaRecord) (Event, error) {
	var in kafkaReader
	if err := in.measure(r.Headers); err != nil {
		return Event{}, err
	}
	if cloudEventsType(in.contentType) {
		if mediaType(in.contentType) != MediaTypeCloudEvent {
			return Event{}, &InvalidError{kafkaContentType, in.contentType, "is a format that cannot be read here: send " + MediaTypeCloudEvent + ", one event to a record, or binary mode"}
		}
		return unmarshalCloudEvent(r.Value, r.Key)
	}
	return in.read(r)
}

// kafkaReader reads the headers in two passes, so that all attributes can be
// cut from one string.
type kafkaReader struct {
	contentType string
	hasType     bool
	size        int // of all attributes' values
	extra       int // attributes without a field in Event, at most
	attrs       attributes
}

func (in *kafkaReader) measure(hs []KafkaHeader) error {
	for i := range hs {
		name := hs[i].Key
		if attribute, ok := cutPrefixFold(name); ok {
			in.size += len(hs[i].Value)
			if lookUp(attribute) == attrNone {
				in.extra++
			}
			continue
		}
		if len(name) != len(kafkaContentType) || !strings.EqualFold(name, kafkaContentType) {
			continue
		}
		if in.hasType {
			return &InvalidError{kafkaContentType, string(hs[i].Value), "is given twice: a record has one content type"}
		}
		in.hasType = true
		if string(hs[i].Value) == DefaultContentType {
			in.contentType = DefaultContentType // spares the copy
		} else {
			in.contentType = string(hs[i].Value)
		}
	}
	return nil
}

func (in *kafkaReader) read(r KafkaRecord) (Event, error) {
	a := &in.attrs
	if in.extra > 0 {
		a.extra = make([]Header, 0, in.extra)
	}
	var b strings.Builder
	b.Grow(in.size)
	for i := range r.Headers {
		if _, ok := cutPrefixFold(r.Headers[i].Key); ok {
			b.Write(r.Headers[i].Value)
		}
	}
	text := b.String()
	for i := range r.Headers {
		name, ok := cutPrefixFold(r.Headers[i].Key)
		if !ok {
			continue
		}
		n := len(r.Headers[i].Value)
		value := text[:n]
		text = text[n:]
		if !validAttributeName(name) {
			if name = strings.ToLower(name); !validAttributeName(name) {
				return Event{}, &InvalidError{r.Headers[i].Key, value, "is no attribute name: CloudEvents allows a-z and 0-9 after ce_"}
			}
		}
		if err := a.set(name, value); err != nil {
			return Event{}, err
		}
	}
	if in.hasType { // ce_datacontenttype is not of the binding; content-type is
		a.values[attrContentType] = in.contentType
	}
	return a.event(r.Key, noEmpty(r.Value))
}

// cutPrefixFold returns what follows ce_ in a header name, whatever its case:
// SDKs differ in it, the binding says nothing.
func cutPrefixFold(name string) (string, bool) {
	if len(name) < len(kafkaPrefix) || name[0]|0x20 != 'c' || name[1]|0x20 != 'e' || name[2] != '_' {
		return "", false
	}
	return name[len(kafkaPrefix):], true
}
