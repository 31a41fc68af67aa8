package event

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// record makes a record of alternating header names and values.
func record(key, value string, headers ...string) KafkaRecord {
	r := KafkaRecord{Value: []byte(value)}
	if key != "" {
		r.Key = []byte(key)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Headers = append(r.Headers, KafkaHeader{headers[i], []byte(headers[i+1])})
	}
	return r
}

// foreign is the least that another producer can send, and more.
func foreign(more ...string) []string {
	return append([]string{"ce_specversion", "1.0", "ce_id", "4711", "ce_source", "/legacy", "ce_type", "com.acme.Thing"}, more...)
}

func TestKafkaBinaryModeHasTheNamesOfTheSpecification(t *testing.T) {
	r := ToKafka(mustNew(t, fullDraft()))
	if string(r.Key) != "o-4711" {
		t.Errorf("key %q, want the aggregate ID", r.Key)
	}
	if string(r.Value) != string(fullDraft().Data) {
		t.Errorf("value %q, want the data as they are", r.Value)
	}
	got := map[string]string{}
	for _, h := range r.Headers {
		got[h.Key] = string(h.Value)
	}
	want := map[string]string{
		"ce_specversion":   "1.0",
		"ce_id":            "0192f0c4-7d2a-7c3e-9f10-1a2b3c4d5e6f",
		"ce_source":        "/orders",
		"ce_type":          "order.canceled",
		"ce_time":          "2026-01-31T12:00:00.123456789Z",
		"ce_subject":       "o-4711",
		"ce_dataschema":    "https://schemas.example/order.json",
		"content-type":     "application/json",
		"ce_sequence":      "0000000000000000007",
		"ce_partitionkey":  "o-4711",
		"ce_aggregatetype": "order",
		"ce_dataversion":   "3",
		"ce_correlationid": "c-1",
		"ce_causationid":   "0192f0c4-7d2a-7c3e-9f10-000000000000",
		"ce_traceparent":   someTraceParent,
		"ce_tracestate":    someTraceState,
		"ce_tenant":        "blue",
		"ce_locale":        "de-DE \"ä\"",
		"ce_empty":         "",
	}
	if len(got) != len(r.Headers) || len(got) != len(want) {
		t.Errorf("%d headers, %d names, want %d", len(r.Headers), len(got), len(want))
	}
	for name, v := range want {
		if got[name] != v {
			t.Errorf("%s = %q, want %q", name, got[name], v)
		}
	}
}

func TestSequencesSortAsTextInTheOrderOfTheirNumbers(t *testing.T) {
	last := ""
	for _, n := range []int64{1, 2, 9, 10, 99, 100, 1 << 40, 1<<63 - 1} {
		text := string(appendSequence(nil, n))
		if text <= last {
			t.Errorf("%d is written %q, not after %q", n, text, last)
		}
		last = text
		if got, ok := positive(text); !ok || got != n {
			t.Errorf("positive(%q) = %d, %v", text, got, ok)
		}
	}
}

func TestAnEventComesBackFromKafkaEqual(t *testing.T) {
	for name, e := range assorted(t) {
		t.Run(name, func(t *testing.T) {
			got, err := FromKafka(ToKafka(e))
			if err != nil {
				t.Fatal(err)
			}
			if !got.Equal(e) {
				t.Errorf("got  %#v\nwant %#v", got, e)
			}
		})
	}
}

