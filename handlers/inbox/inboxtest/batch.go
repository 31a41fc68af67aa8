package inboxtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// applyBatch applies as with an effect row for each that is fresh.
func (db *Database[Tx]) applyBatch(ctx context.Context, m Member[Tx], as []inbox.Admission) ([]inbox.Answer, error) {
	return m.ApplyBatch(ctx, as, func(ctx context.Context, tx Tx, fresh []int) error {
		return db.putAll(ctx, tx, as, fresh)
	})
}

func (db *Database[Tx]) putAll(ctx context.Context, tx Tx, as []inbox.Admission, fresh []int) error {
	for _, i := range fresh {
		if err := db.Put(ctx, tx, string(as[i].Place.Key), as[i].EventID.String()); err != nil {
			return err
		}
	}
	return nil
}

// expectBatch applies as and demands answers; the effects are those of the fresh
// ones, in their order.
func (db *Database[Tx]) expectBatch(t *testing.T, m Member[Tx], as []inbox.Admission, want ...inbox.Answer) {
	t.Helper()
	before := len(db.Effects(t))
	got, err := db.applyBatch(t.Context(), m, as)
	require.NoError(t, err)
	require.Equal(t, want, got)
	fresh := []string{}
	for i, answer := range got {
		if answer == inbox.Fresh {
			fresh = append(fresh, as[i].EventID.String())
		}
	}
	require.Equal(t, fresh, append([]string{}, db.Effects(t)[before:]...))
}

func testBatchAnswers[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	db.expectBatch(t, m, nil)
	known := admission("o-1", 1)
	db.expect(t, m, known, inbox.Fresh)
	a2, a3, b1, c1 := admission("o-1", 2), admission("o-1", 3), admission("o-2", 1), admission("o-3", 1)
	keyless := admission("", 0)
	db.expectBatch(t, m,
		[]inbox.Admission{known, a2, b1, a3, b1, keyless, keyless, admission("o-1", 3), admission("o-1", 4), c1},
		inbox.Duplicate, inbox.Fresh, inbox.Fresh, inbox.Fresh, inbox.Duplicate, inbox.Fresh, inbox.Duplicate, inbox.Late, 0, inbox.Fresh)
	require.Equal(t, []int{1}, db.Rows(t, a3.EventID))
	for _, a := range []inbox.Admission{a2, a3, b1, c1, keyless} {
		db.expect(t, m, a, inbox.Duplicate)
	}
	db.expect(t, m, admission("o-1", 3), inbox.Late)
	db.expect(t, m, admission("o-1", 5), inbox.Fresh)
	db.expectBatch(t, m, []inbox.Admission{a2, b1}, inbox.Duplicate, inbox.Duplicate)

	db.Park(t, 2)
	db.expectBatch(t, m, []inbox.Admission{a2, admission("o-1", 6), admission("o-4", 1), admission("o-1", 1)},
		inbox.Duplicate, inbox.Parked, inbox.Fresh, inbox.Parked)

	other := admission("o-5", 1)
	other.Handler.Name = "remind"
	_, err := db.applyBatch(t.Context(), m, []inbox.Admission{admission("o-5", 1), other})
	require.ErrorIs(t, err, inbox.ErrBatch)
	letter := admission("o-5", 1)
	letter.Letter = 7
	_, err = db.applyBatch(t.Context(), m, []inbox.Admission{letter})
	require.ErrorIs(t, err, inbox.ErrBatch)
}

