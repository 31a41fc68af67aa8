package handlers_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// ledger is a Ledger with dead letters whose answers the test gives, in order.
type ledger struct {
	looks, parks []inbox.Answer
	recorded     int
}

func (*ledger) ID() string                     { return "db" }
func (*ledger) Check(context.Context) error    { return nil }
func (*ledger) Keep(ctx context.Context) error { <-ctx.Done(); return nil }

func (l *ledger) Look(context.Context, inbox.Admission) (a inbox.Answer, _ error) {
	a, l.looks = l.looks[0], l.looks[1:]
	return a, nil
}

func (l *ledger) Park(_ context.Context, a inbox.Admission, f inbox.Failure) (answer inbox.Answer, _ error) {
	if f.Cause != inbox.CauseBehind || a.Message == nil {
		return 0, errors.New("only what goes behind is parked here, with its message")
	}
	answer, l.parks = l.parks[0], l.parks[1:]
	return answer, nil
}

func (l *ledger) Record(context.Context, inbox.Admission) error { l.recorded++; return nil }

// A remembering plain handler puts an event behind what its key has parked; when
// the key was drained between the two, it starts again.
func TestAPlainHandlerGoesBehindWhatItsKeyHasParked(t *testing.T) {
	for name, c := range map[string]struct {
		box  ledger
		want inbox.Answer
		ran  int
	}{
		"behind":            {ledger{looks: []inbox.Answer{inbox.Parked}, parks: []inbox.Answer{inbox.Parked}}, inbox.Parked, 0},
		"applied meanwhile": {ledger{looks: []inbox.Answer{inbox.Parked}, parks: []inbox.Answer{inbox.Duplicate}}, inbox.Duplicate, 0},
		"drained meanwhile": {ledger{looks: []inbox.Answer{inbox.Parked, inbox.Fresh}, parks: []inbox.Answer{inbox.Fresh}}, inbox.Fresh, 1},
		"again and again": {
			ledger{looks: []inbox.Answer{inbox.Parked, inbox.Parked, inbox.Parked}, parks: []inbox.Answer{inbox.Fresh, inbox.Fresh, inbox.Parked}}, inbox.Parked, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			ran := 0
			b := bind(t, handlers.On("mail", func(context.Context, event.Of[orderPaid]) error { ran++; return nil }).Remember(&c.box))
			answer, err := b.Handle(t.Context(), call(t, 1))
			require.NoError(t, err)
			require.Equal(t, c.want, answer)
			require.Equal(t, c.ran, ran)
			require.Equal(t, c.ran, c.box.recorded)
			require.Empty(t, c.box.looks)
			require.Empty(t, c.box.parks)
		})
	}
}

// parked remembers the IDs of what it was given to park.
type parked struct {
	ledger

	ids []uuid.UUID
}

func (p *parked) Park(_ context.Context, a inbox.Admission, _ inbox.Failure) (inbox.Answer, error) {
	p.ids = append(p.ids, a.EventID)
	return inbox.Parked, nil
}

// I7: what cannot be read and has no place is not taken for another such message,
// which would be acknowledged as parked already, and lost.
func TestUnreadableMessagesOfUnknownPlaceAreToldApart(t *testing.T) {
	var box parked
	b := bind(t, handlers.On("mail", func(context.Context, event.Of[orderPaid]) error { return nil }).Remember(&box))
	park := func(value string) {
		record := event.KafkaRecord{Key: []byte("k"), Value: []byte(value)}
		c := handlers.Call{Place: inbox.Place{Topic: "orders", Partition: -1, Offset: -1, Key: record.Key}, Message: inbox.Message{Record: record}}
		answer, err := b.Park(t.Context(), c, inbox.Failure{Cause: inbox.CauseUndecodable})
		require.NoError(t, err)
		require.Equal(t, inbox.Parked, answer)
	}
	park("one")
	park("two")
	park("one") // redelivered
	require.NotEqual(t, box.ids[0], box.ids[1])
	require.Equal(t, box.ids[0], box.ids[2])
}

// unparkable is a Ledger without dead letters.
type unparkable struct{ inbox.Ledger }

// What says that a key has parked events, and cannot put one behind them, must
// not be believed to have done so.
func TestAnInboxWithoutDeadLettersParksNothing(t *testing.T) {
	b := bind(t, handlers.On("mail", func(context.Context, event.Of[orderPaid]) error { return nil }).Remember(unparkable{&ledger{looks: []inbox.Answer{inbox.Parked}}}))
	_, err := b.Handle(t.Context(), call(t, 1))
	require.ErrorIs(t, err, handlers.ErrNoParking)
	_, err = b.Park(t.Context(), call(t, 1), inbox.Failure{Cause: inbox.CauseError})
	require.ErrorIs(t, err, handlers.ErrNoParking)
	plain := bind(t, handlers.On("mail", func(context.Context, event.Of[orderPaid]) error { return nil }))
	_, err = plain.Park(t.Context(), call(t, 1), inbox.Failure{})
	require.ErrorIs(t, err, handlers.ErrNoParking)
	_, err = plain.Skip(t.Context(), call(t, 1))
	require.ErrorIs(t, err, handlers.ErrNoParking)
	require.Nil(t, plain.Letters())
}

// I4: an event that is none of the handler's is settled without an effect.
func TestASkippedEventIsKnownAfterwards(t *testing.T) {
	db, box := database(t)
	b := bind(t, handlers.InTx("charge", box, pay))
	c := call(t, 1)
	for _, want := range []inbox.Answer{inbox.Fresh, inbox.Duplicate} {
		answer, err := b.Skip(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, want, answer)
	}
	answer, err := b.Handle(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, inbox.Duplicate, answer)
	require.Zero(t, payments(t, db))
}

func TestAnAttemptKnowsWhatTheOneBeforeEndedWith(t *testing.T) {
	before := errors.New("card declined")
	var seen []error
	b := bind(t, handlers.On("mail", func(ctx context.Context, _ event.Of[orderPaid]) error {
		seen = append(seen, handlers.LastError(ctx))
		return nil
	}))
	c := call(t, 1)
	for _, c.LastError = range []error{nil, before} {
		_, err := b.Handle(t.Context(), c)
		require.NoError(t, err)
	}
	require.Equal(t, []error{nil, before}, seen)
	require.NoError(t, handlers.LastError(t.Context()))
}

func TestPatienceBoundsTheTimeOfAllTries(t *testing.T) {
	b := bind(t, handlers.On("mail", func(context.Context, event.Of[orderPaid]) error { return nil }).With(handlers.Settings{
		Tries: 100, MinBackoff: time.Second, MaxBackoff: time.Second, Patience: 10 * time.Second,
	}))
	_, spent := b.Delay(5, 8*time.Second)
	require.False(t, spent)
	_, spent = b.Delay(5, 9500*time.Millisecond)
	require.True(t, spent)
	require.Equal(t, 10*time.Second, b.Patience())
}
