package inboxtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tidings-bus/tidings/handlers/inbox"
)

// testRace gives every event to two members at once, in the order of its key,
// with effects that fail now and then and are tried again. Some events have no
// key. Each effect must be there once, and those of a key in order.
//
//nolint:gocognit // one race, told from its start to its end
func testRace[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	const keys, perKey = 4, 25
	members := []Member[Tx]{db.Member(t), db.Member(t)}
	db.keep(t, members[0])
	counts := make([][5]int, len(members))

	total := 0
	for round := 0; total < db.Races; round++ {
		var events [keys + 1][]inbox.Admission // the last have no key
		for k := range events {
			for i := range perKey {
				a := admission(fmt.Sprintf("o-%d-%d", round, k), int64(i+1))
				if k == keys {
					a.Place.Key, a.Sequence = nil, 0
				}
				events[k] = append(events[k], a)
				total++
			}
		}
		before := len(db.Effects(t))
		var group errgroup.Group
		for i, m := range members {
			answers := make(chan inbox.Answer)
			done := make(chan struct{})
			go func() {
				defer close(done)
				for a := range answers {
					counts[i][a]++
				}
			}()
			var lanes errgroup.Group
			for _, lane := range events {
				lanes.Go(func() error {
					for _, a := range lane {
						answer, err := db.insist(t.Context(), m, a)
						if err != nil {
							return err
						}
						answers <- answer
					}
					return nil
				})
			}
			group.Go(func() error {
				err := lanes.Wait()
				close(answers)
				<-done
				return err
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
		require.Len(t, effects, (keys+1)*perKey)
		for _, lane := range events[:keys] {
			for i, a := range lane {
				require.Contains(t, at, a.EventID.String())
				if i > 0 {
					require.Greater(t, at[a.EventID.String()], at[lane[i-1].EventID.String()], "order of key %s", a.Place.Key)
				}
			}
		}
	}
	fresh, duplicate := 0, 0
	for _, c := range counts {
		fresh += c[inbox.Fresh]
		duplicate += c[inbox.Duplicate]
	}
	require.Equal(t, total, fresh)
	require.Equal(t, total, duplicate)
	t.Logf("%d events raced, %v and %v per answer", total, counts[0], counts[1])
}

// insist tries until the effect does not fail: one in ten does.
func (db *Database[Tx]) insist(ctx context.Context, m Member[Tx], a inbox.Admission) (inbox.Answer, error) {
	for {
		answer, err := m.Apply(ctx, a, func(ctx context.Context, tx Tx) error {
			if err := db.Put(ctx, tx, string(a.Place.Key), a.EventID.String()); err != nil {
				return err
			}
			if rand.IntN(10) == 0 { //nolint:gosec // chooses tests' failures
				return errEffect
			}
			return nil
		})
		if err != errEffect { //nolint:errorlint // the effect's error comes as it is
			return answer, err
		}
	}
}