// testBatchLikeOneByOne gives random events to one handler in batches and to
// another one by one: the answers are the same.
func testBatchLikeOneByOne[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	db.keep(t, m)
	one := func(a inbox.Admission) inbox.Answer {
		a.Handler.Name = "one-by-one"
		answer, err := m.Apply(t.Context(), a, func(context.Context, Tx) error { return nil })
		require.NoError(t, err)
		return answer
	}
	random := rand.New(rand.NewPCG(8, uint64(db.Races))) //nolint:gosec // chooses a test's events
	var log []inbox.Admission
	total, counts := 0, map[inbox.Answer]int{}
	for total < db.Races {
		if random.IntN(12) == 0 {
			db.Forget(t) // keys grow old, and IDs are forgotten
		}
		batch := make([]inbox.Admission, 1+random.IntN(40))
		for i := range batch {
			batch[i] = db.anyAdmission(random, log)
			log = append(log, batch[i])
		}
		total += len(batch)
		late := map[string]bool{}
		want := make([]inbox.Answer, len(batch))
		for i, a := range batch {
			key := string(a.Place.Key)
			if key == "" || !late[key] {
				want[i] = one(a)
				late[key] = want[i] == inbox.Late
			}
			counts[want[i]]++
		}
		got, err := m.ApplyBatch(t.Context(), batch, func(context.Context, Tx, []int) error { return nil })
		require.NoError(t, err)
		for i := range want {
			require.Equal(t, want[i].String(), got[i].String(), "event %d of the batch: %+v", i, batch[i])
		}
	}
	t.Logf("answers: %v", counts)
	for _, answer := range []inbox.Answer{0, inbox.Fresh, inbox.Duplicate, inbox.Late} {
		require.Positive(t, counts[answer], "no event was answered %q", answer)
	}
}

// anyAdmission is of a new event, or of one of the log, of any age and kind.
func (db *Database[Tx]) anyAdmission(random *rand.Rand, log []inbox.Admission) inbox.Admission {
	if len(log) > 0 && random.IntN(4) == 0 {
		return log[random.IntN(len(log))]
	}
	a := admission(fmt.Sprintf("o-%d", random.IntN(6)), int64(random.IntN(4)))
	a.Place.Partition = int32(random.IntN(2)) //nolint:gosec // 0 or 1
	if a.Sequence > 0 {
		a.Sequence += int64(len(log) / 2)
	}
	switch random.IntN(10) {
	case 0:
		a.Place.Key, a.Sequence = nil, 0
	case 1:
		a.EventID = uuid.New() // tells no time
	case 2, 3:
		a.EventID = IDOf(time.Now().Add(-Retention * time.Duration(2*random.IntN(4)-1) / 4)) // not at a boundary
	case 4:
		a.Source = "/elsewhere"
	case 5:
		a.Place.Partition, a.Place.Offset = -1, -1
	case 6:
		a.Place.Offset -= int64(random.IntN(50))
	}
	return a
}

// testBatchBehindParked puts events of a batch behind the parked ones of their
// key, in the transaction of the others.
func testBatchBehindParked[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	p, ok := any(m).(inbox.Parker)
	require.True(t, ok)
	with := func(a inbox.Admission) inbox.Admission {
		a.Type = "order.placed"
		a.Message = &inbox.Message{Record: event.KafkaRecord{Key: a.Place.Key, Value: []byte(`{}`)}, Time: time.Now()}
		return a
	}
	head := with(admission("o-1", 1))
	answer, err := p.Park(t.Context(), head, inbox.Failure{Cause: inbox.CauseError, Attempts: 5})
	require.NoError(t, err)
	require.Equal(t, inbox.Parked, answer)

	second, third, other := with(admission("o-1", 2)), with(admission("o-1", 3)), with(admission("o-2", 1))
	batch := []inbox.Admission{second, other, third}
	_, err = m.ApplyBatch(t.Context(), batch, func(context.Context, Tx, []int) error { return errEffect })
	require.ErrorIs(t, err, errEffect)
	_, ok = db.letterOf(t, m, second)
	require.False(t, ok, "what goes behind rolls back with the others")

	db.expectBatch(t, m, batch, inbox.Parked, inbox.Fresh, inbox.Parked)
	db.expectBatch(t, m, batch, inbox.Parked, inbox.Duplicate, inbox.Parked)
	fourth := with(admission("o-1", 4))
	fourth.Bounds = inbox.Bounds{Events: 2}
	bystander := with(admission("o-2", 2))
	_, err = db.applyBatch(t.Context(), m, []inbox.Admission{bystander, fourth})
	require.ErrorIs(t, err, inbox.ErrFull)
	require.NotErrorIs(t, err, inbox.ErrNotAdmitted)
	db.expect(t, m, bystander, inbox.Fresh)

	for _, a := range []inbox.Admission{head, second, third} { // each once, in their order
		_, ok = db.letterOf(t, m, third)
		require.Equal(t, a.EventID == third.EventID, ok)
		id, ok := db.letterOf(t, m, a)
		require.True(t, ok)
		a.Letter = id
		db.expect(t, m, a, inbox.Fresh)
	}
	db.expectBatch(t, m, []inbox.Admission{second, with(admission("o-1", 4)), third}, inbox.Duplicate, inbox.Fresh, inbox.Duplicate)
}

