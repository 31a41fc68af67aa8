package sqlstore_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/internal/testenv"
)

// I6: the lock of an act is the one of an admission, for keys of any kind.
func TestAnActWaitsForTheAdmissionOfItsKey(t *testing.T) {
	testenv.Docker(t)
	d := openPostgres(t)
	store, box := d.store(), d.again(t).box(t)
	for name, key := range map[string]string{"a key": "o-1", "no key": "", "a long key": strings.Repeat("k", 3000)} {
		for act, do := range map[string]func(ctx context.Context, l *deadletter.Letter) error{
			"discard": func(ctx context.Context, l *deadletter.Letter) error { return store.Discard(ctx, l.ID, ann) },
			"edit": func(ctx context.Context, l *deadletter.Letter) error {
				return store.Edit(ctx, l.ID, deadletter.Edited{}, ann)
			},
			"reassign": func(ctx context.Context, _ *deadletter.Letter) error {
				_, err := store.Reassign(ctx, charge, remind, ann)
				return err
			},
			"import": func(ctx context.Context, l *deadletter.Letter) error {
				again := *l
				if len(again.Place.Key) > 0 { // else a new event is another key
					again.EventID = uuid.New()
				}
				_, err := store.Import(ctx, []deadletter.Letter{again}, ann)
				return err
			},
		} {
			t.Run(act+" beside "+name, func(t *testing.T) {
				ctx := t.Context()
				a := read(charge, uuid.New(), key, 1, 0)
				_, err := box.Park(ctx, a, inbox.Failure{Cause: inbox.CauseError})
				require.NoError(t, err)
				require.NoError(t, box.Record(ctx, read(remind, uuid.New(), "o-9", 2, 0))) // it is known
				keys, err := store.Keys(ctx, deadletter.Filter{Handlers: []string{"charge"}}, 0, 10)
				require.NoError(t, err)
				require.Len(t, keys, 1)
				l, err := store.Letter(ctx, keys[0].Head)
				require.NoError(t, err)

				done := make(chan error, 1)
				a.Letter = l.ID
				answer, err := box.Apply(ctx, a, func(ctx context.Context, _ *sql.Tx) error {
					go func() { done <- do(ctx, &l) }()
					require.Eventually(t, func() bool {
						var waiting int
						err := d.QueryRowContext(ctx, `SELECT count(*) FROM pg_stat_activity
							WHERE datname = current_database() AND wait_event_type = 'Lock' AND state = 'active'`).Scan(&waiting)
						return err == nil && waiting == 1
					}, 20*time.Second, 5*time.Millisecond, "it does not wait")
					return nil
				})
				require.NoError(t, err)
				require.Equal(t, inbox.Fresh, answer)
				err = <-done
				if act == "discard" || act == "edit" {
					require.ErrorIs(t, err, deadletter.ErrNotFound, "it had left with its effect")
				} else {
					require.NoError(t, err)
				}
				left, err := store.Keys(ctx, deadletter.Filter{}, 0, 10)
				require.NoError(t, err)
				if act == "import" && key != "" {
					require.Len(t, left, 1)
					require.NoError(t, store.Discard(ctx, left[0].Head, ann))
				} else {
					require.Empty(t, left)
				}
			})
		}
	}
}

// A key that somebody changes just now is neither waited for nor forgotten.
func TestASelectionPassesOverLockedKeysAndComesBackForThem(t *testing.T) {
	testenv.Docker(t)
	d := openPostgres(t)
	ctx := t.Context()
	store, box := d.store(), d.box(t)
	for _, key := range []string{"o-1", "o-2", "o-3"} {
		_, err := box.Park(ctx, read(charge, uuid.New(), key, 1, 0), inbox.Failure{Cause: inbox.CauseError})
		require.NoError(t, err)
	}
	tx, err := d.BeginTx(ctx, nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(ctx, `SELECT 1 FROM tidings.parked_key WHERE key = 'o-2' FOR UPDATE`)
	require.NoError(t, err)
	r, err := store.Ask(ctx, deadletter.Request{Group: "billing", Kind: deadletter.RequestRetry}, ann)
	require.NoError(t, err)
	require.Equal(t, int64(2), r.Keys)
	claimed, err := store.Claim(ctx, "billing", []string{"charge"}, "m", time.Minute, 10)
	require.NoError(t, err)
	require.Len(t, claimed, 2)
	for _, k := range claimed { // stopped: not to be selected again
		require.NoError(t, store.Release(ctx, "m", k, true, deadletter.Progress{KeysStopped: 1, Failed: 1}))
	}
	require.NoError(t, store.Advance(ctx, "billing"))
	r, err = store.Request(ctx, r.ID)
	require.NoError(t, err)
	require.Equal(t, deadletter.Open, r.State, "one is left")
	require.NoError(t, tx.Rollback())
	require.NoError(t, store.Advance(ctx, "billing"))
	claimed, err = store.Claim(ctx, "billing", []string{"charge"}, "m", time.Minute, 10)
	require.NoError(t, err)
	require.Len(t, claimed, 1)
	require.Equal(t, "o-2", string(claimed[0].Key))
	require.NoError(t, store.Release(ctx, "m", claimed[0], true, deadletter.Progress{KeysStopped: 1, Failed: 1}))
	require.NoError(t, store.Advance(ctx, "billing"))
	r, err = store.Request(ctx, r.ID)
	require.NoError(t, err)
	require.Equal(t, deadletter.Done, r.State)
	require.Equal(t, int64(3), r.Keys)
	require.Equal(t, int64(3), r.KeysStopped)
}
