package publisher

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/metadata"
)

// topic is what the publisher knows of one topic: its partitions, by the count
// that is recorded for it, and their leaders.
type topic struct {
	pub     *Publisher
	name    string
	gate    chan struct{} // one at a time asks the brokers
	trouble trouble
	// drains hands out leave to look for the leaders while who holds the gate
	// waits for partitions to run empty.
	drains chan struct{}
	now    atomic.Pointer[layout]
	// batchBytes is MaxBatchBytes, or less where the topic was found to take less.
	batchBytes atomic.Int64
	// described is the partition count that the brokers last told.
	described atomic.Int64
	// unkeyed counts the bytes of records without a key.
	unkeyed atomic.Int64
}

// layout is a topic at one moment. It does not change, but for the partitions'
// leaders.
type layout struct {
	partitions []*partition
	indexes    []int // 0, 1, ...: what the balancer chooses from
	checked    time.Time
	refused    error // the topic may not be published to
}

const (
	// refusedAge is how long a refusal is repeated before the brokers are asked
	// again.
	refusedAge = time.Second
	// unkeyedRun is the bytes of records without a key that go to one partition
	// before the next has its turn, so that they share batches.
	unkeyedRun = 16 << 10
)

// missingPauses are the waits before a topic that seems to be missing is asked
// for again: a new topic is not known to every broker at once.
var missingPauses = []time.Duration{100 * time.Millisecond, 300 * time.Millisecond}

var byMurmur2 = kafka.Murmur2Balancer{Consistent: true}

func newTopic(p *Publisher, name string) *topic {
	t := &topic{pub: p, name: name, gate: make(chan struct{}, 1), drains: make(chan struct{})}
	t.batchBytes.Store(int64(p.config.MaxBatchBytes))
	return t
}

// choose returns the partition of a key: Java's murmur2, so that every client
// agrees; without a key one partition after the other.
func (l *layout) choose(t *topic, key []byte, size int) *partition {
	if len(l.partitions) == 1 {
		return l.partitions[0]
	}
	if key == nil {
		return l.partitions[int(t.unkeyed.Add(int64(size))/unkeyedRun)%len(l.partitions)]
	}
	return l.partitions[byMurmur2.Balance(kafka.Message{Key: key}, l.indexes...)]
}

// ready returns a layout no older than MetadataMaxAge, and waits for one until
// ctx ends.
func (t *topic) ready(ctx context.Context) (*layout, error) {
	if l := t.now.Load(); l != nil && l.refused == nil && time.Since(l.checked) < t.pub.config.MetadataMaxAge {
		return l, nil
	}
	if err := t.lock(ctx); err != nil {
		return nil, fmt.Errorf("topic %q: %w", t.name, err)
	}
	defer t.unlock()
	if l := t.now.Load(); l != nil {
		age := time.Since(l.checked)
		if l.refused == nil && age < t.pub.config.MetadataMaxAge {
			return l, nil
		}
		if l.refused != nil && age < refusedAge {
			return nil, l.refused
		}
	}
	var pause backoff
	missing := 0
	for {
		err := t.learn(ctx, true)
		t.trouble.note(ctx, err)
		if err == nil {
			l := t.now.Load()
			return l, l.refused
		}
		wait := pause.next()
		switch {
		case errors.Is(err, ErrUnknownTopic):
			if missing == len(missingPauses) {
				return nil, err
			}
			wait = missingPauses[missing]
			missing++
		case !temporary(err):
			return nil, err
		}
		if !sleep(ctx, t.pub.abort, wait) {
			if t.pub.aborted() {
				return nil, ErrClosed
			}
			return nil, t.trouble.ended(ctx)
		}
	}
}

