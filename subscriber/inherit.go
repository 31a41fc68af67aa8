package subscriber

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetched takes over what the partitions' last owners had finished above the
// offsets at which we begin. It comes between the assignment and the first
// records, with the very offsets that those begin at.
func (s *subscription) fetched(ctx context.Context, client *kgo.Client, resp *kmsg.OffsetFetchResponse) error {
	topic := s.identify(ctx, client)
	for _, g := range resp.Groups {
		for _, t := range g.Topics {
			if t.Topic != "" && t.Topic != s.topic {
				continue
			}
			for _, p := range t.Partitions {
				if p.ErrorCode == 0 && p.Offset >= 0 {
					s.inherit(place{topic: topic, partition: p.Partition, offset: p.Offset}, p.Metadata)
				}
			}
		}
	}
	return nil
}

func (s *subscription) inherit(at place, metadata *string) {
	text := ""
	if metadata != nil {
		text = *metadata
	}
	a, err := decodeAhead(text, at)
	if err != nil && (text != "" && !errors.Is(err, errForeign)) {
		s.log.Debug("the offset's metadata is passed over: what was finished above it is handed out again",
			"partition", at.partition, "offset", at.offset, "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.partitions[at.partition]
	if p == nil {
		return
	}
	p.committed, p.note, p.ahead, p.epoch = at.offset, "", ahead{epoch: -1}, -1
	if err == nil {
		p.note, p.ahead, p.epoch = text, a, a.epoch
		s.log.Debug("what was finished above the offset is not handed out again",
			"partition", at.partition, "offset", at.offset, "runs", len(a.runs))
	}
}

// identify returns the topic's ID; zero when no broker tells.
func (s *subscription) identify(ctx context.Context, client *kgo.Client) [16]byte {
	s.mu.Lock()
	id := s.topicID
	s.mu.Unlock()
	if id != ([16]byte{}) {
		return id
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	topics, err := kadm.NewClient(client).ListTopics(ctx, s.topic)
	if err != nil {
		return id
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.topicID = topics[s.topic].ID
	return s.topicID
}
