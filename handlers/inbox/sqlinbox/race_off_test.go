//go:build !race

package sqlinbox_test

const slower = 1
