package watermillkafka_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/integration/conformance"
)

// watermill's own suite: stock watermill-kafka's publisher and the drop-in.
func TestWatermillConformance(t *testing.T) {
	// The sizes of watermill's own runs, 50 members in a group, with TIDINGS_TEST_LONG.
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	conformance.DropIn(t, connection.Config{Brokers: c.ListenAddrs()}, os.Getenv("TIDINGS_TEST_LONG") == "")
}
