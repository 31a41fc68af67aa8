package watermillkafka

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
)

// KeyMetadata is the metadata that holds a message's Kafka key.
const KeyMetadata = "tidings_key"

const (
	headerEventID      = "ce_id"
	headerPartitionKey = "ce_partitionkey"
)

// Marshaler is a kafka.MarshalerUnmarshaler for the Marshaler and Unmarshaler
// fields of watermill-kafka's configs. The zero value is ready.
type Marshaler struct{}

var _ kafka.MarshalerUnmarshaler = Marshaler{}

// Marshal makes a record: metadata become headers under their own names, Payload
// the value, and the key is metadata tidings_key, or else ce_partitionkey, or
// else null. A message without metadata ce_id is no event: its UUID goes where
// stock watermill-kafka has it, which is an error only if metadata use that name.
func (Marshaler) Marshal(topic string, m *message.Message) (*sarama.ProducerMessage, error) {
	if m.Metadata.Get(kafka.UUIDHeaderKey) != "" {
		return nil, fmt.Errorf("marshal message %s for topic %q: metadata %s is reserved for the UUID of messages that are no events: remove it",
			m.UUID, topic, kafka.UUIDHeaderKey)
	}
	p := &sarama.ProducerMessage{Topic: topic, Headers: make([]sarama.RecordHeader, 0, len(m.Metadata)+1)}
	if m.Payload != nil { // a null value is not an empty one
		p.Value = sarama.ByteEncoder(m.Payload)
	}
	key, hasKey := m.Metadata[KeyMetadata]
	if !hasKey {
		key = m.Metadata.Get(headerPartitionKey)
	}
	if key != "" {
		p.Key = sarama.ByteEncoder(key)
	}
	for name, value := range m.Metadata {
		if name != KeyMetadata {
			p.Headers = append(p.Headers, sarama.RecordHeader{Key: []byte(name), Value: []byte(value)})
		}
	}
	slices.SortFunc(p.Headers, func(a, b sarama.RecordHeader) int { return bytes.Compare(a.Key, b.Key) })
	if m.Metadata.Get(headerEventID) == "" && m.UUID != "" {
		p.Headers = append(p.Headers, sarama.RecordHeader{Key: []byte(kafka.UUIDHeaderKey), Value: []byte(m.UUID)})
	}
	return p, nil
}

// Unmarshal makes a message of any record: UUID is ce_id, or stock
// watermill-kafka's; metadata are the headers, and the key as tidings_key unless
// it is null or empty; Payload is the value, not copied. The error is always nil.
func (Marshaler) Unmarshal(r *sarama.ConsumerMessage) (*message.Message, error) {
	m := message.NewMessage("", r.Value)
	m.Metadata = make(message.Metadata, len(r.Headers)+1)
	foreign := ""
	for _, h := range r.Headers {
		switch {
		case h == nil:
		case string(h.Key) == kafka.UUIDHeaderKey:
			foreign = string(h.Value)
		default:
			m.Metadata[string(h.Key)] = string(h.Value)
		}
	}
	if len(r.Key) > 0 {
		m.Metadata[KeyMetadata] = string(r.Key)
	}
	if m.UUID = m.Metadata[headerEventID]; m.UUID == "" {
		m.UUID = foreign
	}
	return m, nil
}

// Place tells where a message that a watermill-kafka subscriber has handed out
// stands in its topic, from its context. The router takes it as the Place of
// such a subscription. False: the message came another way.
func Place(ctx context.Context) (partition int32, offset int64, ok bool) {
	partition, ok = kafka.MessagePartitionFromCtx(ctx)
	if !ok {
		return 0, 0, false
	}
	offset, ok = kafka.MessagePartitionOffsetFromCtx(ctx)
	return partition, offset, ok
}
