package deadletter

import "context"

type requestKey struct{}

// withRequest tells retries which request they are part of; 0: they are due.
func withRequest(ctx context.Context, id int64) context.Context {
	return context.WithValue(ctx, requestKey{}, id)
}

// Asked reports, to a Retrier, whether somebody asked for the retry whose context
// this is. Otherwise it is due by itself, or behind one that was.
func Asked(ctx context.Context) bool {
	id, _ := ctx.Value(requestKey{}).(int64)
	return id != 0
}
