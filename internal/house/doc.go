// Package house holds tests of the module as a whole: which package may import
// which, and that what the README shows compiles, runs and exists.
package house
