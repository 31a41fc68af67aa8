package replica_test

import (
	"context"
	"testing"

	"go.uber.org/goleak"

	"github.com/tidings-bus/tidings/deadletter/internal/replica"
	"github.com/tidings-bus/tidings/deadletter/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// box is a store as plain handlers have it.
type box struct{ *replica.Store }

func (box) Check(context.Context) error { return nil }
func (box) Keep(context.Context) error  { return nil }

func TestStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Fixture {
		m := replica.NewMemory()
		first := replica.New(m, m.State, "", 0)
		return storetest.Fixture{Store: first, Second: replica.New(m, m.State, "", 0), Box: box{first}, Forgets: true}
	})
}
