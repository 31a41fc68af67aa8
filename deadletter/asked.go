package deadletter

import (
	"context"
	"errors"
	"fmt"
)

type askedKey struct{}

// withAsked tells retries whether somebody asked for them.
func withAsked(ctx context.Context, asked bool) context.Context {
	return context.WithValue(ctx, askedKey{}, asked)
}

// Asked reports, to a Retrier, whether somebody asked for the retry whose context
// this is. Otherwise it is due by itself, or behind one that was, or the Schedule
// wants it.
func Asked(ctx context.Context) bool {
	asked, _ := ctx.Value(askedKey{}).(bool)
	return asked
}

// keptAskers bounds how many requests' askers are remembered.
const keptAskers = 100

// asked reports whether somebody made the request (0: none), and not the Schedule.
func (r *Runner) asked(ctx context.Context, request int64) (bool, error) {
	if request == 0 {
		return false, nil
	}
	if asked, known := r.askers[request]; known {
		return asked, nil
	}
	q, err := r.config.Store.Request(ctx, request)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return false, fmt.Errorf("ask who made request %d: %w", request, err)
	}
	if len(r.askers) >= keptAskers {
		clear(r.askers)
	}
	r.askers[request] = err == nil && q.Act.Who != scheduled
	return r.askers[request], nil
}
