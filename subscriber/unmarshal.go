package subscriber

import (
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tidings-bus/tidings/event"
)

// Headers that carry a message's identity, and the metadata that carries its key.
const (
	headerEventID     = "ce_id"
	headerWatermillID = "_watermill_message_uuid" // stock watermill-kafka's
	metadataKey       = "tidings_key"
)

// Unmarshal makes the watermill message of a record: UUID is the ce_id header
// (or stock watermill-kafka's), Metadata holds the headers under their own names
// and the key as tidings_key, Payload is the value, not copied. Of a header that
// stands twice the last counts. It reads anything and never fails.
func Unmarshal(r event.KafkaRecord) *message.Message {
	size := len(r.Key)
	for _, h := range r.Headers {
		size += len(h.Value)
	}
	// One string holds every value: one allocation in place of one per header.
	var joined strings.Builder
	joined.Grow(size)
	for _, h := range r.Headers {
		joined.Write(h.Value)
	}
	joined.Write(r.Key)
	text := joined.String()

	var uuid, foreign string
	m := message.NewMessage("", r.Value)
	m.Metadata = make(message.Metadata, len(r.Headers)+1)
	for _, h := range r.Headers {
		value := text[:len(h.Value)]
		text = text[len(h.Value):]
		switch h.Key {
		case headerEventID:
			uuid = value
		case headerWatermillID:
			foreign = value
			continue
		}
		m.Metadata[h.Key] = value
	}
	if len(r.Key) > 0 {
		m.Metadata[metadataKey] = text
	}
	if uuid == "" {
		uuid = foreign
	}
	m.UUID = uuid
	return m
}

// UnmarshalPayload is Unmarshal without metadata: UUID and Payload only. The map
// of the metadata is the dearest part of a message: without it a watermill router
// that does nothing handles half as many again. The event router does not look at
// it; watermill middleware that reads correlation IDs and the like does.
func UnmarshalPayload(r event.KafkaRecord) *message.Message {
	uuid := ""
	for _, h := range r.Headers {
		if h.Key == headerEventID || h.Key == headerWatermillID && uuid == "" {
			uuid = string(h.Value)
		}
	}
	return message.NewMessage(uuid, r.Value)
}