// assorted are events of every kind that the encodings treat apart.
func assorted(t testing.TB) map[string]Event {
	t.Helper()
	events := map[string]Event{"full": mustNew(t, fullDraft())}
	add := func(name, contentType, data string) {
		d := fullDraft()
		d.ContentType, d.Data = contentType, []byte(data)
		events[name] = mustNew(t, d)
	}
	add("no data", "application/json", "")
	add("null", "application/json", "null")
	add("JSON string", "application/json", `"\u00e4\ud800"`)
	add("JSON number", "application/json", `-1.50e+3`)
	add("JSON in spaces", "application/json", " {}\n")
	add("JSON after a space", "application/json", " {}")
	add("JSON before a space", "application/json", "{} ")
	add("broken JSON", "application/json", `{"a":`)
	add("JSON of invalid UTF-8", "application/json", "\"\xff\"")
	add("JSON in another charset", "application/json; charset=utf-16", `{}`)
	add("JSON with charset", "application/json; charset=UTF-8", `{}`)
	add("JSON dialect", "application/vnd.acme+json", `[1]`)
	add("deep JSON", "application/json", strings.Repeat("[", 9999)+strings.Repeat("]", 9999))
	add("text", "text/plain", "line\n\t\"quoted\" \\ \u0001\u2028 \U0001f600")
	add("text of invalid UTF-8", "text/plain", "\xff\xfe")
	add("latin-1", "text/plain; charset=iso-8859-1", "abc")
	add("XML", "application/xml", `<much wow="xml"/>`)
	add("binary", "application/octet-stream", "\x00\x01\xff")
	add("structured event inside", "application/cloudevents+json", `{"specversion":"1.0"}`)
	add("batch inside", "Application/CloudEvents-batch+json", `[]`)
	least := Draft{Type: "x", Source: "/", Aggregate: Aggregate{"a", "b"}}
	events["least"] = mustNew(t, least)
	most := fullDraft()
	most.Sequence, most.Version = 1<<63-1, 1<<31-1
	most.Time = time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)
	events["largest numbers"] = mustNew(t, most)
	for name, headers := range map[string][]string{
		"foreign":                    foreign(),
		"foreign, sequence of text":  foreign("ce_sequence", "A-12"),
		"foreign, sequence 0":        foreign("ce_sequence", "0"),
		"foreign, version of text":   foreign("ce_dataversion", "v2"),
		"foreign, traceparent wrong": foreign("ce_traceparent", "nonsense"),
		"foreign, extension":         foreign("ce_empty", "", "ce_z9", "x"),
	} {
		e, err := FromKafka(record("k", `{"a":1}`, headers...))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		events[name] = e
	}
	return events
}

func TestAnotherProducersRecordIsReadAsFarAsTheSpecificationGoes(t *testing.T) {
	e, err := FromKafka(record("k-1", "\x01\x02", foreign(
		"ce_sequencetype", "Integer", "ce_sequence", "00000042", "unrelated", "\xff", "content-type", "application/avro",
		"ce_comexample", "true",
	)...))
	if err != nil {
		t.Fatal(err)
	}
	if e.Aggregate() != (Aggregate{"", "k-1"}) || e.Version() != 1 || e.Sequence() != 42 || !e.Time().IsZero() {
		t.Errorf("aggregate %v, version %d, sequence %d, time %v", e.Aggregate(), e.Version(), e.Sequence(), e.Time())
	}
	if e.CloudEventID() != "4711" || e.ID().Version() != 5 {
		t.Errorf("id %q, derived %s", e.CloudEventID(), e.ID())
	}
	if v, _ := e.Header("comexample"); v != "true" {
		t.Errorf("unknown attribute = %q", v)
	}
	if _, ok := e.Header("unrelated"); ok {
		t.Error("a header without ce_ became the event's")
	}
	if e.ContentType() != "application/avro" || string(e.Data()) != "\x01\x02" {
		t.Errorf("%s %q", e.ContentType(), e.Data())
	}
}

