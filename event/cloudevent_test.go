package event

import (
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
)

func TestTheJSONFormHasTheMembersOfTheSpecification(t *testing.T) {
	b, err := MarshalCloudEvent(mustNew(t, fullDraft()))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"specversion":"1.0","id":"0192f0c4-7d2a-7c3e-9f10-1a2b3c4d5e6f","source":"/orders","type":"order.canceled",` +
		`"time":"2026-01-31T12:00:00.123456789Z","subject":"o-4711","dataschema":"https://schemas.example/order.json",` +
		`"datacontenttype":"application/json","sequence":"0000000000000000007","partitionkey":"o-4711","aggregatetype":"order",` +
		`"dataversion":"3","correlationid":"c-1","causationid":"0192f0c4-7d2a-7c3e-9f10-000000000000",` +
		`"traceparent":"` + someTraceParent + `","tracestate":"` + someTraceState + `",` +
		`"empty":"","locale":"de-DE \"ä\"","tenant":"blue","data":{"reason": "late",  "n": [1, {"deep": null}]}}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
}

func TestAnEventComesBackFromJSONEqual(t *testing.T) {
	var all []Event
	for name, e := range assorted(t) {
		all = append(all, e)
		t.Run(name, func(t *testing.T) {
			b, err := MarshalCloudEvent(e)
			if err != nil {
				t.Fatal(err)
			}
			if !json.Valid(b) {
				t.Fatalf("invalid JSON: %s", b)
			}
			got, err := UnmarshalCloudEvent(b)
			if err != nil {
				t.Fatal(err)
			}
			if !got.Equal(e) {
				t.Errorf("got  %#v\nwant %#v", got, e)
			}
		})
	}
	b, err := MarshalCloudEventBatch(all)
	if err != nil {
		t.Fatal(err)
	}
	got, err := UnmarshalCloudEventBatch(b)
	if err != nil || len(got) != len(all) {
		t.Fatalf("%d events, %v", len(got), err)
	}
	for i := range all {
		if !got[i].Equal(all[i]) {
			t.Errorf("event %d of the batch: got %v, want %v", i, got[i], all[i])
		}
	}
}

func TestDataTakeTheFormThatTheirContentTypeAsksFor(t *testing.T) {
	for _, c := range []struct{ contentType, data, want string }{
		{"application/json", `{"a": 1}`, `,"data":{"a": 1}`},
		{"application/vnd.acme+json", `"x"`, `,"data":"x"`},
		{"application/json", `{"a":`, `,"data_base64":"eyJhIjo="`},
		{"application/json", "{}\n", `,"data_base64":"e30K"`},
		{"application/xml", `<a b="c"/>`, `,"data":"<a b=\"c\"/>"`},
		{"application/json; charset=utf-16", `{}`, `,"data_base64":"e30="`},
		{"text/plain; charset=iso-8859-1", "abc", `,"data_base64":"YWJj"`},
		{"text/plain; charset=UTF-8", "abc", `,"data":"abc"`},
		{"text/plain", "\xff", `,"data_base64":"/w=="`},
		{"application/octet-stream", "abc", `,"data_base64":"YWJj"`},
	} {
		d := fullDraft()
		d.ContentType, d.Data = c.contentType, []byte(c.data)
		b, err := MarshalCloudEvent(mustNew(t, d))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(string(b), c.want+"}") {
			t.Errorf("%s %q: %s does not end in %s", c.contentType, c.data, b, c.want)
		}
	}
}

// least is the least JSON event, with more members.
func least(more string) string {
	return `{"specversion":"1.0","id":"1","source":"/x","type":"t"` + more + `}`
}

