package event

import (
	"bytes"
	"errors"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

const (
	someTraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	someTraceState  = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
)

// fullDraft has every field set.
func fullDraft() Draft {
	return Draft{
		ID:          uuid.MustParse("0192f0c4-7d2a-7c3e-9f10-1a2b3c4d5e6f"),
		Type:        "order.canceled",
		Version:     3,
		Source:      "/orders",
		Aggregate:   Aggregate{Type: "order", ID: "o-4711"},
		Sequence:    7,
		Time:        time.Date(2026, 1, 31, 12, 0, 0, 123456789, time.UTC),
		Correlation: "c-1",
		Causation:   "0192f0c4-7d2a-7c3e-9f10-000000000000",
		TraceParent: someTraceParent,
		TraceState:  someTraceState,
		Subject:     "o-4711",
		DataSchema:  "https://schemas.example/order.json",
		ContentType: "application/json",
		Headers:     []Header{{"tenant", "blue"}, {"locale", "de-DE \"ä\""}, {"empty", ""}},
		Data:        []byte(`{"reason": "late",  "n": [1, {"deep": null}]}`),
	}
}

func mustNew(t testing.TB, d Draft) Event {
	t.Helper()
	e, err := New(d)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return e
}

func TestNewKeepsEveryFieldOfTheDraft(t *testing.T) {
	d := fullDraft()
	e := mustNew(t, d)
	for _, c := range []struct {
		name      string
		got, want any
	}{
		{"ID", e.ID(), d.ID},
		{"CloudEventID", e.CloudEventID(), d.ID.String()},
		{"Type", e.Type(), d.Type},
		{"Version", e.Version(), d.Version},
		{"Source", e.Source(), d.Source},
		{"Aggregate", e.Aggregate(), d.Aggregate},
		{"Sequence", e.Sequence(), d.Sequence},
		{"Time", e.Time(), d.Time},
		{"Correlation", e.Correlation(), d.Correlation},
		{"Causation", e.Causation(), d.Causation},
		{"TraceParent", e.TraceParent(), d.TraceParent},
		{"TraceState", e.TraceState(), d.TraceState},
		{"Subject", e.Subject(), d.Subject},
		{"DataSchema", e.DataSchema(), d.DataSchema},
		{"ContentType", e.ContentType(), d.ContentType},
		{"Data", string(e.Data()), string(d.Data)},
	} {
		if c.got != c.want {
			t.Errorf("%s = %v, want %v", c.name, c.got, c.want)
		}
	}
	for _, h := range d.Headers {
		if v, ok := e.Header(h.Name); !ok || v != h.Value {
			t.Errorf("Header(%q) = %q, %v", h.Name, v, ok)
		}
	}
	if _, ok := e.Header("absent"); ok {
		t.Error("Header finds what is not there")
	}
	var names []string
	for name := range e.Headers() {
		names = append(names, name)
	}
	if got := strings.Join(names, " "); got != "empty locale tenant" {
		t.Errorf("Headers in order %q", got)
	}
	for range e.Headers() {
		break // stops early without a panic
	}
}

func TestNewFillsInWhatADraftLeavesOut(t *testing.T) {
	before := time.Now()
	e := mustNew(t, Draft{Type: "order.placed", Source: "/orders", Aggregate: Aggregate{"order", "1"}})
	if e.ID().Version() != 7 {
		t.Errorf("ID %s is of version %d, want 7", e.ID(), e.ID().Version())
	}
	if e.Version() != 1 || e.ContentType() != "application/json" {
		t.Errorf("version %d, content type %q", e.Version(), e.ContentType())
	}
	if e.Time().Before(before.Round(0)) || e.Time().Location() != time.UTC {
		t.Errorf("time %v", e.Time())
	}
}

func TestNewTurnsTimeToUTCWithoutTheMonotonicReading(t *testing.T) {
	d := fullDraft()
	d.Time = time.Now().In(time.FixedZone("east", 5*3600))
	e := mustNew(t, d)
	if want := d.Time.Round(0).UTC(); e.Time() != want { // ==, so that a monotonic reading or a zone shows
		t.Errorf("Time() = %#v, want %#v", e.Time(), want)
	}
}

func TestAnEventDoesNotChangeWithItsDraft(t *testing.T) {
	d := fullDraft()
	e := mustNew(t, d)
	want := mustNew(t, fullDraft())
	d.Data[2] = 'X'
	d.Headers[0] = Header{"evil", "x"}
	if !e.Equal(want) {
		t.Errorf("the event changed: %v", e)
	}
}

func TestNewNamesTheFieldItRefuses(t *testing.T) {
	type change func(*Draft)
	for _, c := range []struct {
		name   string
		change change
		field  string
		reason string
	}{
		{"type without a name", func(d *Draft) { d.Type = "" }, "type", "name what happened"},
		{"type of invalid UTF-8", func(d *Draft) { d.Type = "order.\xff" }, "type", "not valid UTF-8 at byte 6"},
		{"negative version", func(d *Draft) { d.Version = -1 }, "version", "from 1"},
		{"version too large", func(d *Draft) { d.Version = math.MaxInt32 + 1 }, "version", "2147483647"},
		{"no source", func(d *Draft) { d.Source = "" }, "source", "name the producing service"},
		{"source with a space", func(d *Draft) { d.Source = "/my orders" }, "source", "percent-encoded"},
		{"source that is no URI", func(d *Draft) { d.Source = "http://[::1" }, "source", "no URI reference"},
		{"no aggregate type", func(d *Draft) { d.Aggregate.Type = "" }, "aggregate.type", "chooses the topic"},
		{"empty aggregate ID", func(d *Draft) { d.Aggregate.ID = "" }, "aggregate.id", "Kafka key"},
		{"control character in the aggregate ID", func(d *Draft) { d.Aggregate.ID = "a\nb" }, "aggregate.id", "control character U+000A at byte 1"},
		{"C1 control character", func(d *Draft) { d.Aggregate.ID = "a\u0085" }, "aggregate.id", "control character U+0085"},
		{"noncharacter", func(d *Draft) { d.Subject = "\ufdd0" }, "subject", "noncharacter U+FDD0"},
		{"noncharacter of another plane", func(d *Draft) { d.Subject = "\U0001ffff" }, "subject", "noncharacter U+1FFFF"},
		{"negative sequence", func(d *Draft) { d.Sequence = -1 }, "sequence", "from 1"},
		{"time after 9999", func(d *Draft) { d.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, "time", "years 0 to 9999"},
		{"correlation of invalid UTF-8", func(d *Draft) { d.Correlation = "\xc3" }, "correlation", "UTF-8"},
		{"causation with a tab", func(d *Draft) { d.Causation = "\t" }, "causation", "control"},
		{"traceparent of zeros", func(d *Draft) { d.TraceParent = "00-00000000000000000000000000000000-b7ad6b7169203331-01" }, "traceparent", "W3C"},
		{"tracestate without values", func(d *Draft) { d.TraceState = "rojo" }, "tracestate", "W3C"},
		{"relative dataschema", func(d *Draft) { d.DataSchema = "order.json" }, "dataschema", "absolute"},
		{"content type", func(d *Draft) { d.ContentType = "json please" }, "contenttype", "media type"},
		{"header name in upper case", func(d *Draft) { d.Headers = []Header{{"Tenant", "x"}} }, "header name", "a-z and 0-9"},
		{"header name with a hyphen", func(d *Draft) { d.Headers = []Header{{"tenant-id", "x"}} }, "header name", "a-z and 0-9"},
		{"header without a name", func(d *Draft) { d.Headers = []Header{{"", "x"}} }, "header name", "a-z and 0-9"},
		{"header named as an attribute", func(d *Draft) { d.Headers = []Header{{"sequence", "1"}} }, "header name", "field of Draft"},
		{"header named data", func(d *Draft) { d.Headers = []Header{{"data", "1"}} }, "header name", "field of Draft"},
		{"header twice", func(d *Draft) { d.Headers = []Header{{"a", "1"}, {"b", ""}, {"a", "2"}} }, "header a", "twice"},
		{"header value of invalid UTF-8", func(d *Draft) { d.Headers = []Header{{"a", "\x80"}} }, "header a", "UTF-8"},
		{"header value with a line break", func(d *Draft) { d.Headers = []Header{{"a", "x\r\ny"}} }, "header a", "control"},
		{"data over the limit", func(d *Draft) { d.Data = make([]byte, MaxDataBytes+1) }, "data", "over the limit of 1015808 bytes"},
		{"headers over the limit", func(d *Draft) { d.Headers = []Header{{"a", strings.Repeat("x", MaxAttributeBytes)}} }, "headers", "over the limit of 16384 bytes"},
		{"max UUID", func(d *Draft) { d.ID = uuid.Max }, "id", "names nothing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := fullDraft()
			c.change(&d)
			e, err := New(d)
			var invalid *InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("New = %v, %v; want an *InvalidError", e, err)
			}
			if invalid.Field != c.field || !strings.Contains(invalid.Reason, c.reason) {
				t.Errorf("field %q, reason %q; want %q, %q", invalid.Field, invalid.Reason, c.field, c.reason)
			}
			if !strings.HasPrefix(err.Error(), "invalid event: "+c.field+" ") {
				t.Errorf("text %q does not name the field", err)
			}
			if len(err.Error()) > 500 {
				t.Errorf("text of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestNewTakesDataUpToTheLimit(t *testing.T) {
	d := fullDraft()
	d.Data = bytes.Repeat([]byte("1"), MaxDataBytes)
	mustNew(t, d)
}

func TestANewEventFitsIntoARecordOfDefaultSize(t *testing.T) {
	d := fullDraft()
	d.Data = make([]byte, MaxDataBytes)
	d.ContentType = "application/octet-stream"
	d.Headers = nil
	for i := range 200 { // short names, so that what each costs beside its text counts
		d.Headers = append(d.Headers, Header{"h" + string(rune('a'+i%26)) + string(rune('a'+i/26)), strings.Repeat("v", 55)})
	}
	e := mustNew(t, d)
	r := ToKafka(e)
	size := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		size += len(h.Key) + len(h.Value) + 2*5 // two varints
	}
	const batchAndRecord = 61 + 30
	if limit := 1<<20 - batchAndRecord; size > limit {
		t.Errorf("record takes %d bytes of %d", size, limit)
	}
}

func TestAnEventLogsItsNamesAndNotItsData(t *testing.T) {
	e := mustNew(t, fullDraft())
	want := "order.canceled v3 0192f0c4-7d2a-7c3e-9f10-1a2b3c4d5e6f of order/o-4711 #7"
	if e.String() != want {
		t.Errorf("String() = %q, want %q", e, want)
	}
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("applied", "event", e)
	for _, part := range []string{
		"event.id=0192f0c4-7d2a-7c3e-9f10-1a2b3c4d5e6f", "event.type=order.canceled",
		"event.aggregate=order/o-4711", "event.sequence=7",
	} {
		if !strings.Contains(b.String(), part) {
			t.Errorf("log line %q lacks %q", b.String(), part)
		}
	}
	if strings.Contains(b.String(), "reason") {
		t.Errorf("log line shows the data: %q", b.String())
	}
}

func TestEqualSeesEveryField(t *testing.T) {
	full := mustNew(t, fullDraft())
	if !full.Equal(mustNew(t, fullDraft())) {
		t.Fatal("an event does not equal its twin")
	}
	for i, change := range []func(*Draft){
		func(d *Draft) { d.ID = uuid.MustParse("0192f0c4-7d2a-7c3e-9f10-1a2b3c4d5e70") },
		func(d *Draft) { d.Type += "x" },
		func(d *Draft) { d.Version++ },
		func(d *Draft) { d.Source += "x" },
		func(d *Draft) { d.Aggregate.Type += "x" },
		func(d *Draft) { d.Aggregate.ID += "x" },
		func(d *Draft) { d.Sequence++ },
		func(d *Draft) { d.Time = d.Time.Add(1) },
		func(d *Draft) { d.Correlation += "x" },
		func(d *Draft) { d.Causation += "x" },
		func(d *Draft) { d.TraceParent = "" },
		func(d *Draft) { d.TraceState = "" },
		func(d *Draft) { d.Subject += "x" },
		func(d *Draft) { d.DataSchema += "x" },
		func(d *Draft) { d.ContentType = "text/plain" },
		func(d *Draft) { d.Headers[0].Value += "x" },
		func(d *Draft) { d.Data = append(d.Data, ' ') },
	} {
		d := fullDraft()
		change(&d)
		if full.Equal(mustNew(t, d)) {
			t.Errorf("change %d is not seen", i)
		}
	}
}
