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
	effects, _ := p.effects(span{}, nil)
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
		ev.Services[0].Effects, _ = p.effects(span{}, nil)
		require.Equal(t, asked-1, audit(ev).Services[0].Doubled)
	}
	require.False(t, audit(ev).OK())

	now := time.Now()
	for _, c := range []struct {
		why       string
		restart   span
		noted     time.Time
		explained int
	}{
		{"asked for and noted while the broker was restarted", span{now.Add(-time.Minute), now}, now.Add(-time.Second), 1},
		{"asked for before and noted after", span{now, now.Add(time.Minute)}, now.Add(time.Hour), 1},
		{"noted before: a repeat has no excuse", span{now, now.Add(time.Minute)}, now.Add(-time.Second), 0},
		{"asked for after", span{now.Add(-2 * time.Minute), now.Add(-time.Minute)}, now, 0},
		{"no restart", span{}, now, 0},
	} {
		effects, explained := p.effects(c.restart, map[string]time.Time{e.ID().String(): c.noted})
		require.Equal(t, c.explained, explained, c.why)
		require.Len(t, effects, 2-explained, c.why)
	}
}
