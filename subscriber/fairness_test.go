package subscriber_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/internal/delivery"
	"github.com/tidings-bus/tidings/subscriber"
)

// Nine messages of ten are one key's, and that stands: all others are finished
// all the same, though the key alone has many times what may be pending.
func TestOthersAreFinishedBesideAHotKeyThatStands(t *testing.T) {
	c := newCluster(t, 1, "orders")
	const total = 3000
	var records []*kgo.Record
	for i := range total {
		key := "hot"
		if i%10 == 9 {
			key = fmt.Sprintf("k%d", i)
		}
		records = append(records, &kgo.Record{Topic: "orders", Key: []byte(key), Value: fmt.Appendf(nil, "%d", i)})
	}
	require.NoError(t, c.client.ProduceSync(context.Background(), records...).FirstErr())
	config := c.config("billing")
	config.Limits = subscriber.Limits{Running: 10, Pending: 200, PartitionPending: 100, RunAhead: total + 1000}
	_, out := subscribe(t, config, "orders")
	hot := finishBut(t, out, total/10, 0)
	require.NoError(t, hot.Context().Err(), "the hot key has not moved")
	hot.Ack()
	for range total*9/10 - 1 {
		receive(t, out).Ack()
	}
	await(t, "all", func() bool { return c.committed("billing", "orders") == total })
}

// A tenant that floods makes the others wait for a message of its for each of
// theirs, by weight: not for the thousands before them.
func TestATenantsFloodDelaysTheOthersByTheirShareOnly(t *testing.T) {
	for name, fairness := range map[string]subscriber.Fairness{
		"header": {Header: "tenant"},
		"by":     {By: func(r event.KafkaRecord) string { return string(r.Headers[0].Value) }, Weights: map[string]int{"small": 2}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 2, "orders")
			const flood, small = 4000, 60
			var records []*kgo.Record
			for i := range flood + small {
				r := &kgo.Record{Topic: "orders", Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, "%d", i)}
				tenant := "flood"
				if i >= flood {
					tenant = "small"
				}
				r.Headers = []kgo.RecordHeader{{Key: "tenant", Value: []byte(tenant)}}
				records = append(records, r)
			}
			require.NoError(t, c.client.ProduceSync(context.Background(), records...).FirstErr())
			config := c.config("billing")
			config.Fairness = fairness
			config.Limits = subscriber.Limits{Running: 8, Pending: 500, PartitionPending: 200, RunAhead: flood + small + 1000}
			s, out := subscribe(t, config, "orders")
			await(t, "all is read", func() bool { return subscriber.PendingForTest(s) == flood+small })

			handled := map[string]int{}
			for handled["small"] < small {
				// A handler takes its time: one that takes none is served by the
				// worker that runs, while those of the others have not come to offer.
				time.Sleep(time.Millisecond)
				m := receive(t, out)
				handled[string(delivery.FromContext(m.Context()).Record.Headers[0].Value)]++
				m.Ack()
			}
			t.Logf("handled when the small tenant was through: %v", handled)
			most := small
			if fairness.Weights != nil {
				most = small / fairness.Weights["small"]
			}
			require.LessOrEqual(t, handled["flood"], most+3*config.Limits.Running)
			for handled["flood"] < flood {
				receive(t, out).Ack()
				handled["flood"]++
			}
			await(t, "all", func() bool { return c.committed("billing", "orders") == flood+small })
		})
	}
}

func TestFairnessThatCannotWorkIsRefused(t *testing.T) {
	by := func(event.KafkaRecord) string { return "" }
	for want, f := range map[string]subscriber.Fairness{
		`Fairness.Header is "tenant"`:      {By: by, Header: "tenant"},
		"Fairness.Weights is set without":  {Weights: map[string]int{"a": 1}},
		`Fairness.Weights["a"] is 0`:       {By: by, Weights: map[string]int{"a": 0}},
		`Fairness.Weights["a"] is 1000000`: {Header: "tenant", Weights: map[string]int{"a": 1_000_000}},
	} {
		config := newCluster(t, 1, "orders").config("billing")
		config.Fairness = f
		_, err := subscriber.New(config)
		require.ErrorContains(t, err, want)
	}
}
