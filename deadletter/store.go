package deadletter

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/tidings-bus/tidings/handlers/inbox"
)

// ErrNotFound is wrapped by errors about a letter, key, request or handler that
// the store does not have (any more).
var ErrNotFound = errors.New("not found")

// ErrBusy is wrapped by errors about a key that is being retried.
var ErrBusy = errors.New("is being retried")

// Store is where parked events are: beside the inbox of their handlers. All
// methods are safe for concurrent use, by any number of processes. What
// changes a key locks its key row, as admissions do; each act on letters is
// one transaction with its line in the audit log.
//
//nolint:interfacebloat // one seam, which the CLI and members use whole
type Store interface {
	// ID is the inbox's: handlers of one database share a store.
	ID() string

	// Keys lists parked keys by ID, those above after, limit at most (1 to
	// MaxPage, as all limits).
	Keys(ctx context.Context, f Filter, after int64, limit int) ([]Key, error)
	// Count groups parked keys, the largest group first; without By it sums them
	// up in one Count.
	Count(ctx context.Context, f Filter, by ...By) ([]Count, error)
	// Letters lists the parked events of a key in order, those above after. It
	// wraps ErrNotFound when the key is not parked.
	Letters(ctx context.Context, key int64, after int64, limit int) ([]Letter, error)
	// Letter returns one. It wraps ErrNotFound.
	Letter(ctx context.Context, id int64) (Letter, error)
	// Handlers lists the handlers that have parked events.
	Handlers(ctx context.Context, group string) ([]inbox.Handler, error)

	// Discard removes a letter and writes its inbox row, so that the event is
	// known as settled. Act needs a reason. It waits for a try of the event in
	// a transaction to end (a plain handler's goes on beside it), or, where the
	// store has no lock for that, wraps ErrBusy while a member retries the key.
	Discard(ctx context.Context, id int64, act Act) error
	// Edit replaces the value that the next retry sees; the first original is
	// kept. What identifies the event (ID, key, sequence, all headers) cannot
	// change. Members call it for requests, after they have checked that the
	// new one decodes. It wraps ErrBusy while a member retries the key.
	Edit(ctx context.Context, id int64, to Edited, act Act) error
	// Reassign hands the parked keys of a handler to another one of the group,
	// whose own parked events of a key stay before them. It returns how many
	// letters it moved; ErrBusy when one of them is being retried. Many keys are
	// moved in several transactions; after an error it may be called again. Events
	// that the other one has parked itself are not moved but dropped. It wraps
	// ErrNotFound for a handler that the store has never seen.
	Reassign(ctx context.Context, from, to inbox.Handler, act Act) (int64, error)
	// Import parks letters that another store exported, in the order given, each
	// behind what its key has. Letters that are there already, or were applied,
	// are left out. It returns how many were added, also with an error: letters of
	// one key in a row are one transaction, and those before it stay. It wraps
	// ErrNotFound for a handler that the store has never seen.
	Import(ctx context.Context, letters []Letter, act Act) (int64, error)

	// Audit lists what was done, newest first, before the given ID (0: from the
	// newest).
	Audit(ctx context.Context, group string, before int64, limit int) ([]Entry, error)

	// Ask records a request, with its line in the audit log. A retry selects
	// the keys that match its Filter, were parked before, and are in no other
	// open request: those are left out and counted in Busy. When all of them are,
	// the error wraps ErrBusy and names the other request; when none matches, it
	// wraps ErrNotFound. Only keys of a handler's newest epoch are selected.
	// A request to edit wraps ErrNotFound when the letter is not there.
	Ask(ctx context.Context, r Request, act Act) (Request, error)
	// Request returns one. It wraps ErrNotFound.
	Request(ctx context.Context, id int64) (Request, error)
	// End cancels an open request: keys that were not tried stay as they are, and
	// what runs ends after its event. It wraps ErrNotFound when the request is
	// not there or not open.
	End(ctx context.Context, id int64, act Act) error
	// Requests lists those of a group, newest first; open: only unfinished ones.
	Requests(ctx context.Context, group string, open bool, limit int) ([]Request, error)

	Worker
}

