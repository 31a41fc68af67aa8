// Package storetest is the suite that every deadletter.Store passes.
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) storetest.Fixture { ... })
//	}
//
// It parks events as handlers do, by an inbox.Parker of the same store, and
// checks what package deadletter promises: order within a key, whatever is
// done to it; that an event leaves with its effect or with a reason; that a key
// is one member's at a time; that each act is in the audit log.
package storetest
