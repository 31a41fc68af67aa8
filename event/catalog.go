package event

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
)

// ErrUnknownType is wrapped by Catalog.Decode's error for a type that nobody
// registered, and by NameOf's and TypeName's for a Go type that nobody did.
var ErrUnknownType = errors.New("unknown event type")

// ErrNewerVersion is wrapped by an *UndecodableError for an event whose schema
// is newer than the registered one: this binary is older than the producer's.
var ErrNewerVersion = errors.New("event version is newer than the registered one")

// CatalogConfig configures a Catalog. Its zero value decodes JSON and makes no
// events.
type CatalogConfig struct {
	// Source is the URI reference of this service, such as "/orders": the
	// source of the events it makes. Without it, Event fails.
	Source string
	// Codec encodes payloads. Default: JSON.
	Codec Codec
	// Codecs are further codecs for decoding, chosen by the event's content
	// type. Codec, and JSON unless replaced, are always among them.
	Codecs []Codec
	// MaxDataBytes limits the data of the events made here, in bytes. Default:
	// MaxDataBytes. With more, raise the topic's max.message.bytes too.
	MaxDataBytes int
}

func (c *CatalogConfig) validate() error {
	if err := checkString("source", c.Source); err != nil {
		return fmt.Errorf("catalog config: %w", err)
	}
	if err := checkURI("source", c.Source, false); err != nil {
		return fmt.Errorf("catalog config: %w", err)
	}
	if c.MaxDataBytes < 0 {
		return fmt.Errorf("catalog config: MaxDataBytes is %d: give a number of bytes, or 0 for %d", c.MaxDataBytes, MaxDataBytes)
	}
	return nil
}

// Catalog maps Go types to wire names and versions, both ways. Register what
// there is at start; from then on it is read, safely by many goroutines and
// without a lock.
type Catalog struct {
	source  string
	codec   Codec
	codecs  map[string]Codec // by media type
	maxData int

	mu    sync.Mutex // registration only
	types atomic.Pointer[types]
}

// types is never changed once it is published.
type types struct {
	byName map[string]*kind
	byType map[reflect.Type]*kind
}

// kind is one registered event type.
type kind struct {
	name    string
	version int
	typ     reflect.Type
	// decoders and inputs go by version; those that no upcaster leads on from
	// are nil.
	decoders []func(codec Codec, data []byte) (any, error)
	inputs   []reflect.Type
	lifts    []func(any) (any, error) // from the Go type of a version to the newest
}

// NewCatalog returns an empty catalog.
func NewCatalog(cfg CatalogConfig) (*Catalog, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := &Catalog{source: cfg.Source, codec: cfg.Codec, codecs: map[string]Codec{}, maxData: cfg.MaxDataBytes}
	if c.codec == nil {
		c.codec = JSON{}
	}
	if c.maxData == 0 {
		c.maxData = MaxDataBytes
	}
	for _, codec := range append([]Codec{c.codec}, cfg.Codecs...) {
		t := mediaType(codec.ContentType())
		if t != codec.ContentType() || !strings.Contains(t, "/") {
			return nil, fmt.Errorf("catalog config: codec %T has content type %q: give a media type in lower case without parameters, such as %q", codec, codec.ContentType(), DefaultContentType)
		}
		if other, ok := c.codecs[t]; ok {
			return nil, fmt.Errorf("catalog config: codecs %T and %T both read %s: leave one out", other, codec, t)
		}
		c.codecs[t] = codec
	}
	if _, ok := c.codecs[DefaultContentType]; !ok {
		c.codecs[DefaultContentType] = JSON{}
	}
	c.types.Store(&types{byName: map[string]*kind{}, byType: map[reflect.Type]*kind{}})
	return c, nil
}

// names are lower-case words joined by dots; a word may hold digits and, inside,
// hyphens and underscores.
var names = regexp.MustCompile(`^[a-z][a-z0-9]*([_-][a-z0-9]+)*(\.[a-z0-9]+([_-][a-z0-9]+)*)*$`)

