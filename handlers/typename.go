package handlers

import "github.com/tidings-bus/tidings/event"

// typeName resolves T in the catalog.
func typeName[T any](c *event.Catalog) (string, error) {
	return "", event.ErrUnknownType
}
