package storetest

import (
	"testing"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// Box is the inbox beside a store, as plain handlers use it.
type Box interface {
	inbox.Ledger
	inbox.Parker
}

// Fixture is a fresh store.
type Fixture struct {
	Store deadletter.Store
	// Second is the same store as another process has it.
	Second deadletter.Store
	// Box parks events in it, and applies them.
	Box Box
	// Forgets: the inbox does not remember what was applied or discarded.
	Forgets bool
	// Rounds is how long the races are. Zero: 30.
	Rounds int
}

// Run runs the suite; open makes a fresh store for each part of it, and closes
// it at the end of the test.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	t.Helper()
	for _, part := range []struct {
		name string
		test func(s *scene)
	}{
		{"keys are listed by filter and page", testKeys},
		{"keys are counted by any grouping", testCount},
		{"letters come back exactly", testLetters},
		{"what is not there", testNotFound},
		{"limits are checked", testLimits},
		{"a discarded event is settled", testDiscard},
		{"the first of a key is discarded", testDiscardFirst},
		{"an edit keeps the first original", testEdit},
		{"an edit for a request is carried out once", testEditRequest},
		{"an edit waits for a retry to end", testEditBusy},
		{"a handler's keys go behind another's own", testReassign},
		{"a key that is retried is not handed over", testReassignBusy},
		{"letters go out and come in", testImport},
		{"imported letters go behind what is there", testImportBehind},
		{"each act is in the audit log", testAudit},
		{"a retry selects what its filter says", testAsk},
		{"a key is in one request at a time", testAskBusy},
		{"a request ends", testEnd},
		{"a request finishes by itself", testFinish},
		{"keys that are due are given out", testDue},
		{"I6 a key is one member's at a time", testClaim},
		{"a lease that has passed", testLease},
		{"a request's rate holds for all members", testPermit},
		{"I3 I6 a retry drains a key in order", testDrain},
		{"I3 I6 acts beside retries", testActsBesideRetries},
		{"I6 members race for keys", testRace},
	} {
		t.Run(part.name, func(t *testing.T) {
			f := open(t)
			if f.Second == nil {
				f.Second = f.Store
			}
			if f.Rounds == 0 {
				f.Rounds = 30
			}
			part.test(&scene{T: t, Fixture: f})
		})
	}
}
