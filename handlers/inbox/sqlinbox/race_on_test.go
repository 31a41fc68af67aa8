//go:build race

package sqlinbox_test

// slower is what the race detector costs SQLite in Go, about.
const slower = 10
