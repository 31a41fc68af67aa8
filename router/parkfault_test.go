package router

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// memParker is an inbox with dead letters whose answers the test gives.
type memParker struct {
	memInbox

	park   func(a inbox.Admission, f inbox.Failure) (inbox.Answer, error)
	wishes []inbox.Failure
}

func (b *memParker) Park(_ context.Context, a inbox.Admission, f inbox.Failure) (inbox.Answer, error) {
	b.wishes = append(b.wishes, f)
	return b.park(a, f)
}

func fresh(inbox.Admission) (inbox.Answer, error) { return inbox.Fresh, nil }

// parking is a handler that fails, over dead letters whose answers the test gives.
func parking(box *memParker, tried *int, err func(n int) error) handlers.Handler {
	box.id = "db"
	if box.answer == nil {
		box.answer = fresh
	}
	return handlers.InTx("charge", box, func(context.Context, struct{}, event.Of[placed]) error {
		*tried++
		return err(*tried)
	}).With(handlers.Settings{MinBackoff: time.Second, MaxBackoff: time.Second, Tries: 3})
}

func always(err error) func(int) error { return func(int) error { return err } }

// away answers err so many times, then Parked.
func away(times int, err error) func(inbox.Admission, inbox.Failure) (inbox.Answer, error) {
	return func(inbox.Admission, inbox.Failure) (inbox.Answer, error) {
		if times--; times >= 0 {
			return 0, err
		}
		return inbox.Parked, nil
	}
}

// Parking is tried again by itself; the handler is not.
func TestParkingIsTriedAgainWhenItsDatabaseIsAway(t *testing.T) {
	for name, err := range map[string]error{
		"away":      errors.Join(errors.New("connection refused"), inbox.ErrNotAdmitted),
		"in doubt":  errors.Join(errors.New("connection reset"), inbox.ErrCommitUnknown),
		"a mystery": errors.New("disk is full"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tried := 0
				box := &memParker{park: away(20, err)}
				g := newRig(t, Config{}, parking(box, &tried, always(errDeclined))).start(t)
				g.sub.untilAcked(t, at(1, placedRecord(t)))
				require.Equal(t, 3, tried)
				require.Len(t, box.wishes, 21)
				for _, f := range box.wishes {
					require.Equal(t, box.wishes[0], f, "what is written is what happened, however late")
				}
				require.Equal(t, 3, box.wishes[0].Attempts)
				require.InDelta(t, 1, g.counter(t, "charge", outcomeParked), 0)
				require.NotEmpty(t, g.logs.lines(slog.LevelWarn))
				require.NoError(t, g.end())
			})
		})
	}
}

func TestAnEventThatAnotherMemberAppliedMeanwhileIsNotParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tried := 0
		box := &memParker{park: func(inbox.Admission, inbox.Failure) (inbox.Answer, error) { return inbox.Duplicate, nil }}
		g := newRig(t, Config{}, parking(box, &tried, always(handlers.Reject(errDeclined)))).start(t)
		require.True(t, g.sub.offer(at(1, placedRecord(t))))
		require.InDelta(t, 1, g.counter(t, "charge", outcomeDuplicate), 0)
		require.Zero(t, g.counter(t, "charge", outcomeParked))
		require.NoError(t, g.end())
	})
}

// A long delay that finds the dead letters full does not run the handler before
// its time, and a full store costs no tries.
func TestFullDeadLettersNeitherDropNorHasten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tried := 0
		began := time.Now()
		var ran []time.Duration
		box := &memParker{park: away(1000, inbox.ErrFull)}
		g := newRig(t, Config{}, parking(box, &tried, func(n int) error {
			ran = append(ran, time.Since(began))
			if n == 1 {
				return handlers.RetryAfter(10 * time.Minute)
			}
			return nil
		})).start(t)
		g.sub.untilAcked(t, at(1, placedRecord(t)))
		require.Len(t, ran, 2)
		require.GreaterOrEqual(t, ran[1], 10*time.Minute)
		require.Less(t, ran[1], 12*time.Minute)
		require.Greater(t, len(box.wishes), 5, "it is asked again whether there is room")
		require.Empty(t, g.Held())
		require.NoError(t, g.end())
	})
}

func TestAnEventBehindAFullKeyIsNoTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tried, asked := 0, 0
		box := &memParker{park: away(0, nil)}
		box.answer = func(a inbox.Admission) (inbox.Answer, error) {
			require.Equal(t, 1, a.Attempt)
			if asked++; asked <= 10 {
				return 0, inbox.ErrFull
			}
			return inbox.Parked, nil
		}
		g := newRig(t, Config{}, parking(box, &tried, always(nil))).start(t)
		g.sub.untilAcked(t, at(1, placedRecord(t)))
		require.Zero(t, tried)
		require.Empty(t, box.wishes)
		require.InDelta(t, 1, g.counter(t, "charge", outcomeParkedBehind), 0)
		require.InDelta(t, 10, testutil.ToFloat64(g.met.retries.WithLabelValues("charge", "dead_letters_full")), 0)
		require.Zero(t, testutil.ToFloat64(g.met.full.WithLabelValues("charge")))
		require.NoError(t, g.end())
	})
}

// What is written of a failure is text that every database takes, within a bound.
func TestWhatIsWrittenOfAFailureIsTidied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tried := 0
		box := &memParker{park: away(0, nil)}
		long := make([]byte, 10_000)
		for i := range long {
			long[i] = "\xc3\xa4"[i%2]
		}
		g := newRig(t, Config{}, parking(box, &tried, always(handlers.Reject(errors.New("\x00\xff"+string(long)))))).start(t)
		require.True(t, g.sub.offer(at(1, placedRecord(t))))
		text := box.wishes[0].Error
		require.Contains(t, text, "rejected: \uFFFD\uFFFDä")
		require.LessOrEqual(t, len(text), maxError+3)
		require.NoError(t, g.end())
	})
}

// I6: a failing event parks when its partition is given up in the middle of it by
// nobody: the try is cut short.
func TestParkingThatIsCutShortHasNotHappened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tried := 0
		partition, lose := context.WithCancel(t.Context())
		box := &memParker{park: func(inbox.Admission, inbox.Failure) (inbox.Answer, error) {
			lose()
			return 0, errors.Join(context.Canceled, inbox.ErrNotAdmitted)
		}}
		g := newRig(t, Config{}, parking(box, &tried, always(handlers.Reject(errDeclined)))).start(t)
		require.False(t, g.sub.offerIn(partition, at(1, placedRecord(t))))
		require.Zero(t, g.counter(t, "charge", outcomeParked))
		require.InDelta(t, 1, testutil.ToFloat64(g.met.retries.WithLabelValues("charge", "canceled")), 0)
		require.NoError(t, g.end())
	})
}

func TestAnUnreadableMessageIsParkedForEachHandlerOnItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tried := 0
		box := &memParker{park: away(3, inbox.ErrNotAdmitted)}
		b := newBookkeeping(t)
		g := newRig(t, Config{}, parking(box, &tried, always(nil)), b.charge("notify", nil)).start(t)
		d := at(1, event.KafkaRecord{Key: []byte("o-1"), Value: []byte("{")})
		require.False(t, g.sub.offer(d))
		require.Equal(t, []string{"notify undecodable"}, b.summary(t), "one whose database is away does not keep the other")
		g.sub.untilAcked(t, d)
		require.Len(t, box.wishes, 4)
		require.Len(t, b.parked(t), 1)
		require.Equal(t, inbox.CauseUndecodable, box.wishes[3].Cause)
		require.InDelta(t, 1, testutil.ToFloat64(g.met.undecodable.WithLabelValues("orders")), 0)
		require.NoError(t, g.end())
	})
}
