package scope_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/tidings-bus/tidings/internal/scope"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type key struct{}

var errLate = errors.New("took too long")

type late struct{}

func (late) Late() error { return errLate }

// waiters are the ways in which somebody learns of the end.
var waiters = map[string]func(ctx context.Context) error{
	"done": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	"child": func(ctx context.Context) error {
		child, cancel := context.WithCancel(ctx)
		defer cancel()
		<-child.Done()
		return child.Err()
	},
	"after": func(ctx context.Context) error {
		c := make(chan struct{})
		context.AfterFunc(ctx, func() { close(c) })
		<-c
		return ctx.Err()
	},
	"err": func(ctx context.Context) error {
		for ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		return ctx.Err()
	},
	"scope": func(ctx context.Context) error {
		var c scope.Context
		c.Init(ctx)
		defer c.Cancel()
		<-c.Done()
		return c.Err()
	},
}

func TestEndsAtItsDeadline(t *testing.T) {
	for name, wait := range waiters {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				var c scope.Context
				c.InitTimeout(context.WithValue(context.Background(), key{}, "v"), time.Minute, late{})
				at, ok := c.Deadline()
				require.True(t, ok)
				require.Equal(t, begin.Add(time.Minute), at)
				require.ErrorIs(t, wait(&c), context.DeadlineExceeded)
				require.Less(t, time.Since(begin), time.Minute+2*time.Millisecond)
				require.GreaterOrEqual(t, time.Since(begin), time.Minute)
				require.Equal(t, errLate, context.Cause(&c))
				require.Equal(t, "v", c.Value(key{}))
				child, cancel := context.WithCancel(&c)
				defer cancel()
				require.Equal(t, errLate, context.Cause(child))
				c.Cancel()
				require.Equal(t, context.DeadlineExceeded, c.Err())
			})
		})
	}
}

func TestEndsWithItsParent(t *testing.T) {
	cause := errors.New("why")
	for name, wait := range waiters {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, cancel := context.WithCancelCause(context.Background())
				var c scope.Context
				c.InitTimeout(parent, time.Minute, late{})
				time.AfterFunc(time.Second, func() { cancel(cause) })
				require.ErrorIs(t, wait(&c), context.Canceled)
				require.Equal(t, cause, context.Cause(&c))
			})
		})
	}
}

func TestEarlierDeadlineOfTheParentCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		var c scope.Context
		c.InitTimeout(parent, time.Minute, late{})
		at, _ := c.Deadline()
		require.Equal(t, time.Now().Add(time.Second), at)
		<-c.Done()
		require.Equal(t, context.DeadlineExceeded, context.Cause(&c))
	})
}

func TestCancelEndsItAndLeavesNothingBehind(t *testing.T) {
	for name, wait := range waiters {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // fails when a goroutine is left
				var parent, c scope.Context
				parent.InitDetached(context.Background())
				c.InitTimeout(&parent, time.Hour, late{})
				time.AfterFunc(time.Second, c.Cancel)
				require.Equal(t, context.Canceled, wait(&c))
				require.Equal(t, context.Canceled, context.Cause(&c))
				require.NoError(t, parent.Err())
			})
		})
	}
}

func TestDetachedHasTheValuesButNotTheEnd(t *testing.T) {
	values, cancel := context.WithTimeout(context.WithValue(context.Background(), key{}, "v"), time.Hour)
	cancel()
	var c scope.Context
	c.InitDetached(values)
	require.Equal(t, "v", c.Value(key{}))
	require.NoError(t, c.Err())
	_, ok := c.Deadline()
	require.False(t, ok)
	select {
	case <-c.Done():
		t.Fatal("ended with its values' context")
	default:
	}
}

func TestStoppedAfterFuncIsNotCalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c scope.Context
		c.InitDetached(context.Background())
		called := false
		stop := context.AfterFunc(&c, func() { called = true })
		require.True(t, stop())
		require.False(t, stop())
		c.Cancel()
		synctest.Wait()
		require.False(t, called)
		after := make(chan struct{})
		context.AfterFunc(&c, func() { close(after) })
		<-after
	})
}
