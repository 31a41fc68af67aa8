package watermillkafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tidings-bus/tidings/internal/delivery"
	"github.com/tidings-bus/tidings/internal/lanes"
)

// subscription is one Subscribe call: its lanes stay, its connections come and go.
type subscription struct {
	config config
	topic  string
	log    watermill.LoggerAdapter
	values context.Context //nolint:containedctx // what the messages' contexts derive from
	ours   bool            // the Unmarshaler is our Marshaler: it reads what the router reads
	feeds  bool            // the reader takes messages from a feed, too
	lean   bool            // the reader does not look at metadata

	lanes   *lanes.Set[record]
	out     chan *message.Message
	running context.Context //nolint:containedctx // ends by Subscribe's context, or by halt
	halt    context.CancelFunc
	done    chan struct{} // closed when all is over

	mu         sync.Mutex
	source     source // nil: not connected
	failed     error  // why not
	partitions map[int32]*partition
	reached    map[int32]int64 // without a group: where to go on

	// commits is held while offsets are on their way: nothing may be committed for
	// a partition that is gone.
	commits sync.Mutex
}

// source is a connection that brings messages to the lanes.
type source interface {
	// consume returns an error when the connection failed, or nil when ctx has
	// ended. Either way every partition was given up in good order.
	consume(ctx context.Context) error
	// commit stores what is finished.
	commit()
	// joined tells what is missing until messages can come.
	joined() error
	pause(partitions map[string][]int32)
	resume(partitions map[string][]int32)
	close()
}

// partition is one that we read.
type partition struct {
	lanes     *lanes.Partition[record]
	start     int64 // where we began when the group had no offset; -1: it had
	committed int64 // what the group knows; -1: nothing from us
	paused    bool
	watermark int64     // when last looked at
	moved     time.Time // when that changed, or there was nothing to do
}

const (
	feedBatch      = 64                    // messages added to lanes at once, at most
	cancelGrace    = time.Second           // for handlers to heed a cancelled context
	eagerCommit    = 10 * time.Millisecond // between commits without sarama's auto-commit
	stallThreshold = 30 * time.Second      // a paused partition that does not move is not ready
)

func newSubscription(ctx context.Context, c config, logger watermill.LoggerAdapter, topic string) *subscription {
	s := &subscription{
		config:     c,
		topic:      topic,
		log:        logger.With(watermill.LogFields{"topic": topic, "consumer_group": c.ConsumerGroup}),
		values:     context.WithoutCancel(ctx),
		out:        make(chan *message.Message),
		done:       make(chan struct{}),
		partitions: map[int32]*partition{},
		reached:    map[int32]int64{},
	}
	switch c.Unmarshaler.(type) {
	case Marshaler, *Marshaler:
		s.ours = true
	}
	// What follows by the feed goes past the Unmarshaler.
	s.feeds = s.ours && delivery.IsWithFeed(ctx)
	s.lean = s.ours && delivery.IsWithoutMetadata(ctx)
	s.running, s.halt = context.WithCancel(ctx)
	l := c.lanes
	s.lanes = lanes.New(lanes.Config[record]{
		Limits: lanes.Limits{
			Running: l.Running, PartitionRunning: l.PartitionRunning,
			Pending: l.Pending, PartitionPending: l.PartitionPending,
			RunAhead: l.RunAhead, Bytes: l.Bytes, PartitionBytes: l.PartitionBytes,
		},
		Work:   s.deliver,
		Offers: true,
		Place:  placeBytes,
		Fair:   l.shares(),
	})
	return s
}

// connect makes a client, as a member of the group or on its own.
func (s *subscription) connect() (source, error) {
	client, err := sarama.NewClient(s.config.Brokers, s.config.OverwriteSaramaConfig)
	if err != nil {
		return nil, err
	}
	var src source
	if s.config.ConsumerGroup == "" {
		src, err = newReader(s, client)
	} else {
		src, err = newMember(s, client)
	}
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return src, nil
}

// run reads until Subscribe's context ends or halt is called, connecting anew
// when a connection fails, and then winds everything up: what runs, which is
// drained and committed; then the group; the output last.
func (s *subscription) run(src source) {
	serving, stop := context.WithCancel(context.Background())
	var serve sync.WaitGroup
	serve.Go(func() { s.followFlow(serving) })
	serve.Go(func() { s.keepCommitting(serving) })
	for src != nil {
		s.use(src, nil)
		err := src.consume(s.running)
		s.use(nil, err)
		src.close()
		src = s.reconnect(err)
	}
	stop()
	serve.Wait()
	s.halt()
	s.lanes.Close()
	close(s.out)
}

