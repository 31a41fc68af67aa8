package event

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
)

type (
	orderPlaced struct {
		Total int `json:"total"`
	}
	orderCanceled struct {
		Reason string `json:"reason"`
		By     string `json:"by"`
		Notes  []string
	}
	orderCanceledV1 struct {
		Why string `json:"why"`
	}
	orderCanceledV2 struct {
		Reason string `json:"reason"`
	}
)

func newCatalog(t testing.TB, cfg CatalogConfig) *Catalog {
	t.Helper()
	c, err := NewCatalog(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// orders has order.placed at version 1 and order.canceled at 3 with all before.
func orders(t testing.TB) *Catalog {
	t.Helper()
	c := newCatalog(t, CatalogConfig{Source: "/orders"})
	must(t, Register[orderPlaced](c, "order.placed", 1))
	must(t, Register[orderCanceled](c, "order.canceled", 3))
	must(t, Upcast(c, "order.canceled", 2, func(v orderCanceledV2) (orderCanceled, error) {
		return orderCanceled{Reason: v.Reason, By: "unknown"}, nil
	}))
	must(t, Upcast(c, "order.canceled", 1, func(v orderCanceledV1) (orderCanceledV2, error) {
		if v.Why == "" {
			return orderCanceledV2{}, errors.New("no reason given")
		}
		return orderCanceledV2{Reason: v.Why}, nil
	}))
	return c
}

func encoded(t testing.TB, name string, version int, contentType, data string) Event {
	t.Helper()
	d := fullDraft()
	d.Type, d.Version, d.ContentType, d.Data = name, version, contentType, []byte(data)
	return mustNew(t, d)
}

func TestDecodeReturnsTheRegisteredTypeLedUpFromOlderVersions(t *testing.T) {
	c := orders(t)
	for _, tc := range []struct {
		name    string
		version int
		data    string
		want    any
	}{
		{"order.placed", 1, `{"total":3,"new":"ignored"}`, orderPlaced{Total: 3}},
		{"order.canceled", 3, `{"reason":"late","by":"ann"}`, orderCanceled{Reason: "late", By: "ann"}},
		{"order.canceled", 2, `{"reason":"late"}`, orderCanceled{Reason: "late", By: "unknown"}},
		{"order.canceled", 1, `{"why":"late"}`, orderCanceled{Reason: "late", By: "unknown"}},
	} {
		got, err := c.Decode(encoded(t, tc.name, tc.version, "application/json", tc.data))
		if err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s version %d = %#v, %v; want %#v", tc.name, tc.version, got, err, tc.want)
		}
	}
}

func TestUnknownUndecodableAndNewerAreToldApart(t *testing.T) {
	c := orders(t)
	must(t, Register[struct{ X int }](c, "order.archived", 4)) // nothing leads up to it

	_, err := c.Decode(encoded(t, "order.shipped", 1, "application/json", "{}"))
	var undecodable *UndecodableError
	if !errors.Is(err, ErrUnknownType) || errors.As(err, &undecodable) || !strings.Contains(err.Error(), `"order.shipped"`) {
		t.Errorf("unregistered type: %v", err)
	}
	for _, tc := range []struct {
		title   string
		e       Event
		newer   bool
		because string
	}{
		{"broken data", encoded(t, "order.placed", 1, "application/json", "{"), false, "decode JSON into *event.orderPlaced"},
		{"wrong type", encoded(t, "order.placed", 1, "application/json", `{"total":"x"}`), false, "cannot unmarshal string"},
		{"upcaster fails", encoded(t, "order.canceled", 1, "application/json", `{}`), false, "upcast from version 1: no reason given"},
		{"newer version", encoded(t, "order.canceled", 4, "application/json", `{}`), true, "roll this service out before"},
		{"no upcaster", encoded(t, "order.archived", 3, "application/json", `{}`), false, "add event.Upcast from version 3"},
		{"no codec", encoded(t, "order.placed", 1, "application/avro", `{}`), false, `no codec reads content type "application/avro"`},
	} {
		t.Run(tc.title, func(t *testing.T) {
			v, err := c.Decode(tc.e)
			if v != nil || !errors.As(err, &undecodable) || errors.Is(err, ErrUnknownType) {
				t.Fatalf("got %v, %v; want an *UndecodableError", v, err)
			}
			if undecodable.ID != tc.e.ID() || undecodable.Type != tc.e.Type() || undecodable.Version != tc.e.Version() || undecodable.Aggregate != tc.e.Aggregate() {
				t.Errorf("names %+v, not %v", undecodable, tc.e)
			}
			if errors.Is(err, ErrNewerVersion) != tc.newer {
				t.Errorf("ErrNewerVersion: %v", !tc.newer)
			}
			for _, part := range []string{tc.because, tc.e.ID().String(), tc.e.Type(), "order/o-4711"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q lacks %q", err, part)
				}
			}
		})
	}
}

