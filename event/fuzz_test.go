package event

import (
	"encoding/binary"
	"testing"
	"time"
)

// checkRoundTrips holds e, which a decoder accepted, to the law: every encoding
// gives it back.
func checkRoundTrips(t *testing.T, e Event) {
	t.Helper()
	fromKafka, err := FromKafka(ToKafka(e))
	if err != nil || !fromKafka.Equal(e) {
		t.Fatalf("through Kafka: %v\ngot  %#v\nwant %#v", err, fromKafka, e)
	}
	b, err := MarshalCloudEvent(e)
	if err != nil {
		t.Fatal(err)
	}
	fromJSON, err := UnmarshalCloudEvent(b)
	if err != nil || !fromJSON.Equal(e) {
		t.Fatalf("through JSON: %v\ngot  %#v\nwant %#v\n%s", err, fromJSON, e, b)
	}
	if b, err = MarshalCloudEventBatch([]Event{e, e}); err != nil {
		t.Fatal(err)
	}
	batch, err := UnmarshalCloudEventBatch(b)
	if err != nil || len(batch) != 2 || !batch[1].Equal(e) {
		t.Fatalf("through a batch: %v\n%s", err, b)
	}
}

// packHeaders and unpackHeaders put a record's headers into one fuzzed value:
// name and value in turns, each after its length in two bytes.
func packHeaders(hs []KafkaHeader) (b []byte) {
	for _, h := range hs {
		b = binary.BigEndian.AppendUint16(b, uint16(len(h.Key)))
		b = append(b, h.Key...)
		b = binary.BigEndian.AppendUint16(b, uint16(len(h.Value)))
		b = append(b, h.Value...)
	}
	return b
}

func unpackHeaders(b []byte) (hs []KafkaHeader) {
	next := func() []byte {
		n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
		part := b[2 : 2+n]
		b = b[2+n:]
		return part
	}
	for len(b) >= 2 {
		h := KafkaHeader{Key: string(next())}
		if len(b) >= 2 {
			h.Value = next()
		}
		hs = append(hs, h)
	}
	return hs
}

func FuzzFromKafka(f *testing.F) {
	for _, e := range assorted(f) {
		r := ToKafka(e)
		f.Add(r.Key, r.Value, packHeaders(r.Headers))
	}
	for _, r := range []KafkaRecord{
		record("\xff\x00", "{}", foreign("ce_subject", "s", "ce_time", "2018-04-05t17:31:00.1+02:00")...),
		record("", "", foreign("CE_Sequence", "-1", "ce_traceparent", "x", "ce_datacontenttype", "application/cloudevents+json")...),
		record("k", `{"specversion":"1.0","id":"1","source":"/","type":"t","data_base64":"AA=="}`, "content-type", "application/cloudevents+json"),
	} {
		f.Add(r.Key, r.Value, packHeaders(r.Headers))
	}
	f.Fuzz(func(t *testing.T, key, value, headers []byte) {
		r := KafkaRecord{Key: key, Value: value, Headers: unpackHeaders(headers)}
		if e, err := FromKafka(r); err == nil {
			checkRoundTrips(t, e)
		} else if !e.Equal(Event{}) {
			t.Fatalf("an error and an event: %v, %v", err, e)
		}
	})
}

func jsonSeeds(f *testing.F) (seeds [][]byte) {
	f.Helper()
	for _, e := range assorted(f) {
		b, err := MarshalCloudEvent(e)
		if err != nil {
			f.Fatal(err)
		}
		if len(b) < 4096 {
			seeds = append(seeds, b)
		}
	}
	for _, s := range []string{
		``, `{`, `[`, `{}`, `[]`, `null`, `"`, `{"specversion":"1.0"`,
		least(``),
		least(`,"data":null,"time":null,"x":true,"y":-5,"z":"\u00e4\ud83d\ude00\\"`),
		least(`,"data":"x","datacontenttype":"text/plain; charset=utf-8"`),
		least(`,"data_base64":"AP8=","sequence":12,"dataversion":"x","traceparent":"y"`),
		least(`,"data": {"a" : [1, {"b":"}]"}]} , "partitionkey":"p","subject":"s"`),
		least(`,"id":"2"`), least(`,"x":"\ud800"`), least(`,"time":"2018-04-05T17:31:00+02:00"`),
	} {
		seeds = append(seeds, []byte(s))
	}
	return seeds
}

func FuzzUnmarshalCloudEvent(f *testing.F) {
	for _, s := range jsonSeeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := UnmarshalCloudEvent(b); err == nil {
			checkRoundTrips(t, e)
		} else if !e.Equal(Event{}) {
			t.Fatalf("an error and an event: %v, %v", err, e)
		}
	})
}

func FuzzUnmarshalCloudEventBatch(f *testing.F) {
	for _, s := range jsonSeeds(f) {
		f.Add(s)
		f.Add([]byte("[ " + string(s) + "," + least("") + " ]"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		es, err := UnmarshalCloudEventBatch(b)
		if err != nil {
			if es != nil {
				t.Fatalf("an error and %d events: %v", len(es), err)
			}
			return
		}
		for _, e := range es {
			checkRoundTrips(t, e)
		}
	})
}

// FuzzNew holds New to the law: what it accepts comes back.
func FuzzNew(f *testing.F) {
	d := fullDraft()
	f.Add(d.Type, d.Version, d.Source, d.Aggregate.Type, d.Aggregate.ID, d.Sequence, d.Time.Unix(), d.ContentType, "tenant", "blue", d.Data)
	f.Add("\u007f", -1, " ", "", "\xff", int64(-1), int64(1)<<60, "text/plain; charset=\"", "data", "\n", []byte{0xff})
	f.Add("t", 1<<31-1, "#", "a", "b", int64(1)<<62, int64(0), "application/cloudevents+json", "0", "", []byte("null"))
	f.Fuzz(func(t *testing.T, typ string, version int, source, aggregateType, aggregateID string, sequence, unix int64, contentType, header, value string, data []byte) {
		e, err := New(Draft{
			Type: typ, Version: version, Source: source, Aggregate: Aggregate{aggregateType, aggregateID}, Sequence: sequence,
			Time: time.Unix(unix, 0), ContentType: contentType, Headers: []Header{{header, value}}, Data: data,
		})
		if err == nil {
			checkRoundTrips(t, e)
		}
	})
}

func FuzzTraceContext(f *testing.F) {
	f.Add(someTraceParent, someTraceState)
	f.Add("cc"+someTraceParent[2:]+"-x", " a@b=c ,, d=e")
	f.Fuzz(func(t *testing.T, parent, state string) {
		p, s := TraceFrom(WithTrace(t.Context(), parent, state))
		if p != "" && (len(p) != traceParentSize || !validTraceParent(p)) || len(s) > 512 {
			t.Fatalf("%q, %q are carried on as %q, %q", parent, state, p, s)
		}
	})
}
