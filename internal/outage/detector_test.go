package outage_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/internal/outage"
)

var (
	start   = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	errDown = errors.New("down")
)

// tell runs one try, and fails when it may not begin.
func tell(t *testing.T, d *outage.Detector, key uint64, try int, r outage.Result, now time.Time) (began, ended bool) {
	t.Helper()
	_, ok := d.Ask(key, now)
	require.True(t, ok, "key %d may not run", key)
	return d.Tell(key, try, r, errDown, now)
}

// breakDown makes ten keys fail.
func breakDown(t *testing.T, d *outage.Detector, now time.Time) {
	t.Helper()
	for key := range uint64(10) {
		began, _ := tell(t, d, key, 1, outage.Failure, now)
		require.Equal(t, key == 9, began, "key %d", key)
	}
	require.False(t, d.State().Since.IsZero())
}

func TestTenKeysThatFailAtOnceAreAnOutage(t *testing.T) {
	d := outage.New(outage.Config{})
	for key := range uint64(1000) { // all was well before
		tell(t, d, key, 1, outage.Success, start)
	}
	breakDown(t, d, start)
	require.Equal(t, outage.State{Since: start, Last: errDown}, d.State())
}

func TestWhatIsNoOutage(t *testing.T) {
	for name, run := range map[string]func(d *outage.Detector) bool{
		"one key, ever again": func(d *outage.Detector) bool {
			for try := range 1000 {
				if began, _ := d.Tell(1, try+1, outage.Failure, errDown, start); began {
					return true
				}
			}
			return false
		},
		"one key, new events of it": func(d *outage.Detector) bool {
			for range 1000 {
				if began, _ := d.Tell(1, 1, outage.Failure, errDown, start); began {
					return true
				}
			}
			return false
		},
		"a fifth of the keys, tried five times each": func(d *outage.Detector) bool {
			r := rand.New(rand.NewPCG(1, 1))
			for range 10_000 {
				key := r.Uint64N(1000)
				result := outage.Success
				if key%5 == 0 {
					result = outage.Failure
				}
				for try := 1; try <= 5; try++ {
					if began, _ := d.Tell(key, try, result, errDown, start); began {
						return true
					}
					if result == outage.Success {
						break
					}
				}
			}
			return false
		},
		"rejections, however many": func(d *outage.Detector) bool {
			for key := range uint64(1000) {
				if began, _ := d.Tell(key, 1, outage.Refused, errDown, start); began {
					return true
				}
			}
			return false
		},
		"ten keys in ten hours": func(d *outage.Detector) bool {
			for key := range uint64(10) {
				if began, _ := d.Tell(key, 1, outage.Failure, errDown, start.Add(time.Duration(key)*time.Hour)); began {
					return true
				}
			}
			return false
		},
		"two keys whose rows are locked": func(d *outage.Detector) bool {
			for i := range uint64(100) {
				if began, _ := d.Tell(i%2, 1, outage.Away, errDown, start); began {
					return true
				}
			}
			return false
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.False(t, run(outage.New(outage.Config{})))
		})
	}
}

func TestADatabaseThatAdmitsNothingIsAnOutageAtOnce(t *testing.T) {
	d := outage.New(outage.Config{})
	tell(t, d, 0, 1, outage.Success, start)
	for key := range uint64(3) {
		began, _ := tell(t, d, key, 7, outage.Away, start)
		require.Equal(t, key == 2, began)
	}
}

func TestProbesComeAtGrowingIntervalsWithChangingKeys(t *testing.T) {
	d := outage.New(outage.Config{})
	breakDown(t, d, start)
	var (
		at   []time.Duration
		keys []uint64
	)
	for now := start; now.Before(start.Add(3 * time.Minute)); now = now.Add(50 * time.Millisecond) {
		for key := range uint64(3) {
			wait, ok := d.Ask(key, now)
			if !ok {
				require.Positive(t, wait)
				require.LessOrEqual(t, wait, 2*time.Second)
				continue
			}
			at, keys = append(at, now.Sub(start)), append(keys, key)
			_, second := d.Ask(key+1, now)
			require.False(t, second, "one probe at a time")
			began, ended := d.Tell(key, 2, outage.Failure, errDown, now)
			require.False(t, began || ended)
		}
	}
	require.Equal(t, []time.Duration{1 * time.Second, 3 * time.Second, 7 * time.Second, 15 * time.Second, 31 * time.Second, 61 * time.Second, 91 * time.Second, 121 * time.Second, 151 * time.Second}, at)
	for i := 1; i < len(keys); i++ {
		require.NotEqual(t, keys[i-1], keys[i], "probe %d", i)
	}
	require.Equal(t, len(at), d.State().Probes)
}

