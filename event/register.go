package event

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
)

// typeNames are lower-case words joined by dots; a word may hold digits and,
// inside, hyphens and underscores.
var typeNames = regexp.MustCompile(`^[a-z][a-z0-9]*([_-][a-z0-9]+)*(\.[a-z0-9]+([_-][a-z0-9]+)*)*$`)

// Register gives the Go type T the wire name and the version of its schema. T
// is what handlers get and what is raised: the newest version. Older ones are
// led to it by Upcast. A name, and a Go type, may be registered once. Every
// mistake is an error that says what to do.
func Register[T any](c *Catalog, name string, version int) error {
	t := reflect.TypeFor[T]()
	fail := func(format string, args ...any) error {
		return fmt.Errorf("register %s as %q version %d: "+format, append([]any{t, name, version}, args...)...)
	}
	switch {
	case name == "":
		return fail(`the name is empty: name what happened, such as "order.canceled"`)
	case !typeNames.MatchString(name):
		return fail(`the name must be lower-case words joined by dots, such as "order.canceled"`)
	case version < 1 || version > math.MaxInt32:
		return fail("the version must be from 1 to 2147483647: count from 1")
	}
	if why := unfit(t); why != "" {
		return fail("%s", why)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.types.Load()
	if k, ok := old.byName[name]; ok {
		return fail("the name belongs to %s, version %d: give each event type a name of its own, and lead older versions to the newest with Upcast", k.typ, k.newest)
	}
	if k, ok := old.byType[t]; ok {
		return fail("the type is registered as %q: give each event a Go type of its own", k.name)
	}
	c.publish(&kind{name: name, newest: version, typ: t, schemas: map[int]*schema{
		version: schemaOf(t, func(v T) (any, error) { return v, nil }),
	}})
	return nil
}

// Upcast teaches c to read version fromVersion of an event: From is the Go type
// of that version, To of the next. Register the newest version first, then its
// upcasters from the newest down: so a chain can have no gap, and a mistake is
// an error here, not at the first old event. The function runs at each Decode of
// an older event; it must be pure and safe for concurrent use.
func Upcast[From, To any](c *Catalog, name string, fromVersion int, up func(From) (To, error)) error {
	from, to := reflect.TypeFor[From](), reflect.TypeFor[To]()
	fail := func(format string, args ...any) error {
		return fmt.Errorf("upcast %q from version %d: "+format, append([]any{name, fromVersion}, args...)...)
	}
	if up == nil {
		return fail("the function is nil: give one from %s to %s", from, to)
	}
	if why := unfit(from); why != "" {
		return fail("%s does not fit: %s", from, why)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.types.Load().byName[name]
	switch {
	case !ok:
		return fail("%w: register the newest version first", ErrUnknownType)
	case fromVersion < 1:
		return fail("versions count from 1")
	case fromVersion >= k.newest:
		return fail("the registered version is %d: only older ones need an upcaster", k.newest)
	}
	if s := k.schemas[fromVersion]; s != nil {
		return fail("it has one already, from %s: leave one out", s.typ)
	}
	next := k.schemas[fromVersion+1]
	if next == nil {
		return fail("nothing leads on from version %d to %d: add the upcaster from version %d before this one", fromVersion+1, k.newest, fromVersion+1)
	}
	if next.typ != to {
		return fail("it makes %s, but version %d is %s: make that", to, fromVersion+1, next.typ)
	}
	grown := *k
	grown.schemas = maps.Clone(k.schemas)
	grown.schemas[fromVersion] = schemaOf(from, func(v From) (any, error) {
		raised, err := up(v)
		if err != nil {
			return nil, fmt.Errorf("upcast from version %d: %w", fromVersion, err)
		}
		return next.lift(raised)
	})
	c.publish(&grown)
	return nil
}

// publish puts k in place for all readers. The caller holds c.mu.
func (c *Catalog) publish(k *kind) {
	old := c.types.Load()
	next := &registry{byName: maps.Clone(old.byName), byType: maps.Clone(old.byType)}
	next.byName[k.name], next.byType[k.typ] = k, k
	c.types.Store(next)
}

// registry is never changed once it is published.
type registry struct {
	byName map[string]*kind
	byType map[reflect.Type]*kind
}

// kind is one registered event type.
type kind struct {
	name    string
	newest  int
	typ     reflect.Type
	schemas map[int]*schema // by version, without a gap up to the newest
}

// schema is one version of a kind.
type schema struct {
	typ    reflect.Type
	decode func(codec Codec, data []byte) (any, error) // to the newest version
	lift   func(any) (any, error)                      // from typ to the newest version
}

func schemaOf[T any](t reflect.Type, lift func(T) (any, error)) *schema {
	return &schema{
		typ: t,
		decode: func(codec Codec, data []byte) (any, error) {
			var v T
			if err := codec.Unmarshal(data, &v); err != nil {
				return nil, err
			}
			return lift(v)
		},
		lift: func(v any) (any, error) {
			typed, ok := v.(T)
			if !ok {
				return nil, fmt.Errorf("got %T, want %s", v, t)
			}
			return lift(typed)
		},
	}
}

// unfit says why t cannot be a payload, or "".
func unfit(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return "it is a pointer: take the type it points to, " + t.Elem().String()
	case reflect.Interface:
		return "it is an interface: take the concrete type"
	case reflect.Func, reflect.Chan, reflect.UnsafePointer:
		return "it cannot be encoded: take a struct"
	default:
		return ""
	}
}
