// Package conformance runs watermill's own suite over our publisher and
// subscriber: the same on the embedded broker and on a real one.
package conformance
