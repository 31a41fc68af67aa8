package publisher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tidings-bus/tidings/event"
)

// KeyMetadata is the metadata that holds a message's Kafka key.
const KeyMetadata = "tidings_key"

// UUIDHeader is the header in which watermill's Kafka marshaler, and
// RawMarshaler, keep a message's UUID.
const UUIDHeader = "_watermill_message_uuid"

// WatermillConfig says how Watermill publishes messages.
type WatermillConfig struct {
	// Marshal makes the records. nil: EventMarshaler.
	Marshal Marshaler
	// Timeout bounds one Publish, which has no context of its own, beside the
	// first message's context. 0: 30 s. Negative: none.
	Timeout time.Duration
}

// Marshaler makes a Kafka record of a watermill message. It must be safe for
// concurrent use.
type Marshaler interface {
	Marshal(topic string, m *message.Message) (event.KafkaRecord, error)
}

// Watermill returns p as a watermill publisher. Messages go through the same
// queues as events, with the same promises: Publish returns when each message is
// acknowledged by all in-sync replicas, or with a *PublishError.
//
// Its Close waits for its own calls and leaves p open: close p where it was made.
func Watermill(p *Publisher, config WatermillConfig) message.Publisher {
	if config.Marshal == nil {
		config.Marshal = EventMarshaler{}
	}
	config.Timeout = orElse(config.Timeout, 30*time.Second)
	return &watermillPublisher{publisher: p, config: config}
}

type watermillPublisher struct {
	publisher *Publisher
	config    WatermillConfig

	mu     sync.RWMutex // read while a call runs
	closed bool
}

// Publish implements message.Publisher. A message that cannot be marshalled
// fails; those of other keys are published all the same.
func (w *watermillPublisher) Publish(topic string, messages ...*message.Message) error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return fmt.Errorf("publish: watermill publisher: %w", ErrClosed)
	}
	if len(messages) == 0 {
		return nil
	}
	ctx := messages[0].Context()
	if w.config.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, w.config.Timeout)
		defer cancel()
	}
	invalidTopic := validTopic(topic)
	failed, err := w.publisher.publish(ctx, len(messages), func(i int) (string, event.KafkaRecord, error) {
		if invalidTopic != nil {
			return topic, event.KafkaRecord{}, fmt.Errorf("%w: %w", ErrInvalid, invalidTopic)
		}
		r, err := w.config.Marshal.Marshal(topic, messages[i])
		if err != nil {
			return topic, r, fmt.Errorf("%w: marshal message %s: %w", ErrInvalid, messages[i].UUID, err)
		}
		return topic, r, nil
	})
	if err != nil {
		return err
	}
	return publishError(failed, len(messages), func(int) event.Event { return event.Event{} })
}

// Close refuses further messages and waits for calls that run.
func (w *watermillPublisher) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	return nil
}

// EventMarshaler publishes messages that are events, as Message makes them:
// metadata are the Kafka headers of the CloudEvents binding, the payload is the
// value, the key is in metadata tidings_key or else ce_partitionkey, and the
// UUID is ce_id. A message that is no valid event with a key is refused.
type EventMarshaler struct{}

// Marshal implements Marshaler.
func (EventMarshaler) Marshal(_ string, m *message.Message) (event.KafkaRecord, error) {
	r := event.KafkaRecord{Value: m.Payload, Headers: headers(m, "ce_id")}
	key := m.Metadata.Get(KeyMetadata)
	if key == "" {
		key = m.Metadata.Get("ce_partitionkey")
	}
	if key == "" {
		return r, errors.New("it has no key: set metadata " + KeyMetadata + " to the aggregate ID, or publish raw messages with RawMarshaler")
	}
	r.Key = []byte(key)
	if _, err := event.FromKafka(r); err != nil {
		return r, fmt.Errorf("it is no event: %w: make it with publisher.Message, or publish raw messages with RawMarshaler", err)
	}
	return r, nil
}

// RawMarshaler publishes any message: metadata are headers, the UUID is in
// header _watermill_message_uuid as with stock watermill-kafka, the payload is
// the value.
type RawMarshaler struct {
	// Key gives a message's key; nil keys are spread over the partitions and
	// have no order. nil: metadata tidings_key, if set.
	Key func(*message.Message) []byte
}

// Marshal implements Marshaler.
func (r RawMarshaler) Marshal(_ string, m *message.Message) (event.KafkaRecord, error) {
	if m.Metadata.Get(UUIDHeader) != "" {
		return event.KafkaRecord{}, errors.New("metadata " + UUIDHeader + " is reserved for the message's UUID")
	}
	record := event.KafkaRecord{Value: m.Payload, Headers: headers(m, UUIDHeader)}
	if r.Key != nil {
		record.Key = r.Key(m)
	} else if key := m.Metadata.Get(KeyMetadata); key != "" {
		record.Key = []byte(key)
	}
	return record, nil
}

// PayloadKey is a RawMarshaler.Key: equal payloads are in one partition.
func PayloadKey(m *message.Message) []byte {
	return m.Payload
}

// headers makes headers of m's metadata, in order of name, and of its UUID
// unless the metadata have one.
func headers(m *message.Message, uuidHeader string) []event.KafkaHeader {
	hs := make([]event.KafkaHeader, 0, len(m.Metadata)+1)
	for name, value := range m.Metadata {
		if name != KeyMetadata {
			hs = append(hs, event.KafkaHeader{Key: name, Value: []byte(value)})
		}
	}
	if m.Metadata.Get(uuidHeader) == "" && m.UUID != "" {
		hs = append(hs, event.KafkaHeader{Key: uuidHeader, Value: []byte(m.UUID)})
	}
	slices.SortFunc(hs, func(a, b event.KafkaHeader) int {
		switch {
		case a.Key < b.Key:
			return -1
		case a.Key > b.Key:
			return 1
		}
		return 0
	})
	return hs
}

// Message makes the watermill message of e, in the form that EventMarshaler
// publishes and the subscribers hand out. The payload shares e's data.
func Message(e event.Event) *message.Message {
	r := event.ToKafka(e)
	m := message.NewMessage(e.CloudEventID(), r.Value)
	for _, h := range r.Headers {
		m.Metadata.Set(h.Key, string(h.Value))
	}
	if r.Key != nil {
		m.Metadata.Set(KeyMetadata, string(r.Key))
	}
	return m
}