func TestADerivedIDIsTheSameAtEveryReadAndItsSourceCounts(t *testing.T) {
	read := func(source, id string) Event {
		t.Helper()
		e, err := FromKafka(record("k", "", "ce_specversion", "1.0", "ce_type", "t", "ce_source", source, "ce_id", id))
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	// Pinned: an inbox remembers it across releases.
	if got := read("/legacy", "4711").ID().String(); got != "c20423d2-2548-5214-96c0-fb1c927fd4e7" {
		t.Errorf("derived ID %s", got)
	}
	if read("/a", "bc").ID() == read("/ab", "c").ID() {
		t.Error("source and id run into each other")
	}
	const upper = "0192F0C4-7D2A-7C3E-9F10-1A2B3C4D5E6F"
	if e := read("/a", upper); e.CloudEventID() != upper || e.ID() == read("/a", strings.ToLower(upper)).ID() {
		t.Errorf("a UUID in another case is another id: %s %s", e.CloudEventID(), e.ID())
	}
	if e := read("/a", "00000000-0000-0000-0000-000000000000"); e.ID().Version() != 5 {
		t.Errorf("the nil UUID became %s", e.ID())
	}
}

func TestTheAggregateOfAnotherProducersEventIsTheBestKeyThereIs(t *testing.T) {
	for _, c := range []struct {
		name    string
		key     string
		headers []string
		want    string
	}{
		{"partitionkey before key", "key", foreign("ce_partitionkey", "pk", "ce_subject", "s"), "pk"},
		{"key before subject", "key", foreign("ce_subject", "s"), "key"},
		{"binary key gives way to the subject", "\x00\x00\x00\x07", foreign("ce_subject", "s"), "s"},
		{"key of invalid UTF-8", "\xff", foreign("ce_subject", "s"), "s"},
		{"subject", "", foreign("ce_subject", "s"), "s"},
		{"nothing", "", foreign(), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := FromKafka(record(c.key, "", c.headers...))
			if err != nil {
				t.Fatal(err)
			}
			if e.Aggregate().ID != c.want {
				t.Errorf("aggregate ID %q, want %q", e.Aggregate().ID, c.want)
			}
			back := ToKafka(e)
			if string(back.Key) != c.want || (c.want == "") != (back.Key == nil) {
				t.Errorf("written back with key %q", back.Key)
			}
		})
	}
}

func TestARecordThatIsNoCloudEventIsRefusedByField(t *testing.T) {
	for _, c := range []struct {
		name, field, reason string
		r                   KafkaRecord
	}{
		{"no headers", "specversion", "no CloudEvent", record("k", "{}")},
		{"version 0.3", "specversion", "CloudEvents 1.0", record("k", "", "ce_specversion", "0.3")},
		{"no id", "id", "requires", record("k", "", "ce_specversion", "1.0", "ce_source", "/", "ce_type", "t")},
		{"empty id", "id", "requires", record("k", "", "ce_specversion", "1.0", "ce_source", "/", "ce_type", "t", "ce_id", "")},
		{"no source", "source", "requires", record("k", "", "ce_specversion", "1.0", "ce_id", "1", "ce_type", "t")},
		{"type without a name", "type", "requires", record("k", "", "ce_specversion", "1.0", "ce_source", "/", "ce_id", "1")},
		{"id twice", "id", "twice", record("k", "", foreign("ce_id", "1")...)},
		{"extension twice", "x", "twice", record("k", "", foreign("ce_x", "1", "ce_y", "", "ce_x", "1")...)},
		{"extension twice in two cases", "x", "twice", record("k", "", foreign("ce_x", "1", "CE_X", "1")...)},
		{"content type twice", "content-type", "twice", record("k", "", foreign("content-type", "a/b", "content-type", "a/b")...)},
		{"bad time", "time", "RFC 3339", record("k", "", foreign("ce_time", "yesterday")...)},
		{"time zero", "time", "zero time", record("k", "", foreign("ce_time", "0001-01-01T00:00:00Z")...)},
		{"time before year 0 in UTC", "time", "years 0 to 9999", record("k", "", foreign("ce_time", "0000-01-01T00:00:00+23:00")...)},
		{"invalid UTF-8", "subject", "UTF-8", record("k", "", foreign("ce_subject", "\xff")...)},
		{"invalid UTF-8 in an extension", "x", "UTF-8", record("k", "", foreign("ce_x", "\xff")...)},
		{"control character", "subject", "control", record("k", "", foreign("ce_subject", "a\x7f")...)},
		{"attribute name", "ce_tenant-id", "a-z and 0-9", record("k", "", foreign("ce_tenant-id", "1")...)},
		{"attribute without a name", "ce_", "a-z and 0-9", record("k", "", foreign("ce_", "1")...)},
		{"attribute named data", "data", "reserves", record("k", "", foreign("ce_data", "1")...)},
		{"batch", "content-type", "one event to a record", record("k", "[]", "content-type", "application/cloudevents-batch+json")},
		{"format that is not JSON", "content-type", "cannot be read here", record("k", "", "content-type", "application/cloudevents+avro")},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := FromKafka(c.r)
			var invalid *InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("FromKafka = %v, %v; want an *InvalidError", e, err)
			}
			if invalid.Field != c.field || !strings.Contains(invalid.Reason, c.reason) {
				t.Errorf("field %q, reason %q; want %q, %q", invalid.Field, invalid.Reason, c.field, c.reason)
			}
		})
	}
}

