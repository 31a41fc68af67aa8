package delivery

import "context"

// Gatherer is a Feed for a reader that handles many messages at once: they come
// in the lane slot of the message whose Feed it is, and each is finished on its
// own. After Gather, Next returns nothing.
type Gatherer interface {
	Feed
	// Gather hands out further messages of the partition: what follows in the
	// lane of the first message, and what is ready, each with what follows it in
	// its lane; most of them at most, of no more than bytes together. Messages of
	// one key are in their order. It does not block.
	Gather(most int, bytes int64) []*Delivery
	// Arrived receives when there may be more to gather.
	Arrived() <-chan struct{}
	// Settle says what became of messages. Of one key the earlier comes first;
	// when it is not finished, what was gathered behind it goes back, untried,
	// whatever is said of it. What is not settled when the watermill message is
	// acked or nacked goes back too; so that says nothing of the first message if
	// it was settled before.
	Settle(ends []End)
}

// End is what became of a gathered message.
type End struct {
	// Index is 0 for the message whose Feed it is, and then counts all that
	// Gather gave.
	Index   int
	Verdict Verdict
}

// Verdict is what is said of a gathered message.
type Verdict int

// The verdicts.
const (
	Finished Verdict = iota // as an ack
	Failed                  // as a nack: RetryIn and Alone of its Delivery say how it comes again
	Returned                // it was not tried
)

type batchesKey struct{}

// WithBatches marks a context for Subscribe, besides WithFeed: whoever reads the
// messages gathers many in one slot, so that a partition needs few.
func WithBatches(ctx context.Context) context.Context {
	return context.WithValue(ctx, batchesKey{}, true)
}

// IsWithBatches tells whether ctx is marked so.
func IsWithBatches(ctx context.Context) bool {
	batches, _ := ctx.Value(batchesKey{}).(bool)
	return batches
}