// use says which connection there is, or why there is none.
func (s *subscription) use(src source, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.source, s.failed = src, why
}

// reconnect tries every ReconnectRetrySleep. It returns nil when the subscription
// has ended.
func (s *subscription) reconnect(why error) source {
	for {
		if s.running.Err() != nil {
			return nil
		}
		s.log.Error("Not connected, trying again", why, watermill.LogFields{"in": s.config.ReconnectRetrySleep.String()})
		if s.config.ReconnectRetrySleep != kafka.NoSleep {
			t := time.NewTimer(s.config.ReconnectRetrySleep)
			select {
			case <-t.C:
			case <-s.running.Done():
				t.Stop()
				return nil
			}
		}
		var src source
		if src, why = s.connect(); why == nil {
			return src
		}
		s.use(nil, why)
	}
}

// open begins to schedule a partition.
func (s *subscription) open(id int32, start int64) *partition {
	p := &partition{lanes: s.lanes.Open(id), start: start, committed: -1, watermark: -1, moved: time.Now()}
	s.mu.Lock()
	s.partitions[id] = p
	s.mu.Unlock()
	return p
}

// shut forgets partitions.
func (s *subscription) shut(parts map[int32]*partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, p := range parts {
		p.lanes.Close()
		if s.partitions[id] == p {
			delete(s.partitions, id)
		}
	}
}

// feed adds messages to a partition's lanes until done or the end of the channel.
// It never waits for a handler: a partition that is full is paused, and what is
// on its way to it all the same is little.
func (s *subscription) feed(done <-chan struct{}, p *partition, in <-chan *sarama.ConsumerMessage) error {
	read := make([]*sarama.ConsumerMessage, 0, feedBatch)
	entries := make([]lanes.Entry[record], 0, feedBatch)
	for open := true; open; {
		select {
		case <-done:
			return nil
		case m, ok := <-in:
			if !ok {
				return nil
			}
			read = append(read, m)
		}
		for more := true; more && len(read) < feedBatch; {
			select {
			case m, ok := <-in:
				if more, open = ok, ok; ok {
					read = append(read, m)
				}
			default:
				more = false
			}
		}
		for rest := read; len(rest) > 0; {
			c := copyFirst(rest)
			for i := range c.messages {
				m := &c.messages[i]
				entries = append(entries, lanes.Entry[record]{
					Offset: m.Offset, Key: m.Key, Size: messageBytes, Room: c.room, Tenant: s.tenant(m), Value: record{kafka: m},
				})
			}
			rest = rest[len(c.messages):]
		}
		if err := p.lanes.Add(entries...); err != nil {
			// What is held under the old offsets may be other messages now.
			return fmt.Errorf("the log of partition %d went back, its leader changed uncleanly: reading anew: %w", p.lanes.ID(), err)
		}
		s.regulate() // at once, before much more is fetched
		clear(entries)
		clear(read)
		entries, read = entries[:0], read[:0]
	}
	return nil
}

// tenant says whose a message is.
func (s *subscription) tenant(m *sarama.ConsumerMessage) string {
	if s.config.lanes.Tenant == nil {
		return ""
	}
	return s.config.lanes.Tenant(m)
}

// drain finishes what has started on p, within patience and for as long as the
// partition is ours; what is not done by then is cancelled. False: something was.
func (s *subscription) drain(owned context.Context, p *partition, patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(owned, patience)
	defer cancel()
	if p.lanes.Drain(ctx, min(s.config.lanes.DrainRetry, patience)) {
		return true
	}
	p.lanes.Cancel()
	grace, cancel := context.WithTimeout(context.Background(), cancelGrace)
	defer cancel()
	if !p.lanes.Idle(grace) { //nolint:contextcheck // the other one has ended
		s.log.Error("A handler ignores its cancelled context: its message may be handled again beside it",
			context.Cause(ctx), watermill.LogFields{"partition": p.lanes.ID()})
	}
	return false
}

// keepCommitting commits what is finished at the set interval, and looks whether
// partitions move.
func (s *subscription) keepCommitting(ctx context.Context) {
	interval := s.config.interval
	if interval == 0 {
		interval = eagerCommit
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		src := s.source
		s.mu.Unlock()
		if src != nil {
			src.commit()
		}
		s.observe()
	}
}