func TestMistakesInRegisteringSayWhatToDo(t *testing.T) {
	up := func(orderCanceledV1) (orderCanceledV2, error) { return orderCanceledV2{}, nil }
	for _, tc := range []struct {
		name string
		do   func(*Catalog) error
		text string
	}{
		{"empty name", func(c *Catalog) error { return Register[int](c, "", 1) }, "name is empty: name what happened"},
		{"upper case", func(c *Catalog) error { return Register[int](c, "OrderPlaced", 1) }, "lower-case words joined by dots"},
		{"space", func(c *Catalog) error { return Register[int](c, "order placed", 1) }, "lower-case words"},
		{"empty word", func(c *Catalog) error { return Register[int](c, "order..placed", 1) }, "lower-case words"},
		{"trailing dot", func(c *Catalog) error { return Register[int](c, "order.", 1) }, "lower-case words"},
		{"line break", func(c *Catalog) error { return Register[int](c, "order.placed\n", 1) }, "lower-case words"},
		{"version 0", func(c *Catalog) error { return Register[int](c, "x", 0) }, "count from 1"},
		{"pointer", func(c *Catalog) error { return Register[*orderPlaced](c, "x", 1) }, "take the type it points to, event.orderPlaced"},
		{"interface", func(c *Catalog) error { return Register[any](c, "x", 1) }, "take the concrete type"},
		{"channel", func(c *Catalog) error { return Register[chan int](c, "x", 1) }, "take a struct"},
		{"name twice", func(c *Catalog) error { return Register[int](c, "order.placed", 2) }, "the name belongs to event.orderPlaced, version 1"},
		{"type twice", func(c *Catalog) error { return Register[orderPlaced](c, "x", 1) }, `the type is registered as "order.placed"`},
		{"upcast of an unknown name", func(c *Catalog) error { return Upcast(c, "x", 1, up) }, "register the newest version first"},
		{"upcast from version 0", func(c *Catalog) error { return Upcast(c, "order.canceled", 0, up) }, "count from 1"},
		{"upcast from the newest", func(c *Catalog) error { return Upcast(c, "order.canceled", 3, up) }, "only older ones need an upcaster"},
		{"upcast twice", func(c *Catalog) error {
			return Upcast(c, "order.canceled", 2, func(v orderCanceledV2) (orderCanceled, error) { return orderCanceled{}, nil })
		}, "it has one already, from event.orderCanceledV2"},
		{"gap", func(c *Catalog) error {
			must(t, Register[struct{ A int }](c, "x", 3))
			return Upcast(c, "x", 1, up)
		}, "nothing leads on from version 2 to 3: add the upcaster from version 2 before"},
		{"wrong target", func(c *Catalog) error {
			must(t, Register[struct{ A int }](c, "x", 2))
			return Upcast(c, "x", 1, up)
		}, "it makes event.orderCanceledV2, but version 2 is struct { A int }"},
		{"from a pointer", func(c *Catalog) error {
			return Upcast(c, "order.placed", 1, func(v *orderPlaced) (orderPlaced, error) { return *v, nil })
		}, "is a pointer"},
		{"nil function", func(c *Catalog) error { return Upcast[orderCanceledV1, orderCanceledV2](c, "order.canceled", 1, nil) }, "function is nil"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.do(orders(t))
			if err == nil || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v, want it to contain %q", err, tc.text)
			}
		})
	}
}

func TestNamesOfManyFormsAreAccepted(t *testing.T) {
	c := newCatalog(t, CatalogConfig{})
	must(t, Register[int](c, "ping", 1))
	must(t, Register[int8](c, "order.line_added", 1))
	must(t, Register[int16](c, "com.acme.order-line.2.added", 12))
}

