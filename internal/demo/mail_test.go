package demo

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/event"
)

func TestTheProviderFailsAtMostTwiceAndSendsOnce(t *testing.T) {
	p, err := startProvider(t.Context(), 7)
	require.NoError(t, err)
	t.Cleanup(p.close)
	m := newMailer(p.url())
	t.Cleanup(m.client.CloseIdleConnections)
	worst, failures := 0, 0
	for i := range 200 {
		e, err := event.New(event.Draft{
			ID: uuid.Must(uuid.NewV7()), Type: typePlaced, Source: "/demo", Sequence: int64(i + 1),
			Aggregate: event.Aggregate{Type: aggregateType, ID: "o-1"},
		})
		require.NoError(t, err)
		failed := 0
		for m.send(t.Context(), e, "hello") != nil {
			failed++
			require.LessOrEqual(t, failed, 2)
		}
		require.Equal(t, plannedFailures(7, "o-1", int64(i+1)), failed, "by seed")
		worst, failures = max(worst, failed), failures+failed
		require.NoError(t, m.send(t.Context(), e, "hello"), "asked again")
	}
	require.Equal(t, 2, worst)
	sent, failed, repeated := p.counts()
	require.Equal(t, []int{200, failures, 200}, []int{sent, failed, repeated})
	require.Len(t, p.effects(), 200)
}
