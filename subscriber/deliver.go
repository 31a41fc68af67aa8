package subscriber

import (
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/internal/delivery"
	"github.com/tidings-bus/tidings/internal/lanes"
)

// deliver is one attempt at one message: it offers it to the reader of the
// channel and waits for its ack or nack.
func (s *subscription) deliver(it *lanes.Item[record]) lanes.Outcome {
	r := &it.Value
	if r.delivery == nil {
		r.delivery = newDelivery(r.kafka)
	}
	d := r.delivery
	d.Attempt, d.RetryIn = it.Attempt(), 0
	m := s.config.Unmarshal(d.Record)
	ctx := delivery.Start(s.values, d)
	defer ctx.Cancel()
	m.SetContext(ctx)

	select {
	case s.out <- m:
		it.Handed()
	case <-it.Recall():
		return lanes.Withdrawn()
	}

	select {
	case <-m.Acked():
		s.metrics.acked.Inc()
		return lanes.Finished()
	case <-m.Nacked():
		return s.nacked(d)
	case <-it.Canceled():
	}
	ctx.Cancel()
	select {
	case <-m.Acked(): // it was done all the same
		return lanes.Finished()
	case <-m.Nacked():
		return s.nacked(d)
	case <-it.Gone():
		return lanes.Withdrawn()
	}
}

func (s *subscription) nacked(d *delivery.Delivery) lanes.Outcome {
	s.metrics.nacked.Inc()
	if d.RetryIn > 0 {
		return lanes.RetryIn(d.RetryIn)
	}
	return lanes.RetryIn(s.config.RetryDelay(d.Attempt))
}

func newDelivery(r *kgo.Record) *delivery.Delivery {
	return &delivery.Delivery{
		Topic:     r.Topic,
		Partition: r.Partition,
		Offset:    r.Offset,
		Time:      r.Timestamp,
		Record:    event.KafkaRecord{Key: r.Key, Value: r.Value, Headers: headers(r.Headers)},
	}
}

// The two header types are the same but for their names; this does not compile
// when they are not.
var _ = event.KafkaHeader(kgo.RecordHeader{})

// headers saves copying the headers of every message.
func headers(h []kgo.RecordHeader) []event.KafkaHeader {
	return unsafe.Slice((*event.KafkaHeader)(unsafe.SliceData(h)), len(h)) //nolint:gosec // the line above keeps it sound
}
