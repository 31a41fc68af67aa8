package kafkastore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

func TestI6LaterEventsGoBehindAParkedOneInEveryMember(t *testing.T) {
	c := newCluster(t)
	a, b := newMember(t, c), newMember(t, c)
	first := admission("o-1", "1")
	a.look(first, inbox.Fresh)
	a.park(first, failed("no"))
	second := admission("o-1", "2")
	b.look(second, inbox.Parked)
	b.park(second, behind)
	b.look(admission("o-2", "3"), inbox.Fresh)
	other := admission("o-1", "4")
	other.Handler.Name = "remind"
	b.look(other, inbox.Fresh)
	require.Equal(t, map[string][]string{"o-1": {"1", "2"}}, a.parked())
	answer, err := a.Park(t.Context(), admission("o-3", "5"), behind)
	require.NoError(t, err)
	require.Equal(t, inbox.Fresh, answer, "its key is not parked any more")
}

func TestARedeliveredParkedEventIsThereOnce(t *testing.T) {
	c := newCluster(t)
	a := newMember(t, c)
	e := admission("o-1", "1")
	a.park(e, failed("no"))
	a.stop() // killed before the offset was committed
	b := newMember(t, c)
	b.look(e, inbox.Parked)
	b.park(e, behind)
	b.park(e, failed("again"))
	require.Equal(t, map[string][]string{"o-1": {"1"}}, b.parked())
}

func TestALetterIsAllThatWasKnownOfTheEvent(t *testing.T) {
	c := newCluster(t)
	a := newMember(t, c)
	full := admission("o-1", "1")
	f := inbox.Failure{
		Cause: inbox.CausePanic, Error: "boom", Stack: "main.go:1", Attempts: 3,
		First: time.UnixMilli(1).UTC(), Last: time.UnixMilli(2).UTC(), Due: time.UnixMilli(3).UTC(),
	}
	a.park(full, f)
	keyless := admission("", "")
	keyless.Place.Key, keyless.Message = nil, &inbox.Message{Record: event.KafkaRecord{Key: nil, Value: nil}, Time: time.UnixMilli(4).UTC()}
	a.park(keyless, failed("no"))
	a.stop()

	b := newMember(t, c)
	letters := map[string]deadletter.Letter{}
	for _, l := range b.all() {
		letters[string(l.Place.Key)] = l
	}
	require.Len(t, letters, 2)
	l := letters["o-1"]
	require.Equal(t, full.Handler, l.Handler)
	require.Equal(t, full.Place, l.Place)
	require.Equal(t, full.EventID, l.EventID)
	require.Equal(t, []any{full.Type, full.Source, full.AggregateType, full.AggregateID, full.Sequence},
		[]any{l.Type, l.Source, l.AggregateType, l.AggregateID, l.Sequence})
	require.Equal(t, full.Message.Record, l.Record)
	require.Equal(t, full.Message.Time, l.Time)
	require.Equal(t, f, l.Failure)
	require.WithinDuration(t, time.Now(), l.Parked, time.Minute)
	require.Equal(t, keyless.Message.Record, letters[""].Record, "null stays null")
	require.Nil(t, letters[""].Place.Key)
	b.look(keyless, inbox.Parked)
	again := admission("", "")
	again.Place.Key = nil
	b.look(again, inbox.Fresh)
}

func TestARetryTakesOnlyTheHeadOut(t *testing.T) {
	c := newCluster(t)
	a, b := newMember(t, c), newMember(t, c)
	a.line("o-1", "1", "2", "3")
	all := a.all()
	a.look(retry(&all[1]), inbox.Gone)
	a.look(retry(&all[0]), inbox.Fresh)
	require.NoError(t, a.Record(t.Context(), retry(&all[0])))
	require.NoError(t, a.Record(t.Context(), retry(&all[0])), "recorded twice")
	b.look(retry(&all[0]), inbox.Gone)
	b.look(retry(&all[1]), inbox.Fresh)
	answer, err := b.Park(t.Context(), retry(&all[1]), inbox.Failure{Cause: inbox.CauseTimeout, Error: "late", Attempts: 6})
	require.NoError(t, err)
	require.Equal(t, inbox.Parked, answer)
	require.Equal(t, map[string][]string{"o-1": {"2", "3"}}, a.parked(), "it keeps its place")
	keys, err := a.Letters().Keys(t.Context(), deadletter.Filter{}, 0, 9)
	require.NoError(t, err)
	require.Equal(t, inbox.CauseTimeout, keys[0].Cause)
	require.Equal(t, 6, keys[0].Tries)
	answer, err = b.Park(t.Context(), retry(&all[0]), failed("no"))
	require.NoError(t, err)
	require.Equal(t, inbox.Gone, answer)
	require.NoError(t, a.Record(t.Context(), retry(&all[1])))
	require.NoError(t, a.Record(t.Context(), retry(&all[2])))
	b.look(admission("o-1", "4"), inbox.Fresh)
}