func TestHeaderNamesAreReadInAnyCase(t *testing.T) {
	e, err := FromKafka(record("k", "x", "CE_SpecVersion", "1.0", "Ce_ID", "1", "ce_Source", "/", "ce_TYPE", "t", "ce_Tenant", "x", "Content-Type", "text/plain"))
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := e.Header("tenant"); v != "x" || e.Type() != "t" || e.ContentType() != "text/plain" {
		t.Errorf("%v %q %q", e, v, e.ContentType())
	}
}

func TestTimesOfRFC3339AreReadWhateverTheirZoneAndCase(t *testing.T) {
	for in, want := range map[string]string{
		"2018-04-05T17:31:00Z":           "2018-04-05T17:31:00Z",
		"2018-04-05t17:31:00z":           "2018-04-05T17:31:00Z",
		"2018-04-05T17:31:00.5+02:00":    "2018-04-05T15:31:00.5Z",
		"2018-04-05T17:31:00.123456789Z": "2018-04-05T17:31:00.123456789Z",
	} {
		e, err := FromKafka(record("k", "", foreign("ce_time", in)...))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got := e.Time().Format(time.RFC3339Nano); got != want {
			t.Errorf("%s is read as %s, want %s", in, got, want)
		}
	}
}

func TestAStructuredRecordIsReadFromKafka(t *testing.T) {
	value := `{"specversion":"1.0","id":"1","source":"/legacy","type":"t","data":{"a":1}}`
	for _, contentType := range []string{"application/cloudevents+json", "Application/CloudEvents+JSON; charset=UTF-8"} {
		r := record("k-9", value, "content-type", contentType, "ce_id", "ignored: the value counts")
		e, err := FromKafka(r)
		if err != nil {
			t.Fatal(err)
		}
		if e.CloudEventID() != "1" || e.Aggregate().ID != "k-9" || string(e.Data()) != `{"a":1}` {
			t.Errorf("%v, data %s", e, e.Data())
		}
	}
}

func TestOfARecordOnlyTheValueIsKept(t *testing.T) {
	r := ToKafka(mustNew(t, fullDraft()))
	e, err := FromKafka(r)
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.Key {
		r.Key[i] = '!'
	}
	for _, h := range r.Headers {
		for i := range h.Value {
			h.Value[i] = '!'
		}
	}
	if !e.Equal(mustNew(t, fullDraft())) {
		t.Error("the event changed with the record's headers")
	}
}

func TestAppendingToOneHeaderLeavesTheOthersAlone(t *testing.T) {
	e := mustNew(t, fullDraft())
	r := ToKafka(e)
	for _, h := range r.Headers {
		_ = append(h.Value, "spill"...)
	}
	_ = append(r.Key, "spill"...)
	if got, err := FromKafka(r); err != nil || !got.Equal(e) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestAnEventWithoutDataHasANullValue(t *testing.T) {
	d := fullDraft()
	d.Data = []byte{}
	if r := ToKafka(mustNew(t, d)); r.Value != nil {
		t.Errorf("value %#v, want nil, as the binding says", r.Value)
	}
}