func TestAKeyThatIsAloneIsProbedAllTheSame(t *testing.T) {
	d := outage.New(outage.Config{})
	breakDown(t, d, start)
	_, ok := d.Ask(9, start.Add(time.Second)) // it began the outage
	require.False(t, ok)
	_, ok = d.Ask(9, start.Add(4*time.Second))
	require.True(t, ok)
	d.Tell(9, 2, outage.Canceled, nil, start.Add(4*time.Second)) // its partition went
	_, ok = d.Ask(9, start.Add(5*time.Second))
	require.True(t, ok, "a probe that was cut short is made again")
}

func TestASuccessEndsItAndAMixOfBothBeginsNoOtherSoon(t *testing.T) {
	d := outage.New(outage.Config{})
	breakDown(t, d, start)
	now := start.Add(time.Second)
	_, ended := tell(t, d, 20, 2, outage.Success, now)
	require.True(t, ended)
	require.True(t, d.State().Since.IsZero())

	for key := range uint64(500) { // two of three are poisonous
		r := outage.Failure
		if key%3 == 0 {
			r = outage.Success
		}
		began, _ := tell(t, d, key, 1, r, now)
		require.False(t, began)
	}
	now = now.Add(10 * time.Second)
	var began bool
	for key := uint64(1000); !began && key < 2000; key++ { // and now all fail
		began, _ = tell(t, d, key, 1, outage.Failure, now)
	}
	require.True(t, began)
}

func TestTheLateSuccessOfATryFromBeforeEndsItToo(t *testing.T) {
	d := outage.New(outage.Config{})
	_, ok := d.Ask(77, start)
	require.True(t, ok)
	breakDown(t, d, start)
	_, ended := d.Tell(77, 1, outage.Success, nil, start)
	require.True(t, ended)
}

// What the handler's database answers without the handler says nothing of what
// that one depends on: a probe of such an event ends nothing, and takes no
// other's turn.
func TestAnAnswerOfTheDatabaseEndsOnlyItsOwnOutage(t *testing.T) {
	d := outage.New(outage.Config{})
	breakDown(t, d, start)
	now := start.Add(time.Second)
	began, ended := tell(t, d, 20, 1, outage.Answered, now)
	require.False(t, began || ended)
	_, ended = tell(t, d, 21, 1, outage.Answered, now)
	require.False(t, ended)
	require.Zero(t, d.State().Probes)
	_, ended = tell(t, d, 22, 1, outage.Success, now)
	require.True(t, ended)

	d = outage.New(outage.Config{})
	for key := range uint64(3) {
		tell(t, d, key, 1, outage.Away, start)
	}
	_, ended = tell(t, d, 20, 1, outage.Answered, now)
	require.True(t, ended, "it is back")

	d = outage.New(outage.Config{})
	for key := range uint64(3) {
		tell(t, d, key, 1, outage.Away, start)
	}
	tell(t, d, 20, 1, outage.Failure, now) // it is back, but what the handler calls is not
	_, ended = d.Tell(21, 1, outage.Answered, nil, now)
	require.False(t, ended)
}

func TestAnswersOfTheDatabaseHideNoOutage(t *testing.T) {
	d := outage.New(outage.Config{})
	breakDown(t, d, start)
	_, ended := tell(t, d, 20, 2, outage.Success, start.Add(time.Second))
	require.True(t, ended)
	began := false
	for key := uint64(100); !began && key < 120; key++ {
		for answered := range uint64(20) {
			tell(t, d, 1000+answered, 1, outage.Answered, start.Add(2*time.Second))
		}
		began, _ = tell(t, d, key, 1, outage.Failure, start.Add(2*time.Second))
	}
	require.True(t, began)
}

func TestADatabaseThatAnsweredSinceIsNotAway(t *testing.T) {
	d := outage.New(outage.Config{})
	for key := range uint64(9) {
		now := start.Add(time.Duration(key) * time.Second)
		began, _ := tell(t, d, key, 1, outage.Away, now)
		require.False(t, began)
		tell(t, d, 100+key, 1, outage.Answered, now.Add(time.Millisecond))
	}
}

// A handler may hang for ever in what is away: the others do not wait for it.
func TestAProbeThatDoesNotReturnGivesItsTurnAway(t *testing.T) {
	d := outage.New(outage.Config{})
	breakDown(t, d, start)
	now := start.Add(time.Second)
	_, ok := d.Ask(20, now)
	require.True(t, ok)
	_, ok = d.Ask(21, now.Add(59*time.Second))
	require.False(t, ok)
	_, ok = d.Ask(21, now.Add(61*time.Second))
	require.True(t, ok)
	_, ok = d.Ask(22, now.Add(61*time.Second))
	require.False(t, ok)
	d.Tell(20, 1, outage.Failure, errDown, now.Add(62*time.Second))
	require.Zero(t, d.State().Probes, "its turn was over")
	_, ended := d.Tell(21, 1, outage.Success, nil, now.Add(63*time.Second))
	require.True(t, ended)
}