// Worker is the side of a Store that members of a group use: see Runner.
type Worker interface {
	// Claim gives member up to limit keys of the group to retry: keys of open
	// requests, oldest request first, and keys whose head is due. Each is the
	// member's alone until lease has passed without a Renew. Only keys of
	// handlers named are given.
	Claim(ctx context.Context, group string, handlers []string, member string, lease time.Duration, limit int) ([]Key, error)
	// Renew keeps claims for another lease; it returns the IDs it still has.
	Renew(ctx context.Context, member string, keys []int64, lease time.Duration) ([]int64, error)
	// Release gives back a claim that Claim gave. With outcome done its request
	// has finished with the key (drained, or stopped at a failure), else it may
	// be claimed again. Progress is added to the request's, also when the key has
	// been drained and is no more. It wraps ErrNotFound when the key is another
	// member's by now; then nothing changes.
	Release(ctx context.Context, member string, key Key, done bool, p Progress) error
	// Advance carries open requests on: it fills in the totals of new ones, and
	// finishes those that have nothing left to do. Any member may call it, at
	// any time.
	Advance(ctx context.Context, group string) error
	// Permit reserves the next turn of a request that has a rate, over all
	// members: wait is how long to wait before one event of it may be retried.
	// The turn is taken: nobody asks again after the wait. Without a rate it
	// answers 0. It wraps ErrNotFound when the request is not open any more: its
	// keys are to be left as they are.
	Permit(ctx context.Context, request int64) (wait time.Duration, err error)
	// Settle finishes a request of kind RequestEdit with its result.
	Settle(ctx context.Context, id int64, state State, err string) error
}

// Edited is what Edit replaces.
type Edited struct {
	Value []byte
}

// Act is who does something to the dead letters, and why.
type Act struct {
	Who    string
	Reason string
	// Request, of an Edit that carries out a request: the same transaction
	// settles it as Done. When it is not open, somebody else carried it out:
	// nothing changes, and the error wraps ErrNotFound.
	Request int64
}

// Entry is a line of the audit log.
type Entry struct {
	ID      int64
	At      time.Time
	Act     Act
	Action  string // see the Actions
	Group   string
	Handler string
	Key     []byte
	Letter  int64
	EventID string
	Request int64
	// Before and After show what changed, as JSON objects; may be empty.
	Before, After json.RawMessage
}

// The actions of the audit log. Retries of single events are not in it: the
// request that asked for them has its progress.
const (
	ActionRetry    = "retry"    // somebody asked for a retry: Request has an ID
	ActionAskEdit  = "ask-edit" // somebody asked for an edit
	ActionEdit     = "edit"     // a member carried it out
	ActionRefuse   = "refuse"   // a member did not: After says why
	ActionEnd      = "end"      // somebody canceled a request
	ActionDiscard  = "discard"  // Before has the letter, as MarshalLetter writes it
	ActionReassign = "reassign" // a key was handed to another handler
	ActionImport   = "import"   // letters were added to a key
)

// Kind is what a request asks for.
type Kind string

// Action is that of the line in the audit log that says it was asked for.
func (k Kind) Action() string {
	if k == RequestEdit {
		return ActionAskEdit
	}
	return ActionRetry
}

// The kinds.
const (
	RequestRetry Kind = "retry"
	RequestEdit  Kind = "edit"
)

// State is how far a request is.
type State string

// The states.
const (
	Open    State = "open"    // recorded; members carry it out
	Done    State = "done"    // everything was tried
	Refused State = "refused" // of an edit: Error says why
	Ended   State = "ended"   // canceled by somebody
)

// Request is what somebody asked of a group's members. It is carried out also
// when the asker has gone.
type Request struct {
	Progress

	ID    int64
	Group string
	Kind  Kind
	State State
	Asked time.Time
	Ended time.Time
	Act   Act
	Error string

	// Filter selects the keys of a retry; keys parked after Asked are not part of it.
	Filter Filter
	// Rate bounds a retry to so many events per second, over all members; 0: none.
	Rate float64

	// Letter and Value are those of an edit.
	Letter int64
	Value  []byte

	Keys int64 // parked keys that it selected
	Busy int64 // keys that matched, and were left to other open requests
}

// Progress is what a retry has come to.
type Progress struct {
	KeysDone    int64 // drained
	KeysStopped int64 // stopped at a failure
	Applied     int64 // events applied or found to be
	Failed      int64
}
