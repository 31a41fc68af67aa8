package subscriber

import (
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/internal/delivery"
	"github.com/tidings-bus/tidings/internal/lanes"
)

// feed adds one partition's records to its lanes. The slice is for reuse.
func (s *subscription) feed(f kgo.FetchTopicPartition, entries []lanes.Entry[record]) []lanes.Entry[record] {
	s.mu.Lock()
	p := s.partitions[f.Partition]
	if p == nil { // revoked, its records are for somebody else
		s.mu.Unlock()
		return entries
	}
	p.end = max(f.HighWatermark, p.end)
	into, before, epoch := p.lanes, p.ahead, p.epoch
	s.mu.Unlock()

	received, spared := 0, 0
	for records := f.Records; len(records) > 0; {
		c := gather(records)
		for _, r := range records[:c.records] {
			e := lanes.Entry[record]{Offset: r.Offset}
			epoch = max(epoch, r.LeaderEpoch)
			switch {
			case before.finished(r.Offset, r.LeaderEpoch):
				e.Skip = true
				spared++
			case r.Attrs.IsControl():
				e.Skip = true // but the watermark must get over it
			default:
				received++
				d := c.copy(r)
				e.Key, e.Size, e.Room, e.Value = d.Record.Key, messageBytes, c.room, record{delivery: d}
				e.Tenant = s.config.Fairness.tenant(d.Record)
			}
			entries = append(entries, e)
		}
		records = records[c.records:]
	}
	s.metrics.received.WithLabelValues(s.config.Group, s.topic).Add(float64(received))
	if spared > 0 {
		s.metrics.spared.WithLabelValues(s.config.Group, s.topic).Add(float64(spared))
	}
	if err := into.Add(entries...); err != nil {
		s.rewound(f.Partition, into, entries, err)
		return entries
	}
	s.mu.Lock()
	if s.partitions[f.Partition] == p { // else the lanes may have taken nothing of it
		p.epoch, p.ahead = epoch, before // one is not known without the other
	}
	s.mu.Unlock()
	return entries
}

// rewound starts a partition anew whose log went back: what it holds now under
// the old offsets may be other messages.
func (s *subscription) rewound(id int32, old *lanes.Partition[record], entries []lanes.Entry[record], err error) {
	if order, ok := errors.AsType[*lanes.OrderError](err); ok {
		from := slices.IndexFunc(entries, func(e lanes.Entry[record]) bool { return e.Offset == order.Offset })
		entries = entries[from:]
	}
	s.log.Error("the log went back: its leader changed uncleanly and messages may be lost; reading on from where it stands",
		"partition", id, "error", err)
	s.commits.Lock()
	defer s.commits.Unlock()
	s.mu.Lock()
	p := s.partitions[id]
	if p == nil || p.lanes != old {
		s.mu.Unlock()
		return
	}
	p.lanes = s.lanes.Open(id)
	p.committed, p.note, p.ahead, p.end, p.full = -1, "", ahead{epoch: -1}, 0, false
	into := p.lanes
	s.mu.Unlock()
	s.end(map[int32]*lanes.Partition[record]{id: old})
	if err := into.Add(entries...); err != nil {
		s.log.Error("records out of order in one fetch", "partition", id, "error", err)
	}
}

const (
	// messageBytes is what a message holds besides its bytes until it is finished.
	messageBytes = 320
	// placeBytes is what its place holds until the watermark has passed it.
	placeBytes = 160
	// headerBytes is what a header holds besides its value.
	headerBytes = 40
)

// chunk is a copy of what a few records carry. The client decodes records from
// the whole of what a broker sent, or of a batch that it has inflated: one record
// that is kept would keep megabytes, of other partitions too, and nobody would
// have counted them. A chunk is counted, and free when its last message is.
type chunk struct {
	records int // that it is for
	bytes   []byte
	headers []event.KafkaHeader
	room    *lanes.Room
}

// The sizes of a chunk: a message may hold it up, so it is small.
const (
	chunkBytes   = 16 << 10
	chunkRecords = 64
)

// gather makes the chunk for the first of records.
func gather(records []*kgo.Record) chunk {
	var c chunk
	size, heads := 0, 0
	for _, r := range records {
		n := len(r.Key) + len(r.Value)
		for _, h := range r.Headers {
			n += len(h.Value)
		}
		if c.records > 0 && (c.records == chunkRecords || size+n > chunkBytes) {
			break
		}
		c.records++
		size += n
		heads += len(r.Headers)
	}
	c.bytes = make([]byte, 0, size)
	c.headers = make([]event.KafkaHeader, 0, heads)
	c.room = &lanes.Room{Bytes: int64(size + heads*headerBytes)}
	return c
}

// copy makes the delivery of one of the chunk's records.
func (c *chunk) copy(r *kgo.Record) *delivery.Delivery {
	d := &delivery.Delivery{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Time: r.Timestamp}
	d.Record.Key, d.Record.Value = c.keep(r.Key), c.keep(r.Value)
	if len(r.Headers) > 0 {
		from := len(c.headers)
		for _, h := range r.Headers {
			c.headers = append(c.headers, event.KafkaHeader{Key: h.Key, Value: c.keep(h.Value)})
		}
		d.Record.Headers = c.headers[from:len(c.headers):len(c.headers)]
	}
	return d
}

func (c *chunk) keep(b []byte) []byte {
	if b == nil {
		return nil
	}
	from := len(c.bytes)
	c.bytes = append(c.bytes, b...)
	return c.bytes[from:len(c.bytes):len(c.bytes)]
}
