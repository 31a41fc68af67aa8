package publisher

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/segmentio/kafka-go/protocol/rawproduce"
)

// request is one produce request: a batch of each of some partitions. Each of
// them has its own answer.
type request struct {
	pub        *Publisher
	partitions []*partition // sorted by topic and number once it is sent
	answers    []answer     // to them, in their order
	events     int
	bytes      int  // at most, before compression
	counts     bool // it makes others wait; guarded by the broker's mutex
}

// requestBuffer is the memory of a request on its way.
type requestBuffer struct {
	data    []byte
	ends    []int // of the partitions' batches in data
	readers []bytes.Reader
}

func newRequest(p *Publisher) *request { return &request{pub: p} }

// add takes in the partition's batch.
func (r *request) add(p *partition) {
	r.partitions = append(r.partitions, p)
	r.events += len(p.batch)
	r.bytes += p.batchBytes
}

// send sends the request to the broker at address and sets the answers.
func (r *request) send(address string) {
	slices.SortFunc(r.partitions, func(a, b *partition) int {
		return cmp.Or(strings.Compare(a.topic.name, b.topic.name), cmp.Compare(a.id, b.id))
	})
	r.answers = make([]answer, len(r.partitions))
	buffer := r.pub.buffers.Get().(*requestBuffer) //nolint:forcetypeassert // the pool holds nothing else
	defer r.pub.buffers.Put(buffer)
	started := time.Now()
	body := &rawproduce.Request{
		Acks:    -1,                                                                        // every in-sync replica
		Timeout: int32(min(r.pub.config.RequestTimeout.Milliseconds()*4/5, math.MaxInt32)), //nolint:gosec // positive
		Topics:  r.encode(buffer, started),
	}
	if len(body.Topics) == 0 {
		return
	}
	m, err := r.pub.wire.roundTrip(r.pub.always, address, body)
	r.pub.metrics.requested(time.Since(started), r.events, len(buffer.data))
	res, _ := m.(*produce.Response)
	if err == nil {
		r.read(res)
	}
	for i := range r.answers {
		if r.answers[i].verdict != unanswered {
			continue
		}
		if err != nil {
			r.answers[i] = judgeError(err)
			continue
		}
		r.answers[i] = answer{verdict: again, doubt: true, err: fmt.Errorf(
			"broker %s did not answer for partition %d of topic %q", address, r.partitions[i].id, r.partitions[i].topic.name)}
	}
}

// encode writes the batches into buffer. One that cannot be is left out, and has
// its answer.
func (r *request) encode(buffer *requestBuffer, now time.Time) []rawproduce.RequestTopic {
	data, ends := buffer.data[:0], buffer.ends[:0]
	for i, p := range r.partitions {
		longer, err := appendBatch(data, p.batch, now, r.pub.codec)
		if err != nil {
			r.answers[i] = answer{verdict: refusedAll, err: fmt.Errorf("compress by %s: %w", r.pub.config.Compression, err)}
		} else {
			data = longer
		}
		ends = append(ends, len(data))
	}
	readers := slices.Grow(buffer.readers[:0], len(ends))[:len(ends)]
	buffer.data, buffer.ends, buffer.readers = data, ends, readers

	all := make([]rawproduce.RequestPartition, 0, len(ends))
	var topics []rawproduce.RequestTopic
	from := 0
	for i, p := range r.partitions {
		batch := data[from:ends[i]]
		from = ends[i]
		if len(batch) == 0 {
			continue
		}
		readers[i].Reset(batch)
		all = append(all, rawproduce.RequestPartition{Partition: p.id, RecordSet: protocol.RawRecordSet{Reader: &readers[i]}})
		if last := len(topics) - 1; last >= 0 && topics[last].Topic == p.topic.name {
			topics[last].Partitions = all[len(all)-1-len(topics[last].Partitions):]
		} else {
			topics = append(topics, rawproduce.RequestTopic{Topic: p.topic.name, Partitions: all[len(all)-1:]})
		}
	}
	return topics
}

// read notes a broker's answers, which come in any order.
func (r *request) read(res *produce.Response) {
	for i := range res.Topics {
		t := &res.Topics[i]
		for j := range t.Partitions {
			at, is := slices.BinarySearchFunc(r.partitions, t.Partitions[j].Partition, func(p *partition, id int32) int {
				return cmp.Or(strings.Compare(p.topic.name, t.Topic), cmp.Compare(p.id, id))
			})
			if is && r.answers[at].verdict == unanswered {
				r.answers[at] = judge(&t.Partitions[j])
			}
		}
	}
}
