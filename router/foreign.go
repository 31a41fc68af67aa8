package router

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// metadataKey carries the Kafka key in a watermill message.
const metadataKey = "tidings_key"

// handleForeign handles a message whose subscriber has no lanes. A failed one
// waits here until its next try is due, for its subscriber would bring it again
// at once.
func (s *subscription) handleForeign(msg *message.Message) error {
	r := s.router
	// Such a subscriber ends its messages' contexts as soon as it is told to
	// stop; the router decides itself when running handlers are cancelled.
	ctx, cancel := context.WithCancel(context.WithoutCancel(msg.Context()))
	defer cancel()
	stop := context.AfterFunc(msg.Context(), func() {
		if r.phase.Load() == phaseRunning {
			cancel()
		}
	})
	defer stop()

	m := delivered{sub: s, ctx: ctx, record: recordOf(msg)}
	m.place = inbox.Place{Topic: s.topic, Partition: -1, Offset: -1, Key: m.record.Key}
	if s.Place != nil {
		if partition, offset, ok := s.Place(msg.Context()); ok {
			m.place.Partition, m.place.Offset, m.id = partition, offset, placeID(partition, offset)
		}
	}
	if m.id == "" {
		m.id = identify(msg, m.record)
	}
	remembered := memoryKey{topic: s.topic, id: m.id}
	m.progress = r.memory.recall(remembered)
	if m.deliver() {
		r.memory.forget(remembered)
		return nil
	}
	if m.progress == nil {
		return errUnfinished
	}
	r.memory.keep(remembered, m.progress)
	if !m.stopped {
		wait(ctx, r.stopC, time.Until(m.progress.due()))
	}
	return errUnfinished
}

// wait waits for d, or until ctx or stop ends.
func wait(ctx context.Context, stop <-chan struct{}, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-stop:
	}
}

// recordOf reads the watermill form of an event: the headers are the metadata,
// the key is in tidings_key.
func recordOf(msg *message.Message) event.KafkaRecord {
	rec := event.KafkaRecord{Value: msg.Payload, Headers: make([]event.KafkaHeader, 0, len(msg.Metadata))}
	for k, v := range msg.Metadata {
		if k == metadataKey {
			rec.Key = []byte(v)
			continue
		}
		rec.Headers = append(rec.Headers, event.KafkaHeader{Key: k, Value: []byte(v)})
	}
	slices.SortFunc(rec.Headers, func(a, b event.KafkaHeader) int {
		if a.Key < b.Key {
			return -1
		}
		return 1
	})
	return rec
}

// identify tells messages without a place apart between redeliveries: by all of
// the record. Its id alone would not do: it may be missing, and CloudEvents
// makes it unique only together with the source.
func identify(msg *message.Message, rec event.KafkaRecord) string {
	h := sha256.New()
	part := func(b []byte) {
		h.Write(binary.AppendUvarint(nil, uint64(len(b))))
		h.Write(b)
	}
	part([]byte(msg.UUID))
	part(rec.Key)
	for _, header := range rec.Headers {
		part([]byte(header.Key))
		part(header.Value)
	}
	part(rec.Value)
	return string(h.Sum(nil))
}

func placeID(partition int32, offset int64) string {
	return strconv.Itoa(int(partition)) + "@" + strconv.FormatInt(offset, 10)
}

// memory keeps the progress of unfinished messages between redeliveries, for
// subscribers that cannot: a bounded number, the oldest goes first.
type memory struct {
	limit int

	mu       sync.Mutex
	messages map[memoryKey]*progress
	oldest   []memoryKey // in the order they came; some may have been forgotten
}

type memoryKey struct{ topic, id string }

// recall takes a message's progress out for an attempt. Nil: none, or another
// message of the same UUID is being handled with it.
func (f *memory) recall(key memoryKey) *progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.messages[key]
	if p == nil || p.busy {
		return nil
	}
	p.busy = true
	return p
}

// keep puts it back, or in.
func (f *memory) keep(key memoryKey, p *progress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p.busy = false
	old, known := f.messages[key]
	if known {
		if !old.busy {
			f.messages[key] = p
		}
		return
	}
	if f.messages == nil {
		f.messages = map[memoryKey]*progress{}
	}
	for len(f.messages) >= f.limit && len(f.oldest) > 0 {
		delete(f.messages, f.oldest[0])
		f.oldest = f.oldest[1:]
	}
	f.messages[key] = p
	f.oldest = append(f.oldest, key)
	if len(f.oldest) > 2*f.limit {
		f.oldest = slices.DeleteFunc(f.oldest, func(k memoryKey) bool { _, kept := f.messages[k]; return !kept })
	}
}

// forget drops the progress of a finished message.
func (f *memory) forget(key memoryKey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.messages, key)
}
