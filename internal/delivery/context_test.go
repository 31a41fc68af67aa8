package delivery_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/tidings-bus/tidings/internal/delivery"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type key struct{}

func TestContextCarriesDeliveryAndParentsValuesButNotItsEnd(t *testing.T) {
	parent, cancel := context.WithCancel(context.WithValue(context.Background(), key{}, "v"))
	d := &delivery.Delivery{Offset: 7}
	ctx := delivery.Start(context.WithoutCancel(parent), d)
	cancel()
	require.Equal(t, "v", ctx.Value(key{}))
	require.Same(t, d, delivery.FromContext(context.WithValue(ctx, key{}, 1)))
	require.NoError(t, ctx.Err())
	select {
	case <-ctx.Done():
		t.Fatal("ended with its parent")
	default:
	}
	ctx.Cancel()
	ctx.Cancel()
	<-ctx.Done()
	require.ErrorIs(t, ctx.Err(), context.Canceled)
	require.ErrorIs(t, context.Cause(ctx), context.Canceled)
}

func TestDerivedContextsEndWithItAndLeaveNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := delivery.Start(context.Background(), nil)
		child, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		other, drop := context.WithCancel(ctx)
		drop() // leaves the parent again
		require.Error(t, other.Err())
		ran, stopped := false, false
		context.AfterFunc(ctx, func() { ran = true })
		stop := context.AfterFunc(ctx, func() { stopped = true })
		require.True(t, stop())
		require.False(t, stop())
		ctx.Cancel()
		synctest.Wait()
		require.ErrorIs(t, child.Err(), context.Canceled)
		require.True(t, ran)
		require.False(t, stopped)
		late := make(chan struct{})
		context.AfterFunc(ctx, func() { close(late) })
		<-late
	})
}

func TestDoneAfterCancelIsClosed(t *testing.T) {
	ctx := delivery.Start(context.Background(), nil)
	ctx.Cancel()
	<-ctx.Done()
	require.Nil(t, delivery.FromContext(ctx))
	require.Nil(t, delivery.FromContext(context.Background()))
}
