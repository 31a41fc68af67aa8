// Package delivery is what a subscriber with lanes and the router tell each
// other about one message, beside watermill's ack and nack: where it stands in
// the log, how often it was tried, and how long its lane shall sleep.
package delivery

import (
	"context"
	"time"

	"github.com/tidings-bus/tidings/event"
)

// Delivery belongs to one message for as long as it is unfinished: the same
// value comes with every attempt. One goroutine at a time uses it: the
// subscriber before it hands the message out and after its ack or nack, the
// router in between.
type Delivery struct {
	Topic     string
	Partition int32
	Offset    int64
	Time      time.Time // the record's timestamp
	Record    event.KafkaRecord

	// Attempt counts the hand-outs of this message, from 1.
	Attempt int

	// RetryIn is set by the router before a nack: how long the lane sleeps
	// before the next attempt. Zero: the subscriber's own default.
	RetryIn time.Duration

	// Alone is set by the router before a nack: the next attempt is not gathered
	// with others.
	Alone bool

	// State is the router's, kept between attempts: which handlers have finished.
	State any

	// Feed, unless nil, has more messages for the one who has finished this.
	Feed Feed
}

// Feed spares a router that is quick the way through watermill, which takes
// several goroutines' turns: it goes on with another message in the goroutine in
// which it finished one.
type Feed interface {
	// Next finishes the message, as an ack does, and returns the attempt at
	// another one that is ready, with the values of the context given. The ack or
	// nack of the watermill message that began it is then that one's. Nil: there
	// is none, nothing was finished, and the watermill message is to be acked as
	// ever. It does not block.
	Next(values context.Context) *Context
}

type contextKey struct{}

// NewContext returns a context that carries d.
func NewContext(ctx context.Context, d *Delivery) context.Context {
	return context.WithValue(ctx, contextKey{}, d)
}

// FromContext returns the delivery of the message whose context this is, or nil
// when its subscriber has no lanes.
func FromContext(ctx context.Context) *Delivery {
	d, _ := ctx.Value(contextKey{}).(*Delivery)
	return d
}

type feedKey struct{}

// WithFeed marks a context for Subscribe: whoever reads the messages would have
// a Feed in their deliveries. Only a subscriber that is not wrapped in another
// may be told: a wrapper would not see the messages of the feed.
func WithFeed(ctx context.Context) context.Context {
	return context.WithValue(ctx, feedKey{}, true)
}

// IsWithFeed tells whether ctx is marked so.
func IsWithFeed(ctx context.Context) bool {
	feed, _ := ctx.Value(feedKey{}).(bool)
	return feed
}

// Feeder is embedded by subscribers that heed WithFeed.
type Feeder struct{}

func (Feeder) feeds() {}

// Feeds tells whether sub is such a subscriber, and not something around one.
func Feeds(sub any) bool {
	_, ok := sub.(interface{ feeds() })
	return ok
}

type leanKey struct{}

// WithoutMetadata marks a context for Subscribe: whoever reads the messages takes
// headers from their Delivery, so that the subscriber can spare itself a map of
// them in each message.
func WithoutMetadata(ctx context.Context) context.Context {
	return context.WithValue(ctx, leanKey{}, true)
}

// IsWithoutMetadata tells whether ctx is marked so.
func IsWithoutMetadata(ctx context.Context) bool {
	lean, _ := ctx.Value(leanKey{}).(bool)
	return lean
}
