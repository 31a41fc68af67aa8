package publisher

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/event"
)

func benchEvents(b *testing.B, n int) []event.Event {
	b.Helper()
	events := make([]event.Event, n)
	for i := range events {
		events[i] = ev(b, fmt.Sprintf("o-%d", i%500), strings.Repeat("x", 200))
	}
	return events
}

func BenchmarkPublishBatch(b *testing.B) {
	p := start(b, to(cluster(b)))
	events := benchEvents(b, 1000)
	ctx := b.Context()
	require.NoError(b, p.Publish(ctx, events...))
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Publish(ctx, events...); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkPublishMany(b *testing.B) {
	p := start(b, to(cluster(b)))
	events := benchEvents(b, 1000)
	ctx := b.Context()
	require.NoError(b, p.Publish(ctx, events...))
	b.ReportAllocs()
	b.SetParallelism(32)
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := p.Publish(ctx, events[n.Add(1)%1000]); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkPublishLone(b *testing.B) {
	c := cluster(b)
	p := start(b, to(c))
	e := benchEvents(b, 1)[0]
	ctx := b.Context()
	require.NoError(b, p.Publish(ctx, e))
	b.Run("publisher", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := p.Publish(ctx, e); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("raw kafka-go round trip", func(b *testing.B) {
		transport := &kafka.Transport{}
		defer transport.CloseIdleConnections()
		client := &kafka.Client{Addr: kafka.TCP(c.ListenAddrs()...), Transport: transport, Timeout: 10 * time.Second}
		r := event.ToKafka(e)
		headers := make([]kafka.Header, len(r.Headers))
		for i, h := range r.Headers {
			headers[i] = kafka.Header(h)
		}
		b.ReportAllocs()
		for b.Loop() {
			res, err := client.Produce(ctx, &kafka.ProduceRequest{
				Topic: "order", Partition: 0, RequiredAcks: kafka.RequireAll,
				Records: kafka.NewRecordReader(kafka.Record{Key: kafka.NewBytes(r.Key), Value: kafka.NewBytes(r.Value), Headers: headers}),
			})
			if err != nil || res.Error != nil {
				b.Fatal(err, res)
			}
		}
	})
}
