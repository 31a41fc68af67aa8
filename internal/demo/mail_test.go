package demo

import (
	"testing"
	"time"

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
	effects, _ := p.effects(span{})
	require.Len(t, effects, 400, "the repeats are noted too")
}

func TestALetterThatIsAskedForAgainIsAMismatch(t *testing.T) {
	p, err := startProvider(t.Context(), 7)
	require.NoError(t, err)
	t.Cleanup(p.close)
	m := newMailer(p.url())
	t.Cleanup(m.client.CloseIdleConnections)
	e, err := event.New(event.Draft{
		ID: uuid.Must(uuid.NewV7()), Type: typePlaced, Source: "/demo", Sequence: 1,
		Aggregate: event.Aggregate{Type: aggregateType, ID: "o-1"},
	})
	require.NoError(t, err)
	ev := evidence{
		Journal:  []journalRow{{ID: e.ID().String(), OrderID: "o-1", Sequence: 1, Type: typePlaced}},
		Log:      []logRecord{{e.ID().String(), "o-1", 0, 0}},
		Services: []serviceEvidence{{Name: mail, Types: []string{typePlaced}}},
	}
	for asked := 0; asked < 2; {
		if m.send(t.Context(), e, "hello") != nil {
			continue // as planned
		}
		asked++
		ev.Services[0].Effects, _ = p.effects(span{})
		require.Equal(t, asked-1, audit(ev).Services[0].Doubled)
	}
	require.False(t, audit(ev).OK())

	effects, explained := p.effects(span{time.Now().Add(-time.Minute), time.Now()})
	require.Len(t, effects, 1, "first asked for while the broker was restarted")
	require.Equal(t, 1, explained)
	effects, explained = p.effects(span{time.Now(), time.Now().Add(time.Minute)})
	require.Len(t, effects, 2, "first asked for before")
	require.Zero(t, explained)
}
