package event

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// ErrUnknownType is wrapped by Catalog.Decode's error for a wire name that
// nobody registered, and by NameOf's and TypeName's for such a Go type.
var ErrUnknownType = errors.New("unknown event type")

// ErrNewerVersion is wrapped by the *UndecodableError of an event whose schema
// is newer than the registered one: its producer is newer than this binary.
var ErrNewerVersion = errors.New("newer version than the registered one")

// UndecodableError says that an event of a registered type could not be decoded.
type UndecodableError struct {
	ID        uuid.UUID
	Type      string
	Version   int
	Aggregate Aggregate
	// Err says why: the codec's error, an upcaster's, ErrNewerVersion, or that
	// there is no codec or no upcaster.
	Err error
}

// Error names the event and why.
func (e *UndecodableError) Error() string {
	return fmt.Sprintf("decode event %s, %s version %d of %s: %v", e.ID, quoteShort(e.Type), e.Version, quoteShort(e.Aggregate.String()), e.Err)
}

// Unwrap returns why.
func (e *UndecodableError) Unwrap() error { return e.Err }

// Decode returns e's payload as a value, not a pointer, of the Go type
// registered for its name, led up from older versions. The error wraps
// ErrUnknownType when nobody registered the name, and is an *UndecodableError
// otherwise.
func (c *Catalog) Decode(e Event) (any, error) {
	k, ok := c.types.Load().byName[e.typ]
	if !ok {
		return nil, fmt.Errorf("decode event %s: %w %s: register it, or let the router skip it", e.id, ErrUnknownType, quoteShort(e.typ))
	}
	v, err := c.decode(k, &e)
	if err != nil {
		return nil, &UndecodableError{ID: e.id, Type: e.typ, Version: e.version, Aggregate: e.aggregate, Err: err}
	}
	return v, nil
}

// Knows reports whether a Go type is registered under the wire name, in
// whatever version: what Decode would not call ErrUnknownType.
func (c *Catalog) Knows(name string) bool {
	_, ok := c.types.Load().byName[name]
	return ok
}

func (c *Catalog) decode(k *kind, e *Event) (any, error) {
	if e.version > k.newest {
		return nil, fmt.Errorf("%w, %d: roll this service out before producers send version %d", ErrNewerVersion, k.newest, e.version)
	}
	s := k.schemas[e.version]
	if s == nil {
		return nil, fmt.Errorf("nothing leads from version %d to %d: add event.Upcast from version %d", e.version, k.newest, e.version)
	}
	codec, err := c.codecOf(e.contentType)
	if err != nil {
		return nil, err
	}
	return s.decode(codec, e.data)
}

// codecOf chooses by media type: exactly, else by its structured suffix (RFC
// 6839), so that application/vnd.acme.order+json is read as JSON.
func (c *Catalog) codecOf(contentType string) (Codec, error) {
	if contentType == "" { // unspecified: JSON, as the JSON format of CloudEvents has it
		return c.codecs[DefaultContentType], nil
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
	if jsonType(t) { // text/json and the like
		return c.codecs[DefaultContentType], nil
	}
	return nil, fmt.Errorf("no codec reads content type %s: add one to CatalogConfig.Codecs", quoteShort(contentType))
}
