package inbox

import (
	"context"
	"errors"
)

// ErrBatch is wrapped by the error of an ApplyBatch that cannot be one: its
// events are of several handlers, or retries of parked ones.
var ErrBatch = errors.New("not a batch")

// BatchInbox is an inbox that admits many events at once, in one transaction.
type BatchInbox[Tx any] interface {
	Inbox[Tx]
	// ApplyBatch begins a transaction, locks the rows of all keys, in an order
	// that is the same for all members, admits as, runs effect with the places in
	// as of those that are fresh, in their order, and commits: all effects and
	// inbox rows, or none. Effect is not called when nothing is fresh.
	//
	// The answers are those that Apply would give one after the other, by place:
	// within the batch, events of a key count on those before them, and the same
	// ID again is a Duplicate. What is Parked was put behind its key's parked
	// events, where it has a Message. An event behind a Late one of its key is not
	// answered, 0: ask again when that one is parked.
	//
	// Errors are as Apply's and hold for the whole batch: nothing of it is there.
	// One that wraps none of this package's, nor comes from effect, is what the
	// database refuses of at least one event: ask for fewer at a time to find it.
	// An ErrFull is of at least one event, too. All must be of one Handler, and
	// none a Letter: else the error wraps ErrBatch. No events: no answers.
	ApplyBatch(ctx context.Context, as []Admission, effect func(ctx context.Context, tx Tx, fresh []int) error) ([]Answer, error)
}
