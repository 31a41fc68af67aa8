package inboxtest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/handlers/inbox"
)

var errEffect = errors.New("card declined")

func testFailure[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	a := admission("o-1", 1)
	for range 3 {
		_, err := m.Apply(t.Context(), a, func(ctx context.Context, tx Tx) error {
			require.NoError(t, db.Put(ctx, tx, "o-1", a.EventID.String()))
			return errEffect
		})
		require.ErrorIs(t, err, errEffect)
		require.NotErrorIs(t, err, inbox.ErrNotAdmitted)
	}
	require.Empty(t, db.Effects(t))
	require.Empty(t, db.Rows(t, a.EventID))
	db.expect(t, m, a, inbox.Fresh)
	db.expect(t, m, admission("o-1", 2), inbox.Fresh)
}

func testPanic[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	a := admission("o-1", 1)
	for range 20 { // more than a pool has connections
		require.PanicsWithValue(t, "nil map", func() {
			_, _ = m.Apply(t.Context(), a, func(ctx context.Context, tx Tx) error {
				require.NoError(t, db.Put(ctx, tx, "o-1", a.EventID.String()))
				panic("nil map")
			})
		})
	}
	require.Empty(t, db.Effects(t))
	require.Empty(t, db.Rows(t, a.EventID))
	db.expect(t, m, a, inbox.Fresh)
}

func testEndedByEffect[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	a := admission("o-1", 1)
	_, err := m.Apply(t.Context(), a, func(ctx context.Context, tx Tx) error {
		require.NoError(t, db.Put(ctx, tx, "o-1", a.EventID.String()))
		return db.Commit(ctx, tx)
	})
	require.ErrorContains(t, err, "the handler ended the transaction itself; leave commit and rollback to the inbox")
	db.expect(t, m, a, inbox.Duplicate) // the row went with the effect all the same
	require.Len(t, db.Effects(t), 1)
}

func testDroppedError[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	a := admission("o-1", 1)
	answer, err := m.Apply(t.Context(), a, func(ctx context.Context, tx Tx) error {
		require.NoError(t, db.Put(ctx, tx, "o-1", a.EventID.String()))
		require.Error(t, db.Fail(ctx, tx))
		return nil
	})
	if !db.Aborts {
		require.NoError(t, err)
		require.Equal(t, inbox.Fresh, answer)
		return
	}
	require.ErrorContains(t, err, "commit unexpectedly resulted in rollback")
	require.NotErrorIs(t, err, inbox.ErrCommitUnknown)
	require.Empty(t, db.Effects(t))
	db.expect(t, m, a, inbox.Fresh)
}

func testContext[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	m := db.Member(t)
	a := admission("o-1", 1)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := db.apply(ctx, m, a)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, inbox.ErrNotAdmitted)

	// During the effect, which does not look.
	ctx, cancel = context.WithCancel(t.Context())
	_, err = m.Apply(ctx, a, func(ctx context.Context, tx Tx) error {
		require.NoError(t, db.Put(ctx, tx, "o-1", a.EventID.String()))
		cancel()
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, inbox.ErrNotAdmitted)
	require.NotErrorIs(t, err, inbox.ErrCommitUnknown)

	// During the effect, with a statement after it.
	ctx, cancel = context.WithCancel(t.Context())
	_, err = m.Apply(ctx, a, func(ctx context.Context, tx Tx) error {
		cancel()
		return db.Put(ctx, tx, "o-1", a.EventID.String())
	})
	require.ErrorIs(t, err, context.Canceled)

	// The effect's own deadline, which it hides: what it wrote is whole or not there.
	_, err = m.Apply(t.Context(), a, func(ctx context.Context, tx Tx) error {
		require.NoError(t, db.Put(ctx, tx, "o-1", a.EventID.String()))
		ctx, cancel := context.WithDeadline(ctx, time.Now())
		defer cancel()
		return db.Put(ctx, tx, "o-1", "never")
	})
	require.ErrorIs(t, err, context.DeadlineExceeded)

	require.Empty(t, db.Effects(t))
	require.Empty(t, db.Rows(t, a.EventID))
	db.expect(t, m, a, inbox.Fresh)
}

func testWaiting[Tx any](t *testing.T, db Database[Tx]) {
	t.Helper()
	holder, waiter := db.Member(t), db.Member(t)
	db.expect(t, waiter, admission("o-1", 1), inbox.Fresh) // the key's row exists: nothing but its lock makes one wait
	first, second, other := admission("o-1", 2), admission("o-1", 3), admission("o-2", 1)

	started, release := make(chan struct{}), make(chan struct{})
	held := make(chan error, 1)
	go func() {
		_, err := holder.Apply(t.Context(), first, func(ctx context.Context, tx Tx) error {
			close(started)
			<-release
			return db.Put(ctx, tx, "o-1", first.EventID.String())
		})
		held <- err
	}()
	<-started

	// A wait that ends is no attempt: the effect is not called.
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	_, err := waiter.Apply(ctx, second, func(context.Context, Tx) error {
		t.Error("the effect ran while another member held the key")
		return nil
	})
	require.ErrorIs(t, err, inbox.ErrNotAdmitted)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	if !db.OneWriter {
		db.expect(t, waiter, other, inbox.Fresh) // another key does not wait
	}
	type result struct {
		answer inbox.Answer
		err    error
	}
	// Judged by what the holder commits meanwhile: its sequence is taken.
	overtaken := admission("o-1", 2)
	same, next := make(chan result, 2), make(chan result, 1)
	go func() {
		for _, a := range []inbox.Admission{overtaken, first} {
			answer, err := db.apply(t.Context(), waiter, a)
			same <- result{answer, err}
		}
		answer, err := db.apply(t.Context(), waiter, second)
		next <- result{answer, err}
	}()
	select {
	case r := <-same:
		t.Fatalf("a member did not wait for the key: %v %v", r.answer, r.err)
	case <-time.After(100 * time.Millisecond):
	}
	close(release)
	require.NoError(t, <-held)
	require.Equal(t, result{inbox.Late, nil}, <-same)
	require.Equal(t, result{inbox.Duplicate, nil}, <-same)
	require.Equal(t, result{inbox.Fresh, nil}, <-next)
	effects := db.Effects(t)
	require.Equal(t, []string{first.EventID.String(), second.EventID.String()}, effects[len(effects)-2:])
}

func testCommitInDoubt[Tx any](t *testing.T, db Database[Tx]) {
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
			a := admission(name, 1)
			_, err := m.Apply(t.Context(), a, func(ctx context.Context, tx Tx) error {
				err := db.Put(ctx, tx, name, a.EventID.String())
				cut()
				return err
			})
			require.ErrorIs(t, err, inbox.ErrCommitUnknown)
			committed := len(db.Rows(t, a.EventID)) == 1
			answer, err := db.apply(t.Context(), m, a) // asking again settles it
			require.NoError(t, err)
			if committed {
				require.Equal(t, inbox.Duplicate, answer)
			} else {
				require.Equal(t, inbox.Fresh, answer)
			}
			require.Equal(t, name == "after COMMIT was answered", committed)
			count := 0
			for _, e := range db.Effects(t) {
				if e == a.EventID.String() {
					count++
				}
			}
			require.Equal(t, 1, count, "effects")
		})
	}
}