// letterOf finds the letter of an event whose turn it is.
func (db *Database[Tx]) letterOf(t *testing.T, m Member[Tx], a inbox.Admission) (int64, bool) {
	t.Helper()
	for id := range int64(20) {
		a.Letter = id + 1
		answer, err := m.Look(t.Context(), a)
		require.NoError(t, err)
		if answer == inbox.Fresh {
			return id + 1, true
		}
	}
	return 0, false
}

func testBatchFailures[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	as := []inbox.Admission{admission("o-1", 1), admission("o-2", 1), admission("o-1", 2)}
	none := func() {
		t.Helper()
		require.Empty(t, db.Effects(t))
		for _, a := range as {
			require.Empty(t, db.Rows(t, a.EventID))
		}
	}
	_, err := m.ApplyBatch(t.Context(), as, func(ctx context.Context, tx Tx, fresh []int) error {
		require.Equal(t, []int{0, 1, 2}, fresh)
		require.NoError(t, db.putAll(ctx, tx, as, fresh))
		return errEffect
	})
	require.ErrorIs(t, err, errEffect)
	require.NotErrorIs(t, err, inbox.ErrNotAdmitted)
	none()
	for range 20 { // more than a pool has connections
		require.PanicsWithValue(t, "nil map", func() {
			_, _ = m.ApplyBatch(t.Context(), as, func(ctx context.Context, tx Tx, fresh []int) error {
				require.NoError(t, db.putAll(ctx, tx, as, fresh))
				panic("nil map")
			})
		})
	}
	none()
	ctx, cancel := context.WithCancel(t.Context())
	_, err = m.ApplyBatch(ctx, as, func(ctx context.Context, tx Tx, fresh []int) error {
		require.NoError(t, db.putAll(ctx, tx, as, fresh))
		cancel()
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, inbox.ErrNotAdmitted)
	_, err = db.applyBatch(ctx, m, as)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, inbox.ErrNotAdmitted)
	none()
	if db.Invalid != "" {
		refused := slices.Clone(as)
		refused[1].AggregateID = db.Invalid
		_, err = db.applyBatch(t.Context(), m, refused)
		require.Error(t, err)
		require.NotErrorIs(t, err, inbox.ErrNotAdmitted)
		none()
	}
	db.expectBatch(t, m, as, inbox.Fresh, inbox.Fresh, inbox.Fresh)
}

