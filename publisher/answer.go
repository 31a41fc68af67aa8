package publisher

import (
	"context"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/produce"
)

// answer is what one attempt to send a batch came to.
type answer struct {
	verdict verdict
	err     error
	// doubt: the batch may be in the log although it was not acknowledged.
	doubt bool
	// stale: the broker says that our knowledge of the topic is old.
	stale bool
	// culprits are the places of the records that the broker named.
	culprits []int
}

type verdict int

const (
	unanswered verdict = iota
	acked
	again      // may succeed later: send the same batch again
	refusedAll // will not succeed, whatever is in the batch
	refusedOne // will not succeed because of some record in the batch
)

// judge reads a broker's answer for one partition.
// https://kafka.apache.org/protocol#protocol_error_codes
func judge(p *produce.ResponsePartition) answer {
	if p.ErrorCode == 0 {
		return answer{verdict: acked}
	}
	code := kafka.Error(p.ErrorCode)
	a := answer{err: describe(code, p.ErrorMessage)}
	switch code {
	case kafka.NotLeaderForPartition, kafka.LeaderNotAvailable, kafka.UnknownTopicOrPartition,
		kafka.BrokerNotAvailable, kafka.ReplicaNotAvailable, kafka.FencedLeaderEpoch,
		kafka.UnknownLeaderEpoch, kafka.UnknownTopicID, kafka.InconsistentTopicID, kafka.ListenerNotFound:
		a.verdict, a.stale = again, true
	case kafka.NotEnoughReplicas, kafka.InvalidMessage, kafka.ThrottlingQuotaExceeded:
		a.verdict = again
	case kafka.RequestTimedOut, kafka.NotEnoughReplicasAfterAppend, kafka.NetworkException, kafka.KafkaStorageError:
		a.verdict, a.doubt, a.stale = again, true, true
	case kafka.MessageSizeTooLarge, kafka.RecordListTooLarge:
		a.verdict = refusedOne
	case kafka.InvalidRecord, kafka.InvalidTimestamp:
		a.verdict = refusedOne
		for _, r := range p.RecordErrors {
			a.culprits = append(a.culprits, int(r.BatchIndex))
			if r.BatchIndexErrorMessage != "" {
				a.err = fmt.Errorf("%w: %s", code, r.BatchIndexErrorMessage)
			}
		}
	case kafka.Unknown:
		a.verdict, a.doubt = refusedAll, true
	default:
		a.verdict = refusedAll
		if code.Temporary() {
			a.verdict, a.doubt = again, true
		}
	}
	return a
}

// judgeError reads a failure to get an answer.
func judgeError(err error) answer {
	var unsent *unsentError
	sent := !errors.As(err, &unsent)
	if fatalConnection(err) || errors.Is(err, ErrClosed) {
		return answer{verdict: refusedAll, err: err, doubt: sent}
	}
	return answer{verdict: again, err: err, doubt: sent, stale: true}
}

// describe makes an error of a broker's code that tells the way out.
func describe(code kafka.Error, message string) error {
	switch code {
	case kafka.TopicAuthorizationFailed:
		return fmt.Errorf("%w to write the topic: %w: grant the user WRITE and DESCRIBE on it", ErrNotAuthorized, code)
	case kafka.ClusterAuthorizationFailed:
		return fmt.Errorf("%w: %w: grant the user the operation on the cluster", ErrNotAuthorized, code)
	case kafka.InvalidTopic:
		return fmt.Errorf("%w: %w", ErrInvalid, code)
	default:
	}
	if message != "" {
		return fmt.Errorf("%w: %s", code, message)
	}
	return code
}

// ended says that ctx ended, with the last failure before it, if any.
func ended(ctx context.Context, last error) error {
	if last == nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w, after: %w", context.Cause(ctx), last)
}

func heldBack(cause error) error {
	return fmt.Errorf("%w: %v", ErrHeldBack, cause) //nolint:errorlint // the cause is the earlier event's, not this one's
}