// refresh asks for the leaders again unless that was done after since. It
// returns only errors that end p's batch: the topic or the partition is gone, or
// may not be used.
func (t *topic) refresh(p *partition, since time.Time) error {
	ctx, cancel := context.WithTimeout(t.pub.always, t.pub.config.RequestTimeout)
	defer cancel()
	ask := func() error { return t.learn(ctx, false) }
	select {
	case t.gate <- struct{}{}:
		defer t.unlock()
		if l := t.now.Load(); l != nil && l.checked.After(since) {
			return nil
		}
	case t.drains <- struct{}{}:
		ask = func() error { return t.follow(ctx) }
	case <-ctx.Done():
		return nil // the next attempt tells
	}
	for i := 0; ; i++ {
		err := ask()
		switch {
		case err == nil:
			return t.missing(p)
		case errors.Is(err, ErrUnknownTopic) && i < len(missingPauses):
			if !sleep(ctx, t.pub.abort, missingPauses[i]) {
				return nil
			}
		case errors.Is(err, ErrUnknownTopic), !temporary(err):
			return err
		default:
			return nil
		}
	}
}

// missing refuses what waits for a partition that the topic has no more.
func (t *topic) missing(p *partition) error {
	if count := int(t.described.Load()); int(p.id) >= count {
		return t.changed(len(t.now.Load().partitions), count)
	}
	return nil
}

// follow notes the leaders of the partitions that run empty.
func (t *topic) follow(ctx context.Context) error {
	res, described, err := t.describe(ctx)
	if err == nil {
		t.now.Load().lead(res, described)
	}
	return err
}

func (t *topic) describe(ctx context.Context) (*metadata.Response, *metadata.ResponseTopic, error) {
	res, err := t.pub.wire.metadata(ctx, []string{t.name})
	if err != nil {
		return nil, nil, err
	}
	described, err := describedTopic(res, t.name)
	if err != nil {
		return nil, nil, err
	}
	t.described.Store(int64(len(described.Partitions)))
	return res, described, nil
}

// learn asks the brokers once. With change it follows a partition count that was
// accepted, for which the old partitions must run empty; their own goroutines
// leave that to the next caller. The gate is held.
func (t *topic) learn(ctx context.Context, change bool) error {
	res, described, err := t.describe(ctx)
	if err != nil {
		return err
	}
	count := len(described.Partitions)
	old := t.now.Load()
	if old != nil && !change && count != len(old.partitions) {
		old.lead(res, described)
		t.now.Store(&layout{partitions: old.partitions, indexes: old.indexes, refused: old.refused}) // checked never
		return nil
	}
	recorded, adopted := count, false
	switch {
	case old != nil && old.refused == nil && count == len(old.partitions):
	case t.pub.ledger != nil:
		if recorded, adopted, err = t.pub.ledger.reconcile(ctx, t.name, count); err != nil {
			return fmt.Errorf("recorded partition count of topic %q: %w", t.name, err)
		}
	case old != nil:
		recorded = len(old.partitions)
	}
	if adopted {
		t.pub.config.Logger.InfoContext(ctx, "recorded the topic's partition count", "topic", t.name, "partitions", count)
		// Another may have grown the topic while the count was written.
		if res, described, err = t.describe(ctx); err != nil {
			return err
		}
		count = len(described.Partitions)
	}
	next := &layout{checked: time.Now()}
	if old != nil {
		next.partitions, next.indexes = old.partitions, old.indexes
	}
	if count != recorded {
		next.refused = t.changed(recorded, count)
		t.pub.config.Logger.ErrorContext(ctx, "the topic is refused", "topic", t.name, "err", next.refused)
	} else if old == nil || count != len(old.partitions) {
		if old != nil {
			old.lead(res, described)
			if err := t.drain(ctx, old); err != nil {
				return err
			}
		}
		next.partitions, next.indexes = t.partitions(count)
	}
	next.lead(res, described)
	t.now.Store(next)
	// Smaller batches are no rule for ever: the topic may take more by now.
	t.batchBytes.Store(int64(t.pub.config.MaxBatchBytes))
	return nil
}

// lead notes the partitions' leaders.
func (l *layout) lead(res *metadata.Response, described *metadata.ResponseTopic) {
	for _, d := range described.Partitions {
		if int(d.PartitionIndex) >= len(l.partitions) {
			continue
		}
		p := l.partitions[d.PartitionIndex]
		var leader *broker
		if address := leaderOf(res, d); address != nil {
			leader = p.pub.broker(*address)
		}
		p.leader.Store(leader)
	}
}

