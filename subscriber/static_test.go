package subscriber_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidings-bus/tidings/subscriber"
)

// Two processes of one InstanceID: the later one has the partitions, and the
// other says why it has none, until it may take its place again.
func TestAReplacedStaticMemberSaysWhyAndTakesItsPlaceAgain(t *testing.T) {
	c := newCluster(t, 1, "orders")
	config := c.config("billing")
	config.InstanceID, config.Timings.Session = "billing-0", 3*time.Second
	first, _ := subscribe(t, config, "orders")
	await(t, "joined", func() bool { return first.Ready(context.Background()) == nil })
	second, err := subscriber.New(config)
	require.NoError(t, err)
	defer second.Close()
	_, err = second.Subscribe(context.Background(), "orders")
	require.NoError(t, err)
	await(t, "the second is in its place", func() bool { return len(subscriber.PartitionsForTest(second)) == 1 })
	await(t, "the first says why", func() bool {
		err := first.Ready(context.Background())
		return err != nil && strings.Contains(err.Error(), "replaced by a process that joined under the same InstanceID: "+
			kerr.FencedInstanceID.Message+": ")
	})
	require.ErrorIs(t, first.Ready(context.Background()), kerr.FencedInstanceID)
	require.Empty(t, subscriber.PartitionsForTest(first))
	require.NoError(t, second.Close())
	await(t, "the first is back when the session of the second has ended", func() bool {
		return len(subscriber.PartitionsForTest(first)) == 1
	})
}
