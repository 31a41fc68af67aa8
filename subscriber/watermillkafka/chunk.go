package watermillkafka

import (
	"unsafe"

	"github.com/IBM/sarama"

	"github.com/tidings-bus/tidings/internal/lanes"
)

// chunk is a copy of a few messages. sarama's are parts of all that a broker sent,
// or of a batch that was inflated: one that is kept would keep all of it, and
// nobody would have counted that. A chunk is counted, and free when its last
// message is finished.
type chunk struct {
	bytes    []byte
	messages []sarama.ConsumerMessage
	headers  []sarama.RecordHeader
	pointers []*sarama.RecordHeader
	room     *lanes.Room
}

// The size of a chunk: a message may hold it up, so it is small.
const (
	chunkBytes    = 16 << 10
	chunkMessages = 64
)

const (
	// messageBytes is what a message holds besides its chunk until it is finished.
	messageBytes = 480
	// placeBytes is what its place holds until the watermark has passed it.
	placeBytes = 160

	structBytes = int(unsafe.Sizeof(sarama.ConsumerMessage{}))
	headerBytes = int(unsafe.Sizeof(sarama.RecordHeader{}) + unsafe.Sizeof(uintptr(0)))
)

// copyFirst copies the first of the messages, and as many more as fit in a chunk.
func copyFirst(messages []*sarama.ConsumerMessage) chunk {
	var c chunk
	n, size, headers := 0, 0, 0
	for _, m := range messages {
		add := len(m.Key) + len(m.Value)
		for _, h := range m.Headers {
			if h != nil {
				add += len(h.Key) + len(h.Value)
			}
		}
		if n > 0 && (n == chunkMessages || size+add > chunkBytes) {
			break
		}
		n++
		size += add
		headers += len(m.Headers)
	}
	c.bytes = make([]byte, 0, size)
	c.messages = make([]sarama.ConsumerMessage, 0, n)
	c.headers = make([]sarama.RecordHeader, 0, headers)
	c.pointers = make([]*sarama.RecordHeader, 0, headers)
	c.room = &lanes.Room{Bytes: int64(size + n*structBytes + headers*headerBytes)}
	for _, m := range messages[:n] {
		c.copy(m)
	}
	return c
}

func (c *chunk) copy(m *sarama.ConsumerMessage) {
	mine := *m
	mine.Key, mine.Value = c.keep(m.Key), c.keep(m.Value)
	from := len(c.pointers)
	for _, h := range m.Headers {
		if h == nil {
			continue
		}
		c.headers = append(c.headers, sarama.RecordHeader{Key: c.keep(h.Key), Value: c.keep(h.Value)})
		c.pointers = append(c.pointers, &c.headers[len(c.headers)-1])
	}
	if m.Headers != nil {
		mine.Headers = c.pointers[from:len(c.pointers):len(c.pointers)]
	}
	c.messages = append(c.messages, mine)
}

func (c *chunk) keep(b []byte) []byte {
	if b == nil {
		return nil
	}
	from := len(c.bytes)
	c.bytes = append(c.bytes, b...)
	return c.bytes[from:len(c.bytes):len(c.bytes)]
}