func (t *topic) partitions(n int) (ps []*partition, indexes []int) {
	ps, indexes = make([]*partition, n), make([]int, n)
	for i := range ps {
		ps[i], indexes[i] = newPartition(t, int32(i)), i
	}
	return ps, indexes
}

// drain waits for the records that were queued by the old count, which must be
// in the log before their keys go elsewhere (I2).
func (t *topic) drain(ctx context.Context, old *layout) error {
	var busy []<-chan struct{}
	for _, p := range old.partitions {
		if idle := p.retire(); idle != nil {
			busy = append(busy, idle)
		}
	}
	for len(busy) > 0 {
		select {
		case <-busy[0]:
			busy = busy[1:]
		case <-t.drains: // a partition looks for its leader
		case <-ctx.Done():
			return fmt.Errorf("topic %q: waiting for what was queued by the old partition count: %w", t.name, context.Cause(ctx))
		}
	}
	return nil
}

func (t *topic) changed(recorded, count int) error {
	way := "or, when every consumer group has read it to its end, record the new count with publisher.Topics.Accept"
	if t.pub.ledger == nil {
		way = "or, when every consumer group has read it to its end, start this process again"
	}
	return fmt.Errorf("topic %q has %d partitions, recorded are %d: %w: keys would move to other partitions, and later events overtake earlier ones: make the topic anew with %d partitions, %s",
		t.name, count, recorded, ErrPartitionsChanged, recorded, way)
}

func (t *topic) lock(ctx context.Context) error {
	select {
	case t.gate <- struct{}{}:
		return nil
	case <-ctx.Done():
		return t.trouble.ended(ctx)
	}
}

func (t *topic) unlock() { <-t.gate }

// describedTopic finds name in res, or says why it is not there.
func describedTopic(res *metadata.Response, name string) (*metadata.ResponseTopic, error) {
	for i := range res.Topics {
		d := &res.Topics[i]
		if d.Name != name {
			continue
		}
		switch code := kafka.Error(d.ErrorCode); {
		case d.ErrorCode == 0 && len(d.Partitions) > 0:
			return d, nil
		case d.ErrorCode == 0, code == kafka.UnknownTopicOrPartition, code == kafka.UnknownTopicID:
			return nil, fmt.Errorf("%w %q: create it with publisher.Topics or tidings topics create", ErrUnknownTopic, name)
		case code == kafka.TopicAuthorizationFailed:
			return nil, fmt.Errorf("%w to describe topic %q: %w: grant the user DESCRIBE and WRITE on it", ErrNotAuthorized, name, code)
		default:
			return nil, fmt.Errorf("topic %q: %w", name, describe(code, ""))
		}
	}
	return nil, fmt.Errorf("%w %q: the brokers do not speak of it: create it with publisher.Topics or tidings topics create", ErrUnknownTopic, name)
}

func leaderOf(res *metadata.Response, p metadata.ResponsePartition) *string {
	for _, b := range res.Brokers {
		if b.NodeID == p.LeaderID {
			a := brokerAddress(b)
			return &a
		}
	}
	return nil
}

// temporary tells a failure that may pass.
func temporary(err error) bool {
	if fatalConnection(err) || errors.Is(err, ErrClosed) || errors.Is(err, ErrNotAuthorized) || errors.Is(err, ErrInvalid) {
		return false
	}
	if code, is := errors.AsType[kafka.Error](err); is {
		return code.Temporary()
	}
	return true
}

// sleep waits for d; false when ctx or abort ended first.
func sleep(ctx context.Context, abort <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-abort:
	}
	return false
}

func hasLeaders(res *metadata.Response, name string) bool {
	d, err := describedTopic(res, name)
	if err != nil {
		return false
	}
	for _, p := range d.Partitions {
		if leaderOf(res, p) == nil {
			return false
		}
	}
	return true
}
