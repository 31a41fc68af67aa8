package main

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"syscall"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tidings-bus/tidings/event"
)

// routerOverhead is what an event costs this process from fetch to ack, outside
// the handler. Ours is all that the process allocates and computes while it
// reads a topic of a real broker by subscriber and router, from joining the group
// to the last of its events: fetching, unpacking, lanes, routing, acknowledging
// and commits. The peer is watermill's
// Router alone: messages that are made beforehand, uncounted, go through its
// channel to a handler, and their acks are awaited. Both handlers decode the
// payload, so that it is in neither figure that is left: the difference.
var routerOverhead = measure{
	name: "router-overhead",
	what: "subscriber and router read 400,000 events, a handler that only decodes, 1,000 lanes of one partition; peer: watermill's Router alone, fed from memory",
	parts: []part{
		{
			name: "router-overhead-allocs", unit: "allocations/event", goal: 12, less: true, by: byDifference,
			what: "allocations from fetch to ack outside the handler; peer: watermill's Router alone",
		},
		{
			name: "router-overhead-cpu", unit: "us/event", goal: 3, less: true, by: byDifference,
			what: "CPU time of this process from fetch to ack outside the handler; peer: watermill's Router alone",
		},
	},
	prepare: prepareOverhead,
}

func prepareOverhead(ctx context.Context, e *env) (sides, error) {
	const events = 400_000
	topic, brokers, err := load(ctx, e, "router-overhead", events)
	if err != nil {
		return sides{}, err
	}
	return sides{
		oursParts: func(ctx context.Context, _ time.Duration) ([]float64, error) {
			const patience = 2 * time.Minute
			c := newCount(events)
			var s spending
			runtime.GC() // what is left of the side before is not ours
			s.begin()
			err := consumeOurs(ctx, brokers, topic, lanes, c, patience, func(context.Context, event.Of[placed]) error {
				c.one()
				return nil
			})
			s.end()
			if n := c.n.Load(); err == nil && n != events {
				err = fmt.Errorf("%d of %d events were handled within %v", n, events, patience)
			}
			if err != nil {
				return nil, err
			}
			return s.per(c.n.Load())
		},
		peerParts: routerAlone,
	}, nil
}

// spending is what this process allocates and computes between begin and end,
// summed up over several such spans.
type spending struct {
	mallocs      uint64
	cpu          time.Duration
	mallocsBegun uint64
	cpuBegun     time.Duration
}

func (s *spending) begin() { s.mallocsBegun, s.cpuBegun = spent() }

func (s *spending) end() {
	mallocs, cpu := spent()
	s.mallocs += mallocs - s.mallocsBegun
	s.cpu += cpu - s.cpuBegun
}

// per is the cost of one of n events: allocations and microseconds.
func (s *spending) per(n int64) ([]float64, error) {
	if n == 0 {
		return nil, errNothing
	}
	return []float64{float64(s.mallocs) / float64(n), float64(s.cpu.Microseconds()) / float64(n)}, nil
}

// spent is what the process has spent since it began: objects allocated, and
// user and system time.
func spent() (mallocs uint64, cpu time.Duration) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return m.Mallocs, 0 // only a pointer that is wrong makes it fail
	}
	return m.Mallocs, time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// routerAlone runs watermill's Router on messages from memory.
func routerAlone(ctx context.Context, d time.Duration) ([]float64, error) {
	const batch = 10_000
	r, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		return nil, err
	}
	out := make(chan *message.Message)
	r.AddConsumerHandler("count", "memory", channel(out), func(m *message.Message) error {
		var p placed
		return json.Unmarshal(m.Payload, &p)
	})
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	<-r.Running()

	var s spending
	var n int64
	for counted := time.Duration(0); counted < d; {
		messages := make([]*message.Message, batch)
		for i := range messages {
			messages[i] = newMessage(i)
		}
		runtime.GC()
		begun := time.Now()
		s.begin()
		for _, m := range messages {
			out <- m
		}
		for _, m := range messages {
			<-m.Acked()
		}
		s.end()
		counted += time.Since(begun)
		n += batch
	}
	close(out)
	cancel()
	if err := <-ended; err != nil {
		return nil, err
	}
	return s.per(n)
}

// channel is a watermill subscriber whose messages come from elsewhere.
type channel chan *message.Message

// Subscribe implements message.Subscriber.
func (c channel) Subscribe(context.Context, string) (<-chan *message.Message, error) { return c, nil }

// Close implements message.Subscriber.
func (c channel) Close() error { return nil }
