package subscriber

import (
	"errors"
	"fmt"
	"slices"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/internal/lanes"
)

// Fairness shares Limits.Running among tenants, within a partition and across
// partitions: of two that have messages to hand out, one of weight 3 starts three
// for each of the other's. A tenant that had none does not catch up later. No
// tenant has more than three quarters of the slots, so that one whose handlers
// hang leaves room. Tenants without unfinished messages are not remembered.
//
// A flood is read together with what lies behind it: a tenant counts for half of
// Limits.Pending and PartitionPending at most, a key for a quarter with or
// without Fairness, and a partition is read on within Limits.RunAhead and Bytes.
// Beyond those nobody can look: Kafka is read in its order, and what lies behind
// 100,000 messages of one tenant waits for them.
//
// The zero value takes all messages for one tenant's.
type Fairness struct {
	// By says whose a message is. It is called once for each message that is
	// read, by one goroutine at a time, and must be quick. "" is a tenant too.
	By func(event.KafkaRecord) string
	// Header names the header that says whose a message is, in place of By; of
	// one that stands twice the last counts. Messages without it belong to "".
	Header string
	// Weights of tenants, 1 to 1000; 1 for those that are not in it.
	Weights map[string]int
}

// maxWeight keeps the turns of the lightest within sight.
const maxWeight = 1000

func (f Fairness) validate() error {
	switch {
	case f.By != nil && f.Header != "":
		return fmt.Errorf("Fairness.Header is %q and Fairness.By is set too: use one of them", f.Header)
	case f.By == nil && f.Header == "" && len(f.Weights) > 0:
		return errors.New("Fairness.Weights is set without Fairness.By or Fairness.Header: say whose a message is")
	}
	for tenant, w := range f.Weights {
		if w < 1 || w > maxWeight {
			return fmt.Errorf("Fairness.Weights[%q] is %d: use 1 to %d", tenant, w, maxWeight)
		}
	}
	return nil
}

// shares is how the lanes are told; nil when all messages are one tenant's.
func (f Fairness) shares() *lanes.Fairness {
	if f.By == nil && f.Header == "" {
		return nil
	}
	return &lanes.Fairness{Weights: f.Weights}
}

func (f Fairness) tenant(r event.KafkaRecord) string {
	if f.By != nil {
		return f.By(r)
	}
	if f.Header == "" {
		return ""
	}
	for _, h := range slices.Backward(r.Headers) {
		if h.Key == f.Header {
			return string(h.Value)
		}
	}
	return ""
}
