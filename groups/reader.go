package groups

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/internal/kafka"
)

// Reader keeps up with the control topic for a member of a group. It holds no
// connection of its own between two changes. Not for use by several goroutines.
type Reader struct {
	Connection connection.Config
	Logger     *slog.Logger

	id     [16]byte // of the topic
	next   int64    // the offset to read next
	states map[string]State
}

// readTimeout bounds the reading of what is new: it is a few hundred bytes for
// each group that was ever paused.
const readTimeout = 10 * time.Second

// State is what was last said about group; the zero State if nothing was.
func (r *Reader) State(group string) State {
	s := r.states[group]
	s.Group = group
	return s
}

// Refresh reads what was said since the last time. It asks for the end of the
// topic by client, and reads by a client of its own if that has moved. After an
// error what was known before stands.
func (r *Reader) Refresh(ctx context.Context, client *kgo.Client) error {
	leader, id, err := locate(ctx, client)
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		r.forget() // never made, or deleted: nobody is paused
		return nil
	}
	if err != nil {
		return forbidden(err, "DESCRIBE")
	}
	end, err := listEnd(ctx, client.Broker(int(leader)))
	if err != nil {
		return forbidden(err, "READ")
	}
	if id != r.id || end < r.next { // made anew
		r.forget()
		r.id = id
	}
	if end == r.next {
		return nil
	}
	return r.read(ctx, end)
}

func (r *Reader) forget() {
	r.id, r.next, r.states = [16]byte{}, 0, nil
}

// locate asks for the topic anew: what the client remembers of it may be old.
func locate(ctx context.Context, client *kgo.Client) (leader int32, id [16]byte, err error) {
	req := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = new(Topic)
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return 0, id, err
	}
	for _, t := range resp.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return 0, id, err
		}
		for _, p := range t.Partitions {
			if p.Partition == 0 {
				return p.Leader, t.TopicID, kerr.ErrorForCode(p.ErrorCode)
			}
		}
	}
	return 0, id, kerr.UnknownTopicOrPartition
}

func listEnd(ctx context.Context, leader *kgo.Broker) (int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	topic := kmsg.NewListOffsetsRequestTopic()
	topic.Topic = Topic
	partition := kmsg.NewListOffsetsRequestTopicPartition()
	partition.Timestamp = -1 // the end
	topic.Partitions = append(topic.Partitions, partition)
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, leader)
	if err != nil {
		return 0, err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			return p.Offset, kerr.ErrorForCode(p.ErrorCode)
		}
	}
	return 0, kerr.UnknownTopicOrPartition
}

// read takes in what is below end.
func (r *Reader) read(ctx context.Context, end int64) error {
	from := kgo.NewOffset().AtStart()
	if r.next > 0 {
		from = kgo.NewOffset().At(r.next)
	}
	client, err := kgo.NewClient(append(kafka.Options(r.Connection, r.Logger),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{Topic: {0: from}}),
		kgo.FetchMaxWait(500*time.Millisecond))...)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	for r.next < end {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return forbidden(fmt.Errorf("read topic %q: %w", Topic, err), "READ")
		}
		fetches.EachRecord(r.apply)
	}
	return nil
}

// apply takes one record in. What is no state of a group changes nothing.
func (r *Reader) apply(record *kgo.Record) {
	r.next = record.Offset + 1
	group := string(record.Key)
	if record.Value == nil {
		delete(r.states, group)
		return
	}
	var s State
	if err := json.Unmarshal(record.Value, &s); err != nil || group == "" {
		r.Logger.Warn("the control topic has a record that says nothing about a group", "topic", Topic, "offset", record.Offset, "cause", err)
		return
	}
	s.Group = group
	if r.states == nil {
		r.states = map[string]State{}
	}
	r.states[group] = s
}
