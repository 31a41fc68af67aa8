package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	wmkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/segmentio/kafka-go"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/publisher"
)

const (
	perSecond         = "events/s"
	publishPartitions = 6
	publishKeys       = 1000
	sliceLength       = 1000
	callers           = 64
)

var publishBatch = measure{
	name: "publish-batch", unit: perSecond, goal: 20,
	what:    "one caller publishes slices of 1,000 events; peer: watermill-kafka's Publisher, acks=all",
	prepare: prepareBatch,
}

var publishMany = measure{
	name: "publish-many", unit: perSecond, goal: 1.5,
	what:    "64 callers publish one event each at a time; peer: watermill-kafka's Publisher, acks=all",
	prepare: prepareMany,
}

var publishLone = measure{
	name: "publish-lone", unit: "us", goal: 1.3, less: true,
	what:    "one caller publishes one event at a time, median latency; peer: a bare produce request by kafka-go",
	prepare: prepareLone,
}

// pair is both publishers on one topic.
type pair struct {
	topic   string
	brokers []string
	ours    *publisher.Publisher
	peer    *wmkafka.Publisher
}

func newPair(ctx context.Context, e *env, name string) (*pair, error) {
	topic, brokers, err := e.topic(ctx, name, publishPartitions)
	if err != nil {
		return nil, err
	}
	ours, err := publisher.New(publisher.Config{
		Connection: connection.Config{Brokers: brokers},
		TopicFor:   func(event.Event) string { return topic },
	})
	if err != nil {
		return nil, err
	}
	sc := wmkafka.DefaultSaramaSyncPublisherConfig()
	sc.Producer.RequiredAcks = sarama.WaitForAll
	peer, err := wmkafka.NewPublisher(wmkafka.PublisherConfig{
		Brokers: brokers,
		Marshaler: wmkafka.NewWithPartitioningMarshaler(func(_ string, m *message.Message) (string, error) {
			return m.Metadata.Get("key"), nil
		}),
		OverwriteSaramaConfig: sc,
	}, watermill.NopLogger{})
	if err != nil {
		return nil, join(err, ours.Close(ctx))
	}
	return &pair{topic: topic, brokers: brokers, ours: ours, peer: peer}, nil
}

func (p *pair) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_ = p.ours.Close(ctx)
	_ = p.peer.Close()
}

func prepareBatch(ctx context.Context, e *env) (sides, error) {
	p, err := newPair(ctx, e, "publish-batch")
	if err != nil {
		return sides{}, err
	}
	return sides{
		cleanup: func() { p.close(ctx) },
		ours: func(ctx context.Context, d time.Duration) (float64, error) {
			return rate(d, 1, func(n int) (int, error) {
				events := make([]event.Event, sliceLength)
				for i := range events {
					var err error
					if events[i], err = newEvent(n*sliceLength + i); err != nil {
						return 0, err
					}
				}
				return sliceLength, p.ours.Publish(ctx, events...)
			})
		},
		peer: func(_ context.Context, d time.Duration) (float64, error) {
			return rate(d, 1, func(n int) (int, error) {
				messages := make([]*message.Message, sliceLength)
				for i := range messages {
					messages[i] = newMessage(n*sliceLength + i)
				}
				return sliceLength, p.peer.Publish(p.topic, messages...)
			})
		},
	}, nil
}

func prepareMany(ctx context.Context, e *env) (sides, error) {
	p, err := newPair(ctx, e, "publish-many")
	if err != nil {
		return sides{}, err
	}
	return sides{
		cleanup: func() { p.close(ctx) },
		ours: func(ctx context.Context, d time.Duration) (float64, error) {
			return rate(d, callers, func(n int) (int, error) {
				ev, err := newEvent(n)
				if err != nil {
					return 0, err
				}
				return 1, p.ours.Publish(ctx, ev)
			})
		},
		peer: func(_ context.Context, d time.Duration) (float64, error) {
			return rate(d, callers, func(n int) (int, error) {
				return 1, p.peer.Publish(p.topic, newMessage(n))
			})
		},
	}, nil
}

func prepareLone(ctx context.Context, e *env) (sides, error) {
	p, err := newPair(ctx, e, "publish-lone")
	if err != nil {
		return sides{}, err
	}
	transport := &kafka.Transport{}
	raw := &kafka.Client{Addr: kafka.TCP(p.brokers...), Transport: transport}
	return sides{
		cleanup: func() { p.close(ctx); transport.CloseIdleConnections() },
		ours: func(ctx context.Context, d time.Duration) (float64, error) {
			return latency(d, func(n int) error {
				ev, err := newEvent(n)
				if err != nil {
					return err
				}
				return p.ours.Publish(ctx, ev)
			})
		},
		peer: func(ctx context.Context, d time.Duration) (float64, error) {
			return latency(d, func(n int) error { return rawProduce(ctx, raw, p.topic, n) })
		},
	}, nil
}

func rawProduce(ctx context.Context, client *kafka.Client, topic string, n int) error {
	ev, err := newEvent(n)
	if err != nil {
		return err
	}
	r := event.ToKafka(ev)
	headers := make([]kafka.Header, len(r.Headers))
	for i, h := range r.Headers {
		headers[i] = kafka.Header{Key: h.Key, Value: h.Value}
	}
	got, err := client.Produce(ctx, &kafka.ProduceRequest{
		Topic: topic, Partition: n % publishPartitions, RequiredAcks: kafka.RequireAll,
		Records: kafka.NewRecordReader(kafka.Record{Key: kafka.NewBytes(r.Key), Value: kafka.NewBytes(r.Value), Headers: headers}),
	})
	if err != nil {
		return err
	}
	return errors.Join(got.Error)
}

// rate counts what the callers get done in d; each call of do says how many events it was.
func rate(d time.Duration, callers int, do func(n int) (int, error)) (float64, error) {
	if _, err := do(0); err != nil { // the first call pays for connections
		return 0, fmt.Errorf("first call: %w", err)
	}
	var (
		next, done atomic.Int64
		wg         sync.WaitGroup
		mu         sync.Mutex
		failed     error
	)
	start := time.Now()
	for range callers {
		wg.Go(func() {
			for time.Since(start) < d {
				n, err := do(int(next.Add(1)))
				if err != nil {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
					return
				}
				done.Add(int64(n))
			}
		})
	}
	wg.Wait()
	return float64(done.Load()) / time.Since(start).Seconds(), failed
}

// latency returns the median of one call after another, in microseconds.
func latency(d time.Duration, do func(n int) error) (float64, error) {
	const warm = 200
	var took []time.Duration
	for n, start := 0, time.Now(); n < warm || time.Since(start) < d; n++ {
		t := time.Now()
		if err := do(n); err != nil {
			return 0, err
		}
		if n >= warm {
			took = append(took, time.Since(t))
		}
	}
	slices.Sort(took)
	return float64(took[len(took)/2].Nanoseconds()) / 1e3, nil
}
