package kafkastore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidings-bus/tidings/deadletter/internal/line"
	"github.com/tidings-bus/tidings/deadletter/internal/replica"
)

// The timestamps that ListOffsets takes for the ends of a log.
const (
	logEnd   = -1
	logStart = -2
)

// follow reads the topics from their start and follows them until ctx ends. When
// the log is no longer what was read (cut off, or lost), it reads it anew.
func (j *journal) follow(ctx context.Context) {
	for failed := 0; ; {
		began := time.Now()
		err := j.followOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if failed++; time.Since(began) > time.Minute {
			failed = 1
		}
		level := slog.LevelError
		if failed < 5 && errors.Is(err, kerr.UnknownTopicOrPartition) {
			level = slog.LevelDebug // it was made a moment ago: not every broker knows it yet
		}
		j.config.Logger.Log(ctx, level, "dead letters: reading their topics failed, they are read anew", "topic", j.config.Topic, "cause", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(min(30*time.Second, 200*time.Millisecond<<min(failed, 8))):
		}
	}
}

func (j *journal) followOnce(ctx context.Context) error {
	c := j.config
	at := kgo.NewOffset().AtStart()
	client, err := kgo.NewClient(append(connectionOptions(c),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{c.Topic: {0: at}, c.notes(): {0: at}}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), // what was missed cannot be skipped
		kgo.FetchIsolationLevel(kgo.ReadUncommitted()),
		kgo.FetchMaxPartitionBytes(maxRecord),
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), // partition 0
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(0),
		kgo.ProducerBatchMaxBytes(maxRecord),
		kgo.RecordDeliveryTimeout(c.Timeout+5*time.Second),
	)...)
	if err != nil {
		return fmt.Errorf("connect to %v: %w", c.Connection, err)
	}
	defer client.Close()

	beside, cancel := context.WithCancel(ctx)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer cancel()
	defer j.disconnect()

	start, err := j.offsets(ctx, client, logStart)
	if err != nil {
		return fmt.Errorf("ask for the start of the topics: %w", err)
	}
	end, err := j.offsets(ctx, client, logEnd)
	if err != nil {
		return fmt.Errorf("ask for the end of the topics: %w", err)
	}
	// What was read before stays in use until the new one is complete.
	f := &follower{journal: j, client: client, state: replica.NewState(), at: start}
	for !f.at.reached(end) {
		if err := f.poll(ctx); err != nil {
			return err
		}
	}
	j.state.Replace(f.state)
	f.state = j.state
	f.live = true
	j.connect(client, f.at)
	workers.Go(func() {
		j.ends.serve(beside, func(ctx context.Context) (places, error) { return j.offsets(ctx, client, logEnd) })
	})
	workers.Go(func() { j.repair(beside) })
	for {
		if err := f.poll(ctx); err != nil {
			return err
		}
		j.advance(f.at)
	}
}

func (j *journal) connect(client *kgo.Client, at places) {
	j.mu.Lock()
	j.client = client
	j.mu.Unlock()
	j.advance(at)
}

func (j *journal) disconnect() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.client = nil
}

// follower brings records to a state.
type follower struct {
	journal *journal
	client  *kgo.Client
	state   *replica.State
	at      places
	live    bool
}

// poll applies the next records. It returns an error when the log is not what it
// was; brokers that are away are waited for.
func (f *follower) poll(ctx context.Context) error {
	fetches := f.client.PollFetches(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var fatal error
	fetches.EachError(func(topic string, _ int32, err error) {
		var lost *kgo.ErrDataLoss
		switch {
		case errors.Is(err, kerr.OffsetOutOfRange), errors.As(err, &lost), errors.Is(err, kerr.UnknownTopicOrPartition),
			errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kgo.ErrClientClosed), errors.Is(err, kerr.TopicAuthorizationFailed):
			fatal = fmt.Errorf("read topic %q: %w", topic, err)
		default:
			f.journal.config.Logger.Warn("dead letters: reading their topic is held up", "topic", topic, "cause", err)
		}
	})
	if fatal != nil {
		return fatal
	}
	fetches.EachRecord(f.apply)
	return nil
}

func (f *follower) apply(r *kgo.Record) {
	c := f.journal.config
	if r.Topic == c.Topic {
		f.at.letters = r.Offset + 1
		change, err := decode(r)
		if err != nil {
			c.Logger.Error("dead letters: a record of their topic cannot be read, it is left out", "topic", r.Topic, "offset", r.Offset, "cause", err)
			f.tell(r, replica.Applied{})
			return
		}
		f.tell(r, f.state.Put(r.Offset, r.Timestamp, change))
		return
	}
	f.at.notes = r.Offset + 1
	var note line.Note
	if err := json.Unmarshal(r.Value, &note); err != nil { //nolint:musttag // fields of package deadletter go by their names
		c.Logger.Error("dead letters: a record of their log cannot be read, it is left out", "topic", r.Topic, "offset", r.Offset, "cause", err)
		f.tell(r, line.Granted{})
		return
	}
	f.tell(r, f.state.Note(r.Offset, r.Timestamp, note))
}

// tell tells writers in this process. Those of records that are read before the
// state is in use had another client, whose end has told them.
func (f *follower) tell(r *kgo.Record, result any) {
	if f.live {
		f.journal.told(r, result)
	}
}

// offsets asks for the starts or ends of both topics.
func (j *journal) offsets(ctx context.Context, client *kgo.Client, which int64) (at places, err error) {
	ctx, cancel := context.WithTimeout(ctx, j.config.Timeout)
	defer cancel()
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	for _, topic := range []string{j.config.Topic, j.config.notes()} {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp = 0, which
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic, t.Partitions = topic, []kmsg.ListOffsetsRequestTopicPartition{p}
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return at, err
	}
	seen := 0
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return at, fmt.Errorf("topic %q: %w", t.Topic, err)
			}
			seen++
			if t.Topic == j.config.Topic {
				at.letters = p.Offset
			} else {
				at.notes = p.Offset
			}
		}
	}
	if seen != 2 {
		return at, fmt.Errorf("%d of 2 topics answered", seen)
	}
	return at, nil
}

// repair writes what is true of letters whose last record says otherwise, as
// when two members parked one event. All members see it; who is first spares the
// others.
func (j *journal) repair(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(repairEvery/2 + rand.N(repairEvery)): //nolint:gosec // jitter is no secret
		}
		for _, c := range j.state.Stale() {
			if _, err := j.Put(ctx, c); err != nil {
				break // the next round
			}
		}
	}
}

// tooLarge: the event does not fit a record of the topic.
func tooLarge(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge)
}
