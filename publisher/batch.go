package publisher

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"time"

	"github.com/segmentio/kafka-go/compress"

	"github.com/tidings-bus/tidings/event"
)

// The record batch, version 2 of Kafka's message format (KIP-98,
// https://kafka.apache.org/documentation/#recordbatch), behind the four bytes
// that give its size in a produce request.
//
// A record is encoded by its caller up to what depends on its place in the
// batch, so that callers share the work and a batch that is sent again is only
// put together again.
const (
	batchHeader    = 61 // bytes before the first record
	recordOverhead = 10 // at most: length, attributes, timestamp and offset deltas
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// bodySize returns the size of what appendBody appends.
func bodySize(r *event.KafkaRecord) int {
	n := bytesSize(r.Key) + bytesSize(r.Value) + varintSize(len(r.Headers))
	for i := range r.Headers {
		h := &r.Headers[i]
		n += varintSize(len(h.Key)) + len(h.Key) + bytesSize(h.Value)
	}
	return n
}

// appendBody appends a record's key, value and headers.
func appendBody(dst []byte, r *event.KafkaRecord) []byte {
	dst = appendBytes(dst, r.Key)
	dst = appendBytes(dst, r.Value)
	dst = binary.AppendVarint(dst, int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		dst = binary.AppendVarint(dst, int64(len(h.Key)))
		dst = append(dst, h.Key...)
		dst = appendBytes(dst, h.Value)
	}
	return dst
}

// appendBatch appends the size and the batch of records, all created at now.
func appendBatch(dst []byte, records []*record, now time.Time, compression compress.Compression) ([]byte, error) {
	start := len(dst)
	var head [4 + batchHeader]byte
	b := head[4:]
	millis := now.UnixMilli()
	be := binary.BigEndian
	be.PutUint32(b[12:], ^uint32(0))             // partition leader epoch: the broker's
	b[16] = 2                                    // magic
	be.PutUint16(b[21:], uint16(compression))    //nolint:gosec // codecs are 0 to 4
	be.PutUint32(b[23:], uint32(len(records)-1)) //nolint:gosec // last offset delta; MaxBatchEvents is less
	be.PutUint64(b[27:], uint64(millis))         // base timestamp
	be.PutUint64(b[35:], uint64(millis))         // max timestamp
	be.PutUint64(b[43:], ^uint64(0))             // no producer ID
	be.PutUint16(b[51:], ^uint16(0))
	be.PutUint32(b[53:], ^uint32(0))
	be.PutUint32(b[57:], uint32(len(records))) //nolint:gosec // MaxBatchEvents is less
	dst = append(dst, head[:]...)

	if compression == compress.None {
		dst = appendRecords(dst, records)
	} else {
		plain := appendRecords(nil, records)
		out := bytes.NewBuffer(dst)
		w := compression.Codec().NewWriter(out)
		if _, err := w.Write(plain); err != nil {
			return nil, err
		}
		if err := w.Close(); err != nil {
			return nil, err
		}
		dst = out.Bytes()
	}

	b = dst[start:]
	be.PutUint32(b, uint32(len(b)-4)) //nolint:gosec // MaxBatchBytes and MaxBufferedBytes
	b = b[4:]
	be.PutUint32(b[8:], uint32(len(b)-12)) //nolint:gosec // as above
	be.PutUint32(b[17:], crc32.Checksum(b[21:], castagnoli))
	return dst, nil
}

func appendRecords(dst []byte, records []*record) []byte {
	for i, r := range records {
		dst = binary.AppendVarint(dst, int64(2+varintSize(i)+len(r.body)))
		dst = append(dst, 0, 0) // attributes, timestamp delta
		dst = binary.AppendVarint(dst, int64(i))
		dst = append(dst, r.body...)
	}
	return dst
}

// appendBytes appends nullable bytes: nil is null, and differs from empty.
func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return append(dst, 1) // -1, zigzag
	}
	dst = binary.AppendVarint(dst, int64(len(b)))
	return append(dst, b...)
}

func bytesSize(b []byte) int {
	if b == nil {
		return 1
	}
	return varintSize(len(b)) + len(b)
}

// varintSize is the size of n >= 0 as a zigzag varint.
func varintSize(n int) int {
	size := 1
	for u := uint64(n) << 1; u >= 0x80; u >>= 7 { //nolint:gosec // n >= 0
		size++
	}
	return size
}