// testBatchRace lets members go through the same events in batches of their own
// cut, beside one that has them one by one: no deadlock, each effect once, those
// of a key in order.
//
//nolint:gocognit // one race, told from its start to its end
func testBatchRace[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	const keys, perKey = 12, 10
	members := []Member[Tx]{db.Member(t), db.Member(t), db.Member(t)}
	db.keep(t, members[0])
	total := 0
	for round := 0; total < db.Races; round++ {
		log := make([]inbox.Admission, 0, keys*perKey)
		for i := range perKey {
			for k := range keys {
				a := admission(fmt.Sprintf("o-%d-%d", round, k), int64(i+1))
				if k == 0 {
					a.Place.Key, a.Sequence = nil, 0
				}
				log = append(log, a)
			}
		}
		total += len(log)
		before := len(db.Effects(t))
		var group errgroup.Group
		for i, m := range members {
			group.Go(func() error {
				if i == 2 {
					for _, a := range log {
						if _, err := db.apply(t.Context(), m, a); err != nil {
							return err
						}
					}
					return nil
				}
				return db.goThrough(t.Context(), m, log)
			})
		}
		require.NoError(t, group.Wait())

		at := map[string]int{}
		effects := db.Effects(t)[before:]
		for i, e := range effects {
			_, twice := at[e]
			require.False(t, twice, "effect of %s twice", e)
			at[e] = i
		}
		require.Len(t, effects, len(log))
		last := map[string]int{}
		for _, a := range log {
			key, place := string(a.Place.Key), at[a.EventID.String()]
			if key != "" {
				require.GreaterOrEqual(t, place, last[key], "order of key %s", key)
				last[key] = place
			}
		}
	}
}

// goThrough applies the log in batches of any size, in which keys are shuffled;
// one in ten fails the first time.
func (db *Database[Tx]) goThrough(ctx context.Context, m Member[Tx], log []inbox.Admission) error {
	for len(log) > 0 {
		n := min(1+rand.IntN(60), len(log)) //nolint:gosec // chooses a test's batches
		batch := slices.Clone(log[:n])
		log = log[n:]
		order := map[string]int{}
		for _, a := range batch {
			if _, ok := order[string(a.Place.Key)]; !ok {
				order[string(a.Place.Key)] = rand.Int() //nolint:gosec // so too
			}
		}
		slices.SortStableFunc(batch, func(a, b inbox.Admission) int { return order[string(a.Place.Key)] - order[string(b.Place.Key)] })
		for {
			answers, err := m.ApplyBatch(ctx, batch, func(ctx context.Context, tx Tx, fresh []int) error {
				if err := db.putAll(ctx, tx, batch, fresh); err != nil {
					return err
				}
				if rand.IntN(10) == 0 { //nolint:gosec // so too
					return errEffect
				}
				return nil
			})
			if err == errEffect { //nolint:errorlint // the effect's error comes as it is
				continue
			}
			if err != nil {
				return err
			}
			for i, answer := range answers {
				if answer != inbox.Fresh && answer != inbox.Duplicate {
					return fmt.Errorf("event %s was answered %q", batch[i].EventID, answer)
				}
			}
			break
		}
	}
	return nil
}

func testBatchInDoubt[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	if db.LossyMember == nil {
		t.Skip("a commit in this process has no reply to lose")
	}
	m, line := db.LossyMember(t)
	for name, cut := range map[string]func(){
		"before COMMIT arrives":     line.CutNextRequest,
		"after COMMIT was answered": line.CutNextReply,
	} {
		t.Run(name, func(t *testing.T) {
			as := []inbox.Admission{admission(name, 1), admission("other "+name, 1), admission(name, 2)}
			before := len(db.Effects(t))
			_, err := m.ApplyBatch(t.Context(), as, func(ctx context.Context, tx Tx, fresh []int) error {
				err := db.putAll(ctx, tx, as, fresh)
				cut()
				return err
			})
			require.ErrorIs(t, err, inbox.ErrCommitUnknown)
			answers, err := db.applyBatch(t.Context(), m, as) // asking again settles it
			require.NoError(t, err)
			want := inbox.Fresh
			if name == "after COMMIT was answered" {
				want = inbox.Duplicate
			}
			require.Equal(t, []inbox.Answer{want, want, want}, answers)
			require.Len(t, db.Effects(t), before+3)
		})
	}
}
