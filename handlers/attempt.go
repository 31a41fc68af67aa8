package handlers

import "context"

type attemptKey struct{}

// Attempt returns which attempt at its event a handler's function is in, from
// 1; 0 outside of a handler. A member that took over a key counts anew.
func Attempt(ctx context.Context) int {
	n, _ := ctx.Value(attemptKey{}).(int)
	return n
}
