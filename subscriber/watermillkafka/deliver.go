package watermillkafka

import (
	"context"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/internal/delivery"
	"github.com/tidings-bus/tidings/internal/lanes"
)

// record is what a lane carries: the Kafka message and, from its first attempt
// on, its delivery.
type record struct {
	kafka    *sarama.ConsumerMessage
	delivery *delivery.Delivery
}

// deliver is one attempt at one message: it offers it to the reader of the
// channel and waits for its ack or nack. A reader that takes from the feed makes
// more of it: the outcome is that of the last message.
func (s *subscription) deliver(it *lanes.Item[record]) lanes.Outcome {
	m, err := s.unmarshal(it.Value.kafka)
	if err != nil {
		return s.unreadable(it, err)
	}
	h := &handout{subscription: s, item: it, left: feedMost}
	m.SetContext(h.begin(s.values, m))
	defer h.cancel()

	select {
	case s.out <- m:
		it.Handed()
	case <-it.Recall():
		return lanes.Withdrawn()
	}

	select {
	case <-m.Acked():
		return lanes.Finished()
	case <-m.Nacked():
		return s.nacked(h.delivery())
	case <-it.Canceled():
	}
	h.cancel()
	select {
	case <-m.Acked(): // it was done all the same
		return lanes.Finished()
	case <-m.Nacked():
		return s.nacked(h.delivery())
	case <-it.Gone():
		return lanes.Withdrawn()
	}
}

// feedMost is how many messages may follow one by its feed: the way through
// watermill is then a small part of each, and the others that wait for a reader
// get their turn soon.
const feedMost = 31

// handout is a watermill message that was handed out, and those that followed it
// by its feed.
type handout struct {
	*subscription

	mu       sync.Mutex
	item     *lanes.Item[record]
	attempt  *delivery.Context
	left     int // messages that may follow
	canceled bool
}

// begin starts the attempt at the item. Its watermill message m is nil when it
// follows by the feed.
func (h *handout) begin(values context.Context, m *message.Message) *delivery.Context {
	r := &h.item.Value
	d := r.delivery
	if d == nil {
		d = &delivery.Delivery{
			Topic: r.kafka.Topic, Partition: r.kafka.Partition, Offset: r.kafka.Offset, Time: r.kafka.Timestamp,
		}
		if h.ours {
			d.Record = kafkaRecord(r.kafka)
		}
		r.delivery = d
	}
	if !h.ours {
		d.Record = messageRecord(r.kafka.Key, m)
	}
	d.Attempt, d.RetryIn, d.Feed = h.item.Attempt(), 0, nil
	if h.feeds {
		d.Feed = h
	}
	h.attempt = delivery.Start(&place{Context: values, message: r.kafka}, d) //nolint:contextcheck // place derives from values
	return h.attempt
}

// Next implements delivery.Feed.
func (h *handout) Next(values context.Context) *delivery.Context {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.left == 0 || h.canceled {
		return nil
	}
	next := h.item.Next()
	if next == nil {
		return nil
	}
	h.attempt.Cancel()
	h.left--
	h.item = next
	return h.begin(values, nil)
}

// cancel ends the attempt that runs; none follows.
func (h *handout) cancel() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.canceled = true
	h.attempt.Cancel()
}

// delivery is that of the last message.
func (h *handout) delivery() *delivery.Delivery {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.attempt.Delivery()
}

// nacked lets the lane sleep: as long as the router says, or NackResendSleep.
func (s *subscription) nacked(d *delivery.Delivery) lanes.Outcome {
	if d.RetryIn > 0 {
		return lanes.RetryIn(d.RetryIn)
	}
	return lanes.RetryIn(s.config.NackResendSleep)
}

// unreadable holds the key of a message that the Unmarshaler refuses: it is tried
// again like one that fails, for a next version of the service may read it. The
// log hears of it ever more rarely.
func (s *subscription) unreadable(it *lanes.Item[record], err error) lanes.Outcome {
	if n := it.Attempt(); bits.OnesCount(uint(n)) == 1 {
		s.log.Error("The Unmarshaler refuses a message: its key waits, the others go on", err, watermill.LogFields{
			"partition": it.Value.kafka.Partition, "offset": it.Offset(), "key": string(it.Value.kafka.Key), "attempt": n,
		})
	}
	return lanes.RetryIn(max(s.config.NackResendSleep, time.Second))
}

// unmarshal makes the watermill message. A reader that takes everything from the
// delivery is spared the metadata.
func (s *subscription) unmarshal(r *sarama.ConsumerMessage) (*message.Message, error) {
	if s.lean {
		return message.NewMessage(uuid(r), r.Value), nil
	}
	return s.config.Unmarshaler.Unmarshal(r)
}

func uuid(r *sarama.ConsumerMessage) string {
	id := ""
	for _, h := range r.Headers {
		if h == nil {
			continue
		}
		if name := string(h.Key); name == headerEventID || name == kafka.UUIDHeaderKey && id == "" {
			id = string(h.Value)
		}
	}
	return id
}

// kafkaRecord is the record as it is in Kafka.
func kafkaRecord(r *sarama.ConsumerMessage) event.KafkaRecord {
	k := event.KafkaRecord{Key: r.Key, Value: r.Value, Headers: make([]event.KafkaHeader, 0, len(r.Headers))}
	for _, h := range r.Headers {
		if h != nil {
			k.Headers = append(k.Headers, event.KafkaHeader{Key: string(h.Key), Value: h.Value})
		}
	}
	return k
}

// messageRecord is the record as an Unmarshaler of the service's own reads it: it
// may have decrypted the payload, or named the headers anew.
func messageRecord(key []byte, m *message.Message) event.KafkaRecord {
	k := event.KafkaRecord{Key: key, Value: m.Payload, Headers: make([]event.KafkaHeader, 0, len(m.Metadata))}
	for name, value := range m.Metadata {
		if name != KeyMetadata {
			k.Headers = append(k.Headers, event.KafkaHeader{Key: name, Value: []byte(value)})
		}
	}
	slices.SortFunc(k.Headers, func(a, b event.KafkaHeader) int { return strings.Compare(a.Key, b.Key) })
	return k
}
