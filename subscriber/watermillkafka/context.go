package watermillkafka

import (
	"context"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
)

// place is a context in which watermill-kafka's helpers find a message's
// partition, offset, timestamp and key.
type place struct {
	context.Context //nolint:containedctx // it is a context

	message *sarama.ConsumerMessage
}

// Value implements context.Context.
func (p *place) Value(key any) any {
	switch key {
	case keys.partition:
		return p.message.Partition
	case keys.offset:
		return p.message.Offset
	case keys.timestamp:
		return p.message.Timestamp
	case keys.key:
		return p.message.Key
	}
	return p.Context.Value(key)
}

// keys are those that the helpers ask a context for. They are not exported, but
// whoever is asked learns them.
var keys = func() (k struct{ partition, offset, timestamp, key any }) {
	var asked question
	kafka.MessagePartitionFromCtx(&asked)
	k.partition = asked.key
	kafka.MessagePartitionOffsetFromCtx(&asked)
	k.offset = asked.key
	kafka.MessageTimestampFromCtx(&asked)
	k.timestamp = asked.key
	kafka.MessageKeyFromCtx(&asked)
	k.key = asked.key
	return k
}()

// question is a context that remembers what it was asked for.
type question struct {
	context.Context //nolint:containedctx // it is a context

	key any
}

func (q *question) Value(key any) any {
	q.key = key
	return nil
}
