package watermillkafka

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
)

// I8: what is kept is a copy that shares nothing with what sarama read, equal to
// it in every field, and counted.
func TestChunksAreEqualCopiesThatShareNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	some := func(most int) []byte {
		if r.IntN(8) == 0 {
			return nil
		}
		return bytes.Repeat([]byte{byte(r.IntN(256))}, r.IntN(most))
	}
	for range 200 {
		var read, want []*sarama.ConsumerMessage
		for i := range 1 + r.IntN(150) {
			m := &sarama.ConsumerMessage{
				Topic: "orders", Partition: 3, Offset: int64(i), Timestamp: time.UnixMilli(int64(i)), Key: some(20), Value: some(1 << r.IntN(16)),
			}
			for h := range r.IntN(4) {
				m.Headers = append(m.Headers, &sarama.RecordHeader{Key: fmt.Append(nil, h), Value: some(30)})
			}
			read = append(read, m)
			w := *m
			w.Key, w.Value, w.Headers = bytes.Clone(m.Key), bytes.Clone(m.Value), nil
			for _, h := range m.Headers {
				w.Headers = append(w.Headers, &sarama.RecordHeader{Key: bytes.Clone(h.Key), Value: bytes.Clone(h.Value)})
			}
			want = append(want, &w)
		}
		var got []*sarama.ConsumerMessage
		for rest := read; len(rest) > 0; {
			c := copyFirst(rest)
			require.NotEmpty(t, c.messages)
			require.LessOrEqual(t, len(c.messages), chunkMessages)
			require.LessOrEqual(t, int64(cap(c.bytes)), c.room.Bytes)
			if len(c.messages) > 1 {
				require.LessOrEqual(t, len(c.bytes), chunkBytes)
			}
			require.Len(t, c.bytes, cap(c.bytes), "a copy that grew has left some behind")
			for i := range c.messages {
				got = append(got, &c.messages[i])
			}
			rest = rest[len(c.messages):]
		}
		for _, m := range read { // what was read is overwritten: nothing of it may show
			clear(m.Key)
			clear(m.Value)
			for _, h := range m.Headers {
				clear(h.Key)
				clear(h.Value)
			}
		}
		require.Equal(t, want, got)
	}
}

func TestMissingHeadersAreLeftOut(t *testing.T) {
	c := copyFirst([]*sarama.ConsumerMessage{{Headers: []*sarama.RecordHeader{nil, {Key: []byte("a")}, nil}}})
	require.Equal(t, []*sarama.RecordHeader{{Key: []byte("a")}}, c.messages[0].Headers)
}
