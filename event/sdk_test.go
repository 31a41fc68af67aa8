package event

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/binding/format"
	"github.com/cloudevents/sdk-go/v2/binding/spec"
	sdk "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
)

// sdkMessage shows a record to the CloudEvents Go SDK the way that its Kafka
// bindings do.
type sdkMessage struct{ r KafkaRecord }

var sdkSpecs = spec.WithPrefix("ce_")

func (m sdkMessage) header(name string) string {
	for _, h := range m.r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

func (m sdkMessage) ReadEncoding() binding.Encoding {
	if format.IsFormat(m.header("content-type")) {
		return binding.EncodingStructured
	}
	return binding.EncodingBinary
}

func (m sdkMessage) ReadStructured(ctx context.Context, w binding.StructuredWriter) error {
	if m.ReadEncoding() != binding.EncodingStructured {
		return binding.ErrNotStructured
	}
	return w.SetStructuredEvent(ctx, format.Lookup(m.header("content-type")), bytes.NewReader(m.r.Value))
}

func (m sdkMessage) ReadBinary(_ context.Context, w binding.BinaryWriter) error {
	if m.ReadEncoding() != binding.EncodingBinary {
		return binding.ErrNotBinary
	}
	version := sdkSpecs.Version(m.header("ce_specversion"))
	for _, h := range m.r.Headers {
		var err error
		if h.Key == "content-type" {
			err = w.SetAttribute(version.AttributeFromKind(spec.DataContentType), string(h.Value))
		} else if a := version.Attribute(h.Key); a != nil {
			err = w.SetAttribute(a, string(h.Value))
		} else {
			err = w.SetExtension(h.Key[len("ce_"):], string(h.Value))
		}
		if err != nil {
			return err
		}
	}
	if m.r.Value == nil {
		return nil
	}
	return w.SetData(bytes.NewReader(m.r.Value))
}

func (m sdkMessage) GetAttribute(kind spec.Kind) (spec.Attribute, any) {
	a := sdkSpecs.Version(m.header("ce_specversion")).AttributeFromKind(kind)
	name := a.PrefixedName()
	if kind == spec.DataContentType {
		name = "content-type"
	}
	return a, m.header(name)
}

func (m sdkMessage) GetExtension(name string) any { return m.header("ce_" + name) }

func (sdkMessage) Finish(error) error { return nil }

// sdkWriter makes a record of what the SDK writes in binary mode.
type sdkWriter struct{ r *KafkaRecord }

func (sdkWriter) Start(context.Context) error { return nil }
func (sdkWriter) End(context.Context) error   { return nil }

func (w sdkWriter) SetAttribute(a spec.Attribute, v any) error {
	if v == nil {
		return nil
	}
	name := "ce_" + a.Name()
	if a.Kind() == spec.DataContentType {
		name = "content-type"
	}
	return w.set(name, v)
}

func (w sdkWriter) SetExtension(name string, v any) error { return w.set("ce_"+name, v) }

func (w sdkWriter) set(name string, v any) error {
	text, err := types.Format(v)
	if err == nil {
		w.r.Headers = append(w.r.Headers, KafkaHeader{name, []byte(text)})
	}
	return err
}

func (w sdkWriter) SetData(data io.Reader) (err error) {
	w.r.Value, err = io.ReadAll(data)
	return err
}

// checkSDK compares what the SDK read with ours.
func checkSDK(t *testing.T, got *sdk.Event, want Event) {
	t.Helper()
	if err := got.Validate(); err != nil {
		t.Errorf("the SDK finds it invalid: %v", err)
	}
	for _, c := range []struct{ name, got, want string }{
		{"id", got.ID(), want.CloudEventID()},
		{"source", got.Source(), want.Source()},
		{"type", got.Type(), want.Type()},
		{"subject", got.Subject(), want.Subject()},
		{"dataschema", got.DataSchema(), want.DataSchema()},
		{"datacontenttype", got.DataContentType(), want.ContentType()},
		{"time", got.Time().UTC().Format(time.RFC3339Nano), want.Time().Format(time.RFC3339Nano)},
		{"data", string(got.Data()), string(want.Data())},
	} {
		if c.got != c.want {
			t.Errorf("%s: the SDK reads %q, want %q", c.name, c.got, c.want)
		}
	}
	extensions := map[string]string{
		"partitionkey": want.Aggregate().ID, "aggregatetype": want.Aggregate().Type,
		"sequence": "0000000000000000007", "dataversion": "3",
		"correlationid": want.Correlation(), "causationid": want.Causation(),
		"traceparent": want.TraceParent(), "tracestate": want.TraceState(),
	}
	maps.Insert(extensions, want.Headers())
	if len(got.Extensions()) != len(extensions) {
		t.Errorf("the SDK reads extensions %v, want %v", got.Extensions(), extensions)
	}
	for name, v := range extensions {
		if got.Extensions()[name] != v {
			t.Errorf("%s: the SDK reads %#v, want %q", name, got.Extensions()[name], v)
		}
	}
}

// sdkCases are events whose data the SDK has to find in each of their forms.
func sdkCases(t *testing.T) map[string]Event {
	t.Helper()
	cases := map[string]Event{}
	for contentType, data := range map[string]string{
		"application/json":         `{"reason": "late"}`,
		"application/vnd.acme+xml": `<a b="c"/>`,
		"text/plain":               "line\n\"quoted\"",
		"application/octet-stream": "\x00\xff",
	} {
		d := fullDraft()
		d.ContentType, d.Data = contentType, []byte(data)
		cases[contentType] = mustNew(t, d)
	}
	return cases
}

func TestTheSDKReadsOurKafkaRecords(t *testing.T) {
	for name, e := range sdkCases(t) {
		t.Run(name, func(t *testing.T) {
			got, err := binding.ToEvent(t.Context(), sdkMessage{ToKafka(e)})
			must(t, err)
			checkSDK(t, got, e)
		})
	}
}

func TestTheSDKReadsOurJSON(t *testing.T) {
	var batch []Event
	for name, e := range sdkCases(t) {
		batch = append(batch, e)
		t.Run(name, func(t *testing.T) {
			b, err := MarshalCloudEvent(e)
			must(t, err)
			var got sdk.Event
			must(t, json.Unmarshal(b, &got))
			checkSDK(t, &got, e)

			structured := KafkaRecord{Value: b, Headers: []KafkaHeader{{"content-type", []byte(MediaTypeCloudEvent)}}}
			fromKafka, err := binding.ToEvent(t.Context(), sdkMessage{structured})
			must(t, err)
			checkSDK(t, fromKafka, e)
		})
	}
	b, err := MarshalCloudEventBatch(batch)
	must(t, err)
	var got []sdk.Event
	must(t, json.Unmarshal(b, &got))
	for i := range batch {
		checkSDK(t, &got[i], batch[i])
	}
}

// ofSDK is an event made by the SDK, with an extension of each type.
func ofSDK(t *testing.T, contentType string, data any) sdk.Event {
	t.Helper()
	e := sdk.New()
	e.SetID("4711")
	e.SetSource("https://acme.example/things?a=b#c")
	e.SetType("com.acme.thing.made")
	e.SetSubject("thing-1")
	e.SetDataSchema("https://acme.example/thing.json")
	e.SetTime(time.Date(2026, 1, 31, 12, 0, 0, 5000, time.FixedZone("", 3600)))
	e.SetExtension("text", "ä ö")
	e.SetExtension("number", 42)
	e.SetExtension("flag", true)
	e.SetExtension("bytes", []byte{0, 255})
	e.SetExtension("sequence", "17")
	e.SetExtension("partitionkey", "thing-1")
	must(t, e.SetData(contentType, data))
	must(t, e.Validate())
	return e
}

func checkOurs(t *testing.T, got Event, contentType, data string) {
	t.Helper()
	if got.CloudEventID() != "4711" || got.Source() != "https://acme.example/things?a=b#c" || got.Type() != "com.acme.thing.made" ||
		got.Subject() != "thing-1" || got.DataSchema() != "https://acme.example/thing.json" || got.Sequence() != 17 ||
		got.Aggregate() != (Aggregate{ID: "thing-1"}) || got.Version() != 1 ||
		got.Time().Format(time.RFC3339Nano) != "2026-01-31T11:00:00.000005Z" {
		t.Errorf("read as %#v", got)
	}
	for name, want := range map[string]string{"text": "ä ö", "number": "42", "flag": "true", "bytes": "AP8="} {
		if v, ok := got.Header(name); !ok || v != want {
			t.Errorf("%s = %q, want %q", name, v, want)
		}
	}
	if got.ContentType() != contentType || string(got.Data()) != data {
		t.Errorf("data %q of %s, want %q of %s", got.Data(), got.ContentType(), data, contentType)
	}
}

func TestWeReadWhatTheSDKWrites(t *testing.T) {
	for _, c := range []struct {
		contentType string
		data        any
		want        string
	}{
		{"application/json", map[string]any{"a": []int{1}}, `{"a":[1]}`},
		{"text/plain", "x\ny", "x\ny"},
		{"application/xml", []byte(`<a/>`), `<a/>`},
		{"application/octet-stream", []byte{0, 255}, "\x00\xff"},
	} {
		t.Run(c.contentType, func(t *testing.T) {
			theirs := ofSDK(t, c.contentType, c.data)

			b, err := json.Marshal(theirs)
			must(t, err)
			got, err := UnmarshalCloudEvent(b)
			must(t, err)
			checkOurs(t, got, c.contentType, c.want)

			got, err = FromKafka(KafkaRecord{Key: []byte("key"), Value: b, Headers: []KafkaHeader{{"content-type", []byte(MediaTypeCloudEvent)}}})
			must(t, err)
			checkOurs(t, got, c.contentType, c.want)

			b, err = json.Marshal([]sdk.Event{theirs})
			must(t, err)
			batch, err := UnmarshalCloudEventBatch(b)
			must(t, err)
			checkOurs(t, batch[0], c.contentType, c.want)

			var r KafkaRecord
			_, err = binding.Write(t.Context(), (*binding.EventMessage)(&theirs), nil, sdkWriter{&r})
			must(t, err)
			if len(r.Headers) == 0 {
				t.Fatal("the SDK wrote no headers")
			}
			got, err = FromKafka(r)
			must(t, err)
			checkOurs(t, got, c.contentType, c.want)
		})
	}
}
