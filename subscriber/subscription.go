package subscriber

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/groups"
	"github.com/tidings-bus/tidings/internal/delivery"
	"github.com/tidings-bus/tidings/internal/lanes"
)

// subscription is one Subscribe call: a member of the group with its own client.
type subscription struct {
	config  Config
	topic   string
	number  int // among the subscriber's subscriptions of this topic, from 1
	log     *slog.Logger
	metrics *meters
	health  health
	pause   pause
	group   groupReader
	values  context.Context //nolint:containedctx // what the messages' contexts derive from
	feeds   bool            // the reader takes messages from a feed, too

	client *kgo.Client
	lanes  *lanes.Set[record]
	out    chan *message.Message
	halted chan struct{} // closed by halt
	halt   func()
	done   chan struct{} // closed when all is over

	mu         sync.Mutex
	partitions map[int32]*partition
	leaving    map[int32]*partition // taken from partitions, not yet given up
	stopping   bool                 // no partition is opened any more
	room       chan struct{}        // a partition may be polled again
	pollable   bool
	asked      time.Time // for the ends of the log
	topicID    [16]byte  // zero while not known
	cutPoll    context.CancelFunc
	assigning  int // assignments that wait for the poll to end

	polling sync.Mutex // held from a poll until what it brought is fed; see betweenPolls

	// commits is held while offsets are on their way, and when partitions have
	// changed hands: nothing may be committed for one that is gone.
	commits sync.Mutex
	plain   bool // the broker takes no metadata of ours
}

// record is what a lane carries.
type record struct{ delivery *delivery.Delivery }

// partition is one assigned partition.
type partition struct {
	lanes     *lanes.Partition[record]
	committed int64     // what the group knows; -1: nothing
	note      string    // its metadata, as far as it is ours
	ahead     ahead     // what earlier owners had finished and we have not read yet
	epoch     int32     // the highest leader epoch of what was read
	end       int64     // the next offset of the log, as far as known
	full      bool      // the lanes want it paused
	paused    bool      // the client has it paused
	watermark int64     // when last looked at
	moved     time.Time // when that changed, or there was nothing to do

	lost chan struct{} // closed when it was lost while it was given up
	gone chan struct{} // closed when it is given up
}

func (p *partition) isLost() bool {
	select {
	case <-p.lost:
		return true
	default:
		return false
	}
}

const (
	pollRecords    = 1000            // at most this many exceed Limits.Pending
	commitTimeout  = 5 * time.Second // then the next commit tries
	lastCommit     = 8 * time.Second // for the commit after a drain, with its repetitions; within drainMargin
	commitRetry    = 100 * time.Millisecond
	cancelGrace    = time.Second      // for handlers to heed a cancelled context
	stallThreshold = 30 * time.Second // a paused partition that does not move is not ready
)

func newSubscription(ctx context.Context, config Config, m *meters, topic string, number int) *subscription {
	if config.Unmarshal == nil {
		config.Unmarshal = Unmarshal
		if delivery.IsWithoutMetadata(ctx) {
			config.Unmarshal = UnmarshalPayload
		}
	}
	s := &subscription{
		config:     config,
		topic:      topic,
		number:     number,
		log:        config.Logger.With("topic", topic, "group", config.Group),
		metrics:    m.of(config.Group, topic),
		values:     context.WithoutCancel(ctx),
		feeds:      delivery.IsWithFeed(ctx),
		out:        make(chan *message.Message),
		halted:     make(chan struct{}),
		done:       make(chan struct{}),
		partitions: map[int32]*partition{},
		leaving:    map[int32]*partition{},
		room:       make(chan struct{}, 1),
		pollable:   true,
	}
	l := config.Limits
	if delivery.IsWithBatches(ctx) {
		l.PartitionRunning = min(l.PartitionRunning, batchSlots)
	}
	s.lanes = lanes.New(lanes.Config[record]{
		Limits: lanes.Limits{
			Running: l.Running, PartitionRunning: l.PartitionRunning,
			Pending: l.Pending, PartitionPending: l.PartitionPending,
			RunAhead: l.RunAhead, Bytes: l.Bytes, PartitionBytes: l.PartitionBytes,
		},
		Work:   s.deliver,
		Offers: true,
		Place:  placeBytes,
		Fair:   config.Fairness.shares(),
	})
	s.group.reader = groups.Reader{Connection: config.Connection, Logger: s.log}
	s.halt = sync.OnceFunc(func() { close(s.halted) })
	return s
}

