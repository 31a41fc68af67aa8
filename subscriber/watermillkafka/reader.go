package watermillkafka

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
)

// reader reads all partitions without a group: for subscribers without a
// ConsumerGroup. Nothing is committed; a connection after the first goes on where
// the one before it was.
type reader struct {
	*subscription

	client   sarama.Client
	consumer sarama.Consumer
}

func newReader(s *subscription, client sarama.Client) (*reader, error) {
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		return nil, err
	}
	if t := s.config.Tracer; t != nil {
		consumer = t.WrapConsumer(consumer)
	}
	return &reader{subscription: s, client: client, consumer: consumer}, nil
}

// consume reads every partition until ctx ends or one of them ends by itself.
func (r *reader) consume(ctx context.Context) error {
	ids, err := r.consumer.Partitions(r.topic)
	if err != nil {
		return fmt.Errorf("look up the partitions: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wait sync.WaitGroup
	for _, id := range ids {
		in, err := r.start(id)
		if err != nil {
			cancel(fmt.Errorf("read partition %d: %w", id, err))
			break
		}
		wait.Go(func() {
			cancel(r.read(ctx, id, in))
		})
	}
	wait.Wait()
	if r.running.Err() != nil {
		return nil
	}
	return context.Cause(ctx)
}

// start begins where the last connection was, or where the configuration says.
func (r *reader) start(id int32) (sarama.PartitionConsumer, error) {
	r.mu.Lock()
	from, known := r.reached[id]
	r.mu.Unlock()
	if !known {
		from = r.config.OverwriteSaramaConfig.Consumer.Offsets.Initial
		if from == sarama.OffsetNewest { // and this stays it
			var err error
			if from, err = r.client.GetOffset(r.topic, id, sarama.OffsetNewest); err != nil {
				return nil, err
			}
			r.reach(id, from)
		}
	}
	in, err := r.consumer.ConsumePartition(r.topic, id, from)
	if known && errors.Is(err, sarama.ErrOffsetOutOfRange) {
		in, err = r.consumer.ConsumePartition(r.topic, id, sarama.OffsetOldest) // rather again than lost
	}
	if err == nil && r.config.Tracer != nil {
		in = r.config.Tracer.WrapPartitionConsumer(in)
	}
	return in, err
}

func (r *reader) reach(id int32, next int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reached[id] = next
}

// read feeds one partition's lanes, and drains them when ctx ends.
func (r *reader) read(ctx context.Context, id int32, in sarama.PartitionConsumer) error {
	p := r.open(id, -1)
	var errs sync.WaitGroup
	errs.Go(func() {
		for err := range in.Errors() {
			r.log.Error("Sarama internal error", err, watermill.LogFields{"partition": id})
		}
	})
	failed := r.feed(ctx.Done(), p, in.Messages())
	if failed == nil {
		failed = fmt.Errorf("partition %d ended", id)
	}
	in.AsyncClose()
	errs.Go(func() {
		for range in.Messages() { // what nobody takes
		}
	})
	r.drain(context.Background(), p, r.config.lanes.Drain) //nolint:contextcheck // ctx has ended
	if next, ok := p.lanes.Watermark(); ok {
		r.reach(id, next)
	}
	r.shut(map[int32]*partition{id: p})
	errs.Wait()
	return failed
}

func (*reader) commit() {}

func (*reader) joined() error { return nil }

func (r *reader) pause(partitions map[string][]int32)  { r.consumer.Pause(partitions) }
func (r *reader) resume(partitions map[string][]int32) { r.consumer.Resume(partitions) }

func (r *reader) close() {
	if err := errors.Join(r.consumer.Close(), r.client.Close()); err != nil {
		r.log.Error("Cannot close client", err, nil)
	}
}
