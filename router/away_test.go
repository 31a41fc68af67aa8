package router

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/handlers/inbox"
)

func TestHeldEventsStayHeldWhileTheirDatabaseIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		asked := 0
		box := &memInbox{id: "db", answer: func(inbox.Admission) (inbox.Answer, error) {
			if asked++; asked == 1 {
				return inbox.Late, nil
			}
			return 0, inbox.ErrNotAdmitted
		}}
		g := newRig(t, Config{}, inTx("charge", box, &j)).start(t)
		d := at(1, placedRecord(t))
		g.sub.offer(d)
		require.Len(t, g.Held(), 1)
		for range 300 {
			time.Sleep(time.Second)
			g.sub.offer(d)
		}
		require.Greater(t, asked, 10)
		require.Len(t, g.Held(), 1, "it is held until it is applied")
		require.NotEmpty(t, g.Warnings(t.Context()))
		require.NoError(t, g.end())
	})
}

func TestLiveDoesNotBlameAHandlerThatWaitsForItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		box := &memInbox{id: "db", answer: func(inbox.Admission) (inbox.Answer, error) {
			time.Sleep(24 * time.Hour) // another member's session holds the key's row
			return inbox.Fresh, nil
		}}
		g := newRig(t, Config{}, inTx("charge", box, &j)).start(t)
		done := make(chan bool)
		d := at(1, placedRecord(t))
		go func() { done <- g.sub.offer(d) }()
		time.Sleep(23 * time.Hour)
		require.NoError(t, g.Live(t.Context()))
		require.True(t, <-done)
		require.NoError(t, g.end())
	})
}