func TestNamesAreLookedUpBothWays(t *testing.T) {
	c := orders(t)
	name, version, err := c.NameOf(orderCanceled{})
	if name != "order.canceled" || version != 3 || err != nil {
		t.Errorf("NameOf = %q, %d, %v", name, version, err)
	}
	if name, err := TypeName[orderPlaced](c); name != "order.placed" || err != nil {
		t.Errorf("TypeName = %q, %v", name, err)
	}
	if !c.Knows("order.canceled") || c.Knows("order.shipped") || c.Knows("") {
		t.Error("Knows does not tell registered names from others")
	}
	for _, err := range []error{
		second(TypeName[*orderPlaced](c)),
		third(c.NameOf(&orderPlaced{})),
	} {
		if !errors.Is(err, ErrUnknownType) || !strings.Contains(err.Error(), "events are values, use event.orderPlaced") {
			t.Errorf("pointer: %v", err)
		}
	}
	for _, err := range []error{
		second(TypeName[orderCanceledV1](c)), // older versions are only read
		third(c.NameOf(17)),
		third(c.NameOf(nil)),
	} {
		if !errors.Is(err, ErrUnknownType) {
			t.Errorf("got %v, want ErrUnknownType", err)
		}
	}
}

func second(_ string, err error) error       { return err }
func third(_ string, _ int, err error) error { return err }

// reversed is a codec that is not JSON: it writes text backwards.
type reversed struct{ contentType string }

func (r reversed) ContentType() string { return r.contentType }

func (reversed) Marshal(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return b, err
}

func (r reversed) Unmarshal(data []byte, v any) error {
	b := make([]byte, len(data))
	for i := range data {
		b[len(data)-1-i] = data[i]
	}
	return json.Unmarshal(b, v)
}

func TestTheCodecIsChosenByContentType(t *testing.T) {
	c := newCatalog(t, CatalogConfig{Codecs: []Codec{reversed{"application/reversed"}}})
	must(t, Register[orderPlaced](c, "order.placed", 1))
	for contentType, data := range map[string]string{
		"application/json":                 `{"total":3}`,
		"application/json; charset=utf-8":  `{"total":3}`,
		"Application/JSON;charset=UTF-8":   `{"total":3}`,
		"application/vnd.acme.order+json":  `{"total":3}`,
		"text/json":                        `{"total":3}`,
		"application/reversed":             `}3:"latot"{`,
		"application/vnd.acme+reversed; a": `}3:"latot"{`,
	} {
		d := fullDraft()
		d.Type, d.Version, d.Data = "order.placed", 1, []byte(data)
		e := mustNew(t, d)
		e.contentType = contentType
		if v, err := c.Decode(e); err != nil || v != (orderPlaced{3}) {
			t.Errorf("%s: %v, %v", contentType, v, err)
		}
	}
	unspecified := encoded(t, "order.placed", 1, "", `{"total":3}`)
	unspecified.contentType = ""
	if v, err := c.Decode(unspecified); err != nil || v != (orderPlaced{3}) {
		t.Errorf("no content type: %v, %v", v, err)
	}
}

func TestAnotherCodecWritesTheEventsOfItsCatalog(t *testing.T) {
	c := newCatalog(t, CatalogConfig{Source: "/x", Codec: reversed{"application/reversed"}})
	must(t, Register[orderPlaced](c, "order.placed", 1))
	e, err := c.Event(t.Context(), Raised{Aggregate: Aggregate{"order", "1"}, Payload: orderPlaced{3}})
	must(t, err)
	if e.ContentType() != "application/reversed" || string(e.Data()) != `}3:"latot"{` {
		t.Errorf("%s %s", e.ContentType(), e.Data())
	}
	if v, err := c.Decode(e); err != nil || v != (orderPlaced{3}) {
		t.Errorf("read back %v, %v", v, err)
	}
	if v, err := c.Decode(encoded(t, "order.placed", 1, "application/json", `{"total":3}`)); err != nil || v != (orderPlaced{3}) {
		t.Errorf("JSON is still read: %v, %v", v, err)
	}
}

func TestACatalogConfigIsCheckedByField(t *testing.T) {
	for text, cfg := range map[string]CatalogConfig{
		"source":                                 {Source: "a b"},
		"control character":                      {Source: "/\x00"},
		"MaxDataBytes is -1":                     {MaxDataBytes: -1},
		"both read application/x: leave one out": {Codecs: []Codec{reversed{"application/x"}, reversed{"application/x"}}},
		`content type "X/Y": give a media type`:  {Codec: reversed{"X/Y"}},
		`content type "": give a media type`:     {Codec: reversed{""}},
		"Codecs[0] is nil":                       {Codecs: []Codec{nil}},
	} {
		if c, err := NewCatalog(cfg); c != nil || err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: got %v, want it to contain %q", cfg, err, text)
		}
	}
}