// Register gives the Go type T the wire name and the version of its schema. T
// is what handlers get and what is raised: the newest version. Older ones are
// led to it by Upcast. A name, and a Go type, may be registered once.
func Register[T any](c *Catalog, name string, version int) error {
	t := reflect.TypeFor[T]()
	fail := func(format string, args ...any) error {
		return fmt.Errorf("register %s as %q version %d: "+format, append([]any{t, name, version}, args...)...)
	}
	switch {
	case name == "":
		return fail(`the name is empty: name what happened, such as "order.canceled"`)
	case !names.MatchString(name):
		return fail(`the name must be lower-case words joined by dots, such as "order.canceled"`)
	case version < 1:
		return fail("versions count from 1")
	}
	if why := unfit(t); why != "" {
		return fail("%s", why)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.types.Load()
	if k, ok := old.byName[name]; ok {
		return fail("the name belongs to %s, version %d: give each event type a name of its own, and lead older versions to the newest with Upcast", k.typ, k.version)
	}
	if k, ok := old.byType[t]; ok {
		return fail("the type is registered as %q: give each event a Go type of its own", k.name)
	}
	k := newKind(name, version, t)
	k.inputs[version] = t
	k.decoders[version] = func(codec Codec, data []byte) (any, error) {
		var v T
		if err := codec.Unmarshal(data, &v); err != nil {
			return nil, err
		}
		return v, nil
	}
	k.lifts[version] = func(v any) (any, error) { return v, nil }
	next := &types{byName: maps.Clone(old.byName), byType: maps.Clone(old.byType)}
	next.byName[name], next.byType[t] = k, k
	c.types.Store(next)
	return nil
}

func newKind(name string, version int, t reflect.Type) *kind {
	return &kind{
		name: name, version: version, typ: t,
		decoders: make([]func(Codec, []byte) (any, error), version+1),
		inputs:   make([]reflect.Type, version+1),
		lifts:    make([]func(any) (any, error), version+1),
	}
}

// unfit says why t cannot be a payload, or "".
func unfit(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return "it is a pointer: register the type it points to, " + t.Elem().String()
	case reflect.Interface:
		return "it is an interface: register the concrete type"
	case reflect.Func, reflect.Chan, reflect.UnsafePointer:
		return "it cannot be encoded: register a struct"
	}
	return ""
}

