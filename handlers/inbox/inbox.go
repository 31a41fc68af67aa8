// Package inbox is the processed-ID table seen by handlers: the seam that a
// database driver fills. See pgxinbox (pgx.Tx) and sqlinbox (*sql.Tx).
package inbox

import (
	"context"

	"github.com/google/uuid"
)

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
	Offset    int64
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
}

// Answer is what the inbox says to an admission.
type Answer int

// The answers. Only Fresh runs the effect.
const (
	Fresh     Answer = iota + 1 // applied now
	Duplicate                   // its ID is known: applied before
	Parked                      // its key has parked events: this one goes behind them
	Late                        // its ID is unknown but its sequence is not above the last applied: disorder
)

// Inbox admits events and runs their effects, in one database, by one kind of
// transaction.
type Inbox[Tx any] interface {
	Keeper
	// Apply begins a transaction, admits a, runs effect when the answer is
	// Fresh, and commits. Effect and inbox row commit together or not at all.
	// The key's row is locked from admission to commit, so effects of one key
	// are serial across members. It blocks while another member holds the key.
	// A lost reply to COMMIT returns an error that wraps ErrCommitUnknown.
	Apply(ctx context.Context, a Admission, effect func(ctx context.Context, tx Tx) error) (Answer, error)
}

// Keeper is what the router does with an inbox besides applying events.
type Keeper interface {
	// ID tells databases apart: two handlers' inboxes with the same ID are kept once.
	ID() string
	// Check fails when the schema is missing, newer than this binary allows,
	// or not in the database that the transactions run in.
	Check(ctx context.Context) error
	// Keep makes partitions ahead and drops what is past retention, until ctx
	// ends. Safe when several members run it at once. Blocks.
	Keep(ctx context.Context) error
}
