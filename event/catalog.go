package event

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
)

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
	for i, codec := range c.Codecs {
		if codec == nil {
			return fmt.Errorf("catalog config: Codecs[%d] is nil: leave it out", i)
		}
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
	types atomic.Pointer[registry]
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
	c.types.Store(&registry{byName: map[string]*kind{}, byType: map[reflect.Type]*kind{}})
	return c, nil
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
	return k.name, k.newest, nil
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
		Correlation: o.correlation, Causation: o.causation(), TraceParent: o.traceParent, TraceState: o.traceState,
		ContentType: c.codec.ContentType(), Data: data,
	}
	if d.ID == uuid.Nil {
		if d.ID, err = uuid.NewV7(); err != nil {
			return Event{}, fmt.Errorf("make event %q: %w", name, err)
		}
	}
	if d.Correlation == "" {
		d.Correlation = d.ID.String()
	}
	if err := checkData(d.Data, c.maxData); err != nil {
		return Event{}, fmt.Errorf("make event %q: %w", name, err)
	}
	e, err := newOwned(d)
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