func TestAnEventIsMadeOfWhatWasRaised(t *testing.T) {
	c := orders(t)
	r := Raised{
		ID: uuid.Must(uuid.NewV7()), Aggregate: Aggregate{"order", "1"}, Sequence: 4, Time: fullDraft().Time,
		Headers: []Header{{"tenant", "blue"}}, Payload: orderCanceled{Reason: "late"},
	}
	e, err := c.Event(t.Context(), r)
	must(t, err)
	if e.ID() != r.ID || e.Type() != "order.canceled" || e.Version() != 3 || e.Source() != "/orders" ||
		e.Aggregate() != r.Aggregate || e.Sequence() != 4 || !e.Time().Equal(r.Time) || e.ContentType() != "application/json" {
		t.Errorf("%#v", e)
	}
	if v, _ := e.Header("tenant"); v != "blue" {
		t.Errorf("header %q", v)
	}
	if v, err := c.Decode(e); err != nil || !reflect.DeepEqual(v, r.Payload) {
		t.Errorf("payload %#v, %v", v, err)
	}
	if e.Correlation() != e.CloudEventID() || e.Causation() != "" {
		t.Errorf("the first event of a transaction: correlation %q, causation %q", e.Correlation(), e.Causation())
	}
}

func TestWhatCannotBecomeAnEventIsRefusedByName(t *testing.T) {
	c := orders(t)
	must(t, Register[map[string]any](c, "any.thing", 1))
	agg := Aggregate{"order", "1"}
	small := newCatalog(t, CatalogConfig{Source: "/x", MaxDataBytes: 10})
	must(t, Register[string](small, "said", 1))
	nameless := newCatalog(t, CatalogConfig{})
	must(t, Register[string](nameless, "said", 1))
	for _, tc := range []struct {
		c    *Catalog
		r    Raised
		text string
	}{
		{c, Raised{Aggregate: agg, Payload: 17}, "Go type int is not registered"},
		{c, Raised{Aggregate: agg}, "it is nil"},
		{c, Raised{Payload: orderPlaced{}}, "aggregate.type"},
		{c, Raised{Aggregate: agg, Payload: map[string]any{"f": func() {}}}, "encode map[string]interface {} as JSON"},
		{small, Raised{Aggregate: agg, Payload: "more than ten bytes"}, "over the limit of 10 bytes"},
		{nameless, Raised{Aggregate: agg, Payload: "x"}, "set CatalogConfig.Source"},
	} {
		if e, err := tc.c.Event(t.Context(), tc.r); err == nil || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%v: %v, %v; want %q", tc.r.Payload, e, err, tc.text)
		}
	}
}

func TestACatalogTakesMoreDataWhereItIsToldTo(t *testing.T) {
	c := newCatalog(t, CatalogConfig{Source: "/x", MaxDataBytes: 4 * MaxDataBytes})
	must(t, Register[string](c, "said", 1))
	e, err := c.Event(t.Context(), Raised{Aggregate: Aggregate{"a", "b"}, Payload: strings.Repeat("x", 2*MaxDataBytes)})
	if err != nil || len(e.Data()) != 2*MaxDataBytes+2 {
		t.Errorf("%d bytes, %v", len(e.Data()), err)
	}
}

// Run with -race: reading needs no lock, even beside a late registration.
func TestACatalogIsReadByManyWhileItGrows(t *testing.T) {
	c := orders(t)
	e := encoded(t, "order.canceled", 1, "application/json", `{"why":"late"}`)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := c.Decode(e); err != nil {
					t.Error(err)
				}
				if _, _, err := c.NameOf(orderPlaced{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	must(t, Register[int](c, "late", 9))
	for v := 8; v >= 1; v-- {
		must(t, Upcast(c, "late", v, func(n int) (int, error) { return n + 1, nil }))
	}
	cancel()
	wg.Wait()
	for v := 1; v <= 9; v++ {
		if n, err := c.Decode(encoded(t, "late", v, "application/json", "0")); err != nil || n != 9-v {
			t.Errorf("version %d went through %v steps, %v", v, n, err)
		}
	}
}
