package inbox

import (
	"context"
	"errors"

	"github.com/google/uuid"
)

// ErrCommitUnknown is wrapped by the error of an Apply whose COMMIT was sent
// and not answered: the effect may or may not be there. Asking again settles
// it: an effect that was committed is answered with Duplicate.
var ErrCommitUnknown = errors.New("commit in doubt")

// ErrNotAdmitted is wrapped by an error that came before the effect was tried:
// the database was away, or ctx ended while another member held the key. It
// says nothing about the handler and is no attempt of it. What the database
// refuses for the statement's own sake (text that it cannot store, a limit, a
// right that is missing) does not wrap it, for waiting would not mend that.
var ErrNotAdmitted = errors.New("not admitted")

// Handler is whose state the inbox keeps: a handler of a group, in one epoch.
// A new epoch is a fresh start: replay and rebuild use it.
type Handler struct {
	Group string
	Name  string
	Epoch int
}

// Place is where a message stands in the log.
type Place struct {
	Topic     string
	Partition int32
	Offset    int64  // below 0: not known, and Partition neither
	Key       []byte // raw; null or empty orders nothing
}

// Admission asks whether a handler may apply an event.
type Admission struct {
	Handler Handler
	Place   Place
	Attempt int

	EventID       uuid.UUID
	Source        string
	AggregateType string
	AggregateID   string
	Sequence      int64 // 0: none

	// Type is the event's wire name; empty when it could not be decoded.
	Type string
	// Message is the event as it was read: what is written when it is parked.
	// Without it a key that has parked events answers Parked and nothing is
	// written.
	Message *Message
	// Letter, when above 0, says that this is a retry of the parked event with
	// that ID, which has Handler, EventID, Topic and Key of Place as it was
	// parked. It is admitted when it is the first of its key (or has none),
	// whatever its sequence, and leaves the dead letters with its effect. An
	// event that was applied meanwhile leaves them too, and is answered by
	// Duplicate.
	Letter int64
	// Bounds are the handler's, for what it parks.
	Bounds Bounds
}

// Answer is what the inbox says to an admission.
type Answer int

// The answers. Only Fresh runs the effect.
const (
	Fresh     Answer = iota + 1 // applied now
	Duplicate                   // its ID is known: applied before
	Parked                      // its key has parked events: this one goes behind them
	Late                        // its ID is unknown but its sequence is not above the last applied: disorder
	Gone                        // of a retry: the parked event is no longer there, or not the first of its key
)

// String names the answer: "fresh", "duplicate", "parked", "late" or "gone".
func (a Answer) String() string {
	switch a {
	case Fresh:
		return "fresh"
	case Duplicate:
		return "duplicate"
	case Parked:
		return "parked"
	case Late:
		return "late"
	case Gone:
		return "gone"
	default:
		return "no answer"
	}
}

// Inbox admits events and runs their effects, in one database, by one kind of
// transaction.
type Inbox[Tx any] interface {
	Keeper
	// Apply begins a transaction, admits a, runs effect when the answer is
	// Fresh, and commits. Effect and inbox row commit together or not at all.
	// The key's row is locked from admission to commit, so effects of one key
	// are serial across members. It blocks while another member holds the key,
	// until ctx ends. Errors before effect is called wrap
	// ErrNotAdmitted, unless the database refused the event itself. They wrap
	// ErrCommitUnknown when the reply to COMMIT was lost; effect's own error is
	// returned as it is, after the rollback. A panic of effect rolls back and
	// goes on. Effect must not end the transaction itself.
	//
	// An event that is answered by Parked and has a Message is behind what its
	// key has parked when Apply returns; ErrFull is wrapped where there is no
	// room for it.
	Apply(ctx context.Context, a Admission, effect func(ctx context.Context, tx Tx) error) (Answer, error)
}

// Ledger remembers events whose effects are elsewhere: the inbox row follows
// the effect. What crashes in between repeats the effect.
type Ledger interface {
	Keeper
	// Look answers as Apply would, and changes nothing; only the letter of a
	// retry leaves when the answer is Duplicate.
	Look(ctx context.Context, a Admission) (Answer, error)
	// Record writes the row of an event whose effect happened, whatever Look
	// would answer now, and takes out its Letter. Recording twice is no error.
	Record(ctx context.Context, a Admission) error
}

// Keeper is what the router does with an inbox besides applying events.
type Keeper interface {
	// ID tells databases apart: two handlers' inboxes with the same ID are kept once.
	ID() string
	// Check fails when the schema is missing, newer than this binary allows,
	// or not in the database that the transactions run in, and when the role
	// lacks a right that Keep needs. The text says what
	// to do.
	Check(ctx context.Context) error
	// Keep makes partitions ahead and drops what is past retention, until ctx
	// ends (then it returns nil) or something fails: a right, the schema, the
	// database. It is not tried again by itself: the caller calls again after a
	// pause. Safe when several members run it at once, and enough when one of
	// several inboxes of a database does: the longest retention holds. Blocks.
	Keep(ctx context.Context) error
}
