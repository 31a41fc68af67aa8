package demo

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/event"
)

// cluster is how the demo itself looks at Kafka, past the parts it shows.
type cluster struct {
	opts  []kgo.Opt
	cl    *kgo.Client
	admin *kadm.Client
	topic string
}

func openCluster(opts []kgo.Opt, topic string) (*cluster, error) {
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("connecting to Kafka: %w", err)
	}
	return &cluster{opts: opts, cl: cl, admin: kadm.NewClient(cl), topic: topic}, nil
}

func (c *cluster) close() { c.cl.Close() }

// lag returns how many records the groups have not finished, over all groups.
func (c *cluster) lag(ctx context.Context, groups []string) (int64, error) {
	ends, err := c.admin.ListEndOffsets(ctx, c.topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return 0, fmt.Errorf("asking for the end of topic %s: %w", c.topic, err)
	}
	var lag int64
	for _, g := range groups {
		committed, err := c.admin.FetchOffsets(ctx, g)
		if err == nil {
			err = committed.Error()
		}
		if err != nil {
			return 0, fmt.Errorf("asking for the offsets of group %s: %w", g, err)
		}
		ends.Each(func(end kadm.ListedOffset) {
			at := int64(0)
			if o, ok := committed.Lookup(end.Topic, end.Partition); ok && o.At > 0 {
				at = o.At
			}
			lag += max(0, end.Offset-at)
		})
	}
	return lag, nil
}

// held returns the ends of the partitions that a named member of the group has.
func (c *cluster) held(ctx context.Context, group, member string) (map[int32]int64, error) {
	described, err := c.admin.DescribeGroups(ctx, group)
	if err == nil {
		err = described.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("asking for the members of group %s: %w", group, err)
	}
	listed, err := c.admin.ListEndOffsets(ctx, c.topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("asking for the end of topic %s: %w", c.topic, err)
	}
	ends := map[int32]int64{}
	for _, m := range described[group].Members {
		assigned, ok := m.Assigned.AsConsumer()
		// A subscriber is in the group by its own name and its topic's.
		if !ok || m.InstanceID == nil || *m.InstanceID != member+"-"+c.topic {
			continue
		}
		for _, t := range assigned.Topics {
			for _, p := range t.Partitions {
				if end, ok := listed.Lookup(t.Topic, p); ok {
					ends[p] = end.Offset
				}
			}
		}
	}
	return ends, nil
}

// unfinished returns how many records before the ends the group has not finished.
func (c *cluster) unfinished(ctx context.Context, group string, ends map[int32]int64) (int64, error) {
	committed, err := c.admin.FetchOffsets(ctx, group)
	if err == nil {
		err = committed.Error()
	}
	if err != nil {
		return 0, fmt.Errorf("asking for the offsets of group %s: %w", group, err)
	}
	var left int64
	for p, end := range ends {
		at := int64(0)
		if o, ok := committed.Lookup(c.topic, p); ok && o.At > 0 {
			at = o.At
		}
		left += max(0, end-at)
	}
	return left, nil
}

// records reads the whole topic.
func (c *cluster) records(ctx context.Context) ([]logRecord, error) {
	ends, err := c.admin.ListEndOffsets(ctx, c.topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("asking for the end of topic %s: %w", c.topic, err)
	}
	want := int64(0)
	from := map[int32]kgo.Offset{}
	ends.Each(func(o kadm.ListedOffset) {
		want += o.Offset
		from[o.Partition] = kgo.NewOffset().AtStart()
	})
	cl, err := kgo.NewClient(append(append([]kgo.Opt(nil), c.opts...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{c.topic: from}))...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	log := make([]logRecord, 0, want)
	for int64(len(log)) < want {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("reading topic %s: %w", c.topic, err)
		}
		var bad error
		fetches.EachRecord(func(r *kgo.Record) {
			e, err := event.FromKafka(kafkaRecord(r))
			if err != nil {
				bad = errors.Join(bad, fmt.Errorf("topic %s partition %d offset %d: %w", r.Topic, r.Partition, r.Offset, err))
				return
			}
			log = append(log, logRecord{ID: e.ID().String(), Key: string(r.Key), Partition: r.Partition, Offset: r.Offset})
		})
		if bad != nil {
			return nil, bad
		}
	}
	return log, nil
}

func kafkaRecord(r *kgo.Record) event.KafkaRecord {
	k := event.KafkaRecord{Key: r.Key, Value: r.Value, Headers: make([]event.KafkaHeader, len(r.Headers))}
	for i, h := range r.Headers {
		k.Headers[i] = event.KafkaHeader(h)
	}
	return k
}

// remove deletes what the demo made on a cluster that is not its own. Static
// members do not leave by themselves when they stop; they are shown out.
func (c *cluster) remove(ctx context.Context, groups []string) error {
	described, err := c.admin.DescribeGroups(ctx, groups...)
	if err != nil {
		return fmt.Errorf("asking for the groups' members: %w", err)
	}
	var errs []error
	for _, g := range described.Sorted() {
		leave := kadm.LeaveGroup(g.Group)
		for _, m := range g.Members {
			if m.InstanceID != nil {
				leave.InstanceIDs(*m.InstanceID)
			}
		}
		left, err := c.admin.LeaveGroup(ctx, leave)
		if err == nil {
			err = left.Error()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("removing the members of group %s: %w", g.Group, err))
		}
		if _, err := c.admin.DeleteGroup(ctx, g.Group); err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
			errs = append(errs, fmt.Errorf("deleting group %s: %w", g.Group, err))
		}
	}
	if _, err := c.admin.DeleteTopic(ctx, c.topic); err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
		errs = append(errs, fmt.Errorf("deleting topic %s: %w", c.topic, err))
	}
	return errors.Join(errs...)
}