// start connects and begins to join. After an error nothing is left running.
func (s *subscription) start(ctx context.Context) error {
	s.heedPause()
	return s.connect(ctx)
}

// run reads until ctx ends or halt is called, and then winds everything up: the
// poll first, so that nothing new comes; then what runs, which is drained and
// committed; then the group; the output last, so that a successor is not kept waiting for it.
func (s *subscription) run(ctx context.Context) { //nolint:contextcheck // what it starts outlives ctx until it is wound up
	polling, stopPolling := context.WithCancel(context.Background())
	serving, stopServing := context.WithCancel(context.Background())
	var poll, serve sync.WaitGroup
	poll.Go(func() { s.poll(polling) })
	serve.Go(func() { s.followFlow(serving) })
	serve.Go(func() { s.keepCommitting(serving) })
	serve.Go(func() { s.followGroup(serving) })

	select {
	case <-ctx.Done():
	case <-s.halted:
	}
	s.log.Debug("subscriber stopping")
	stopPolling()
	poll.Wait()
	s.stop()  //nolint:contextcheck // ctx has ended
	s.leave() //nolint:contextcheck // ctx has ended
	stopServing()
	serve.Wait()
	s.client.Close()
	s.lanes.Close()
	s.metrics.paused.DeleteLabelValues(s.config.Group, s.topic)
	close(s.out)
	s.log.Debug("subscriber stopped")
}

// leave tells the group, unless the member is static. All partitions have been
// given up.
func (s *subscription) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), drainMargin)
	defer cancel()
	if err := s.client.LeaveGroupContext(ctx); err != nil {
		s.log.Warn("could not leave the group: its other members wait for the session to end",
			"session", s.config.Timings.Session, "error", err)
	}
}

// poll feeds the lanes. It never waits for a handler, so that rebalances are
// served at any time.
func (s *subscription) poll(ctx context.Context) {
	var entries []lanes.Entry[record]
	for ctx.Err() == nil {
		if !s.awaitRoom(ctx) {
			return
		}
		var ok bool
		if entries, ok = s.pollOnce(ctx, entries); !ok {
			return
		}
		s.regulate()
	}
}

// pollOnce polls and feeds what has come; assigned waits for it. False: it is over.
func (s *subscription) pollOnce(ctx context.Context, entries []lanes.Entry[record]) ([]lanes.Entry[record], bool) {
	s.polling.Lock()
	defer s.polling.Unlock()
	polling, cut := context.WithCancel(ctx)
	defer cut()
	s.mu.Lock()
	s.cutPoll = cut
	if s.assigning > 0 {
		cut()
	}
	s.mu.Unlock()
	fetches := s.client.PollRecords(polling, pollRecords)
	if fetches.IsClientClosed() || ctx.Err() != nil {
		return entries, false
	}
	fetches.EachError(s.fetchFailed)
	fetches.EachPartition(func(f kgo.FetchTopicPartition) { //nolint:contextcheck // what is started must be wound up whatever has ended
		entries = s.feed(f, entries[:0])
		clear(entries)
	})
	return entries, true
}

// betweenPolls calls f while nothing polled is on its way to the lanes.
//
// Rebalances do not wait for the poll, nor the poll for them: partitions that stay
// are read on while others are given up. So records of a partition may still be
// on their way when it is taken away, where they are dropped; if it came back in
// that moment, they would be fed to its new lanes, with a gap before them.
func (s *subscription) betweenPolls(f func()) {
	s.mu.Lock()
	s.assigning++
	cut := s.cutPoll
	s.mu.Unlock()
	if cut != nil {
		cut()
	}
	s.polling.Lock()
	f()
	s.polling.Unlock()
	s.mu.Lock()
	s.assigning--
	s.mu.Unlock()
}
