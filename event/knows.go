package event

// Knows reports whether a Go type is registered under the wire name, in
// whatever version: what Decode would not call ErrUnknownType.
func (c *Catalog) Knows(name string) bool {
	_, ok := c.types.Load().byName[name]
	return ok
}
