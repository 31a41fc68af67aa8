// Package inboxtest is the suite that every driver of the inbox passes: what
// package inbox promises, on a real database, with members that race, fail and
// lose their connections.
package inboxtest