func TestJSONOfOtherProducersIsReadBySection3OfTheFormat(t *testing.T) {
	for _, c := range []struct{ name, in, data, contentType string }{
		{"no data", least(``), "", ""},
		{"no content type implies JSON", least(`,"data":{"a":1}`), `{"a":1}`, "application/json"},
		{"explicit null", least(`,"data":null`), `null`, "application/json"},
		{"JSON string stays JSON", least(`,"data":"I'm just a string"`), `"I'm just a string"`, "application/json"},
		{"data as they are", least(`,"data": { "b" : 1 ,"a":[ ] , "b" : 2 } `), `{ "b" : 1 ,"a":[ ] , "b" : 2 }`, "application/json"},
		{"number", least(`,"data":1e400,"datacontenttype":"application/vnd.x+json"`), `1e400`, "application/vnd.x+json"},
		{"content type after data", least(`,"data":"<a/>","datacontenttype":"application/xml"`), `<a/>`, "application/xml"},
		{"escapes", least(`,"datacontenttype":"text/plain","data":"a\"\\\/\b\f\n\r\t\u00e4\ud83d\ude00"`), "a\"\\/\b\f\n\r\tä😀", "text/plain"},
		{"base64", least(`,"data_base64":"AP8=","datacontenttype":"application/x"`), "\x00\xff", "application/x"},
		{"base64 without content type", least(`,"data_base64":"AP8="`), "\x00\xff", ""},
		{"null base64 is unset", least(`,"data_base64":null,"data":1`), "1", "application/json"},
		{"null for text is unset", least(`,"data":null,"datacontenttype":"text/plain"`), "", "text/plain"},
		{"space around", " \n" + least(``) + "\t", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := UnmarshalCloudEvent([]byte(c.in))
			if err != nil {
				t.Fatal(err)
			}
			if string(e.Data()) != c.data || e.ContentType() != c.contentType {
				t.Errorf("data %q of %q, want %q of %q", e.Data(), e.ContentType(), c.data, c.contentType)
			}
		})
	}
}

func TestNumbersAndBooleansAmongExtensionsBecomeText(t *testing.T) {
	e, err := UnmarshalCloudEvent([]byte(least(`,"n":-5,"b":true,"f":false,"u":null,"sequence":3,"\u0065sc":"x","time":null,"subject":""`)))
	if err != nil {
		t.Fatal(err)
	}
	got := maps.Collect(e.Headers())
	want := map[string]string{"n": "-5", "b": "true", "f": "false", "esc": "x"}
	if len(got) != len(want) {
		t.Errorf("headers %v, want %v", got, want)
	}
	for name, v := range want {
		if got[name] != v {
			t.Errorf("%s = %q, want %q", name, got[name], v)
		}
	}
	if e.Sequence() != 3 {
		t.Errorf("sequence %d, want 3", e.Sequence())
	}
}