// Upcast teaches c to read version fromVersion of an event: From is the Go type
// of that version, To of the next. Register the newest version first, then its
// upcasters from the newest down: so that a chain has no gap is known at once.
// The function runs at each Decode of an older event and must be pure.
func Upcast[From, To any](c *Catalog, name string, fromVersion int, up func(From) (To, error)) error {
	from, to := reflect.TypeFor[From](), reflect.TypeFor[To]()
	fail := func(format string, args ...any) error {
		return fmt.Errorf("upcast %q from version %d: "+format, append([]any{name, fromVersion}, args...)...)
	}
	if up == nil {
		return fail("the function is nil")
	}
	if why := unfit(from); why != "" {
		return fail("%s cannot be decoded into: %s", from, why)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.types.Load()
	k, ok := old.byName[name]
	switch {
	case !ok:
		return fail("%w: register the newest version first", ErrUnknownType)
	case fromVersion < 1:
		return fail("versions count from 1")
	case fromVersion >= k.version:
		return fail("the registered version is %d: only older ones need an upcaster", k.version)
	case k.decoders[fromVersion] != nil:
		return fail("it has an upcaster, from %s: leave one out", k.inputs[fromVersion])
	case k.decoders[fromVersion+1] == nil:
		return fail("nothing leads on from version %d to %d: add the upcaster from %d before this one", fromVersion+1, k.version, fromVersion+1)
	case k.inputs[fromVersion+1] != to:
		return fail("it returns %s, but version %d is %s: return that", to, fromVersion+1, k.inputs[fromVersion+1])
	}
	grown := &kind{
		name: k.name, version: k.version, typ: k.typ,
		decoders: slices.Clone(k.decoders), inputs: slices.Clone(k.inputs), lifts: slices.Clone(k.lifts),
	}
	onward := k.lifts[fromVersion+1]
	lift := func(v From) (any, error) {
		next, err := up(v)
		if err != nil {
			return nil, fmt.Errorf("upcast from version %d: %w", fromVersion, err)
		}
		return onward(next)
	}
	grown.inputs[fromVersion] = from
	grown.lifts[fromVersion] = func(v any) (any, error) {
		typed, ok := v.(From)
		if !ok {
			return nil, fmt.Errorf("upcast from version %d: got %T, want %s", fromVersion, v, from)
		}
		return lift(typed)
	}
	grown.decoders[fromVersion] = func(codec Codec, data []byte) (any, error) {
		var v From
		if err := codec.Unmarshal(data, &v); err != nil {
			return nil, err
		}
		return lift(v)
	}
	next := &types{byName: maps.Clone(old.byName), byType: maps.Clone(old.byType)}
	next.byName[name], next.byType[k.typ] = grown, grown
	c.types.Store(next)
	return nil
}

// NameOf returns the wire name and version of payload's type.
func (c *Catalog) NameOf(payload any) (name string, version int, err error) {
	if payload == nil {
		return "", 0, fmt.Errorf("name a payload: it is nil: %w", ErrUnknownType)
	}
	t := reflect.TypeOf(payload)
	k, ok := c.types.Load().byType[t]
	if !ok {
		return "", 0, c.unknownGo(t)
	}
	return k.name, k.version, nil
}

// TypeName returns the wire name of the Go type T.
func TypeName[T any](c *Catalog) (string, error) {
	t := reflect.TypeFor[T]()
	k, ok := c.types.Load().byType[t]
	if !ok {
		return "", c.unknownGo(t)
	}
	return k.name, nil
}

func (c *Catalog) unknownGo(t reflect.Type) error {
	if t.Kind() == reflect.Pointer {
		if k, ok := c.types.Load().byType[t.Elem()]; ok {
			return fmt.Errorf("%w: %s is a pointer: events are values, use %s, registered as %q", ErrUnknownType, t, t.Elem(), k.name)
		}
	}
	return fmt.Errorf("%w: Go type %s is not registered: register it in the catalog at start", ErrUnknownType, t)
}

// UndecodableError says that an event of a registered type could not be decoded.
type UndecodableError struct {
	ID        uuid.UUID
	Type      string
	Version   int
	Aggregate Aggregate
	Err       error // why: the codec's error, an upcaster's, or ErrNewerVersion
}

// Error names the event and why.
func (e *UndecodableError) Error() string {
	return fmt.Sprintf("decode event %s, %s version %d of %s: %v", e.ID, e.Type, e.Version, e.Aggregate, e.Err)
}

// Unwrap returns why.
func (e *UndecodableError) Unwrap() error { return e.Err }

// Decode returns e's payload as a value of the Go type registered for its name,
// led up from older versions. The error wraps ErrUnknownType when nobody
// registered the name, and is an *UndecodableError otherwise.
func (c *Catalog) Decode(e Event) (any, error) {
	k, ok := c.types.Load().byName[e.typ]
	if !ok {
		return nil, fmt.Errorf("decode event %s: %w %s", e.CloudEventID(), ErrUnknownType, quoteShort(e.typ))
	}
	v, err := c.decode(k, e)
	if err != nil {
		return nil, &UndecodableError{ID: e.id, Type: e.typ, Version: e.version, Aggregate: e.aggregate, Err: err}
	}
	return v, nil
}

func (c *Catalog) decode(k *kind, e Event) (any, error) {
	if e.version > k.version {
		return nil, fmt.Errorf("%w, %d: roll this service out before its producers send version %d", ErrNewerVersion, k.version, e.version)
	}
	if k.decoders[e.version] == nil {
		return nil, fmt.Errorf("no upcaster leads from version %d to %d: add it with event.Upcast", e.version, k.version)
	}
	codec, err := c.codecOf(e.contentType)
	if err != nil {
		return nil, err
	}
	return k.decoders[e.version](codec, e.data)
}

// codecOf chooses by media type: exactly, else by its structured suffix.
func (c *Catalog) codecOf(contentType string) (Codec, error) {
	if contentType == "" { // CloudEvents without datacontenttype: JSON is implied
		contentType = DefaultContentType
	}
	if codec, ok := c.codecs[contentType]; ok {
		return codec, nil
	}
	t := mediaType(contentType)
	if codec, ok := c.codecs[t]; ok {
		return codec, nil
	}
	if i := strings.LastIndexByte(t, '+'); i >= 0 {
		if codec, ok := c.codecs["application/"+t[i+1:]]; ok {
			return codec, nil
		}
	}
	if t == "text/json" {
		return c.codecs[DefaultContentType], nil
	}
	return nil, fmt.Errorf("no codec reads content type %s: add one to CatalogConfig.Codecs", quoteShort(contentType))
}

// Event makes the event of what was raised: name and version by its Go type,
// data by the codec, source of the catalog's config; causation, correlation and
// trace context follow from ctx. An event that nothing in ctx precedes begins a
// business transaction: its own ID is its correlation. Errors wrap
// ErrUnknownType or are an *InvalidError.
func (c *Catalog) Event(ctx context.Context, r Raised) (Event, error) {
	name, version, err := c.NameOf(r.Payload)
	if err != nil {
		return Event{}, err
	}
	if c.source == "" {
		return Event{}, fmt.Errorf("make event %q: %w", name, &InvalidError{"source", "", `is empty: set CatalogConfig.Source to the name of this service, such as "/orders"`})
	}
	data, err := c.codec.Marshal(r.Payload)
	if err != nil {
		return Event{}, fmt.Errorf("make event %q: %w", name, err)
	}
	o := originOf(ctx)
	d := Draft{
		ID: r.ID, Type: name, Version: version, Source: c.source, Aggregate: r.Aggregate,
		Sequence: r.Sequence, Time: r.Time, Headers: r.Headers,
		Correlation: o.correlation, TraceParent: o.traceParent, TraceState: o.traceState,
		ContentType: c.codec.ContentType(), Data: data,
	}
	if !o.cause.IsZero() {
		d.Causation = o.cause.CloudEventID()
	}
	if d.ID == uuid.Nil {
		if d.ID, err = uuid.NewV7(); err != nil {
			return Event{}, fmt.Errorf("make event %q: %w", name, err)
		}
	}
	if d.Correlation == "" {
		d.Correlation = d.ID.String()
	}
	e, err := newEvent(d, c.maxData)
	if err != nil {
		return Event{}, fmt.Errorf("make event %q: %w", name, err)
	}
	return e, nil
}

// Of is an event with its payload decoded.
type Of[T any] struct {
	Event
	Payload T
}