func TestJSONThatIsNoEventIsRefusedWithItsReason(t *testing.T) {
	for _, c := range []struct{ name, in, field, text string }{
		{"empty", ``, "", "invalid JSON: unexpected end"},
		{"cut short", `{"specversion":`, "", "invalid JSON: unexpected end"},
		{"two values", least(``) + `{}`, "", "invalid JSON: invalid character '{' after top-level value"},
		{"array", `[]`, "", "an event is a JSON object"},
		{"number", `17`, "", "an event is a JSON object"},
		{"empty object", `{}`, "specversion", "no CloudEvent"},
		{"numeric id", `{"specversion":"1.0","id":5,"source":"/","type":"t"}`, "id", "must be a string"},
		{"numeric specversion", `{"specversion":1.0,"id":"5","source":"/","type":"t"}`, "specversion", "must be a string"},
		{"id twice", least(`,"id":"2"`), "id", "twice"},
		{"id twice, escaped", least(`,"\u0069d":"2"`), "id", "twice"},
		{"extension twice", least(`,"x":"2","x":3`), "x", "twice"},
		{"data twice", least(`,"data":1,"data":2`), "data", "twice"},
		{"data and base64", least(`,"data":1,"data_base64":"AA=="`), "data_base64", "beside data"},
		{"bad base64", least(`,"data_base64":"A"`), "data_base64", "not base64"},
		{"base64 of a number", least(`,"data_base64":17`), "data_base64", "no string"},
		{"object for text", least(`,"data":{},"datacontenttype":"text/plain"`), "data", "send a string or data_base64"},
		{"object as attribute", least(`,"x":{}`), "x", "an attribute is a string, a number or a boolean"},
		{"member name", least(`,"some-thing":"1"`), "attribute name", "a-z and 0-9"},
		{"upper case", least(`,"Subject":"1"`), "attribute name", "a-z and 0-9"},
		{"lone surrogate", least(`,"x":"\ud800"`), "x", "surrogate"},
		{"surrogates the wrong way round", least(`,"x":"\ude00\ud83d"`), "x", "surrogate"},
		{"surrogate before text", least(`,"x":"\ud800abcdef"`), "x", "surrogate"},
		{"surrogate in text data", least(`,"datacontenttype":"text/plain","data":"\udfff"`), "data", "surrogate"},
		{"control character", least(`,"x":"\u0000"`), "x", "control character"},
		{"invalid UTF-8", least(",\"x\":\"\xff\""), "json", "UTF-8"},
		{"too deep", least(`,"data":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000)), "", "exceeded max depth"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := UnmarshalCloudEvent([]byte(c.in))
			if err == nil {
				t.Fatalf("accepted as %v", e)
			}
			var invalid *InvalidError
			if errors.As(err, &invalid) != (c.field != "") || invalid != nil && invalid.Field != c.field {
				t.Errorf("%v is not of field %q", err, c.field)
			}
			if !strings.Contains(err.Error(), c.text) {
				t.Errorf("%q lacks %q", err, c.text)
			}
			if len(err.Error()) > 500 {
				t.Errorf("text of %d bytes", len(err.Error()))
			}
			if _, err := UnmarshalCloudEventBatch([]byte("[" + least("") + "," + c.in + "]")); err == nil {
				t.Error("accepted in a batch")
			}
		})
	}
}

func TestABadEventOfABatchIsNamedByItsIndex(t *testing.T) {
	_, err := UnmarshalCloudEventBatch([]byte("[" + least("") + "," + least("") + "," + least(`,"id":"2"`) + "]"))
	if err == nil || !strings.Contains(err.Error(), "event 2 of a batch: ") {
		t.Errorf("got %v", err)
	}
}

func TestBatchesOfNothingAndOfSomethingElse(t *testing.T) {
	if es, err := UnmarshalCloudEventBatch([]byte(" [ ] ")); err != nil || es == nil || len(es) != 0 {
		t.Errorf("empty batch: %#v, %v", es, err)
	}
	if b, err := MarshalCloudEventBatch(nil); err != nil || string(b) != "[]" {
		t.Errorf("empty batch: %s, %v", b, err)
	}
	if _, err := UnmarshalCloudEventBatch([]byte(least(""))); err == nil || !strings.Contains(err.Error(), "a batch is a JSON array") {
		t.Errorf("one event as a batch: %v", err)
	}
	if _, err := UnmarshalCloudEventBatch([]byte(`[1]`)); err == nil || !strings.Contains(err.Error(), "an event is a JSON object") {
		t.Errorf("batch of numbers: %v", err)
	}
}

func TestTheZeroEventIsNotWritten(t *testing.T) {
	if b, err := MarshalCloudEvent(Event{}); err == nil {
		t.Errorf("wrote %s", b)
	}
	if b, err := MarshalCloudEventBatch([]Event{mustNew(t, fullDraft()), {}}); err == nil || !strings.Contains(err.Error(), "event 1 of a batch") {
		t.Errorf("wrote %s, %v", b, err)
	}
}

func TestAnEventReadFromJSONKeepsNothingOfItsInput(t *testing.T) {
	b, err := MarshalCloudEvent(mustNew(t, fullDraft()))
	if err != nil {
		t.Fatal(err)
	}
	e, err := UnmarshalCloudEvent(b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i] = '!'
	}
	if !e.Equal(mustNew(t, fullDraft())) {
		t.Errorf("the event changed with its input: %v", e)
	}
}
