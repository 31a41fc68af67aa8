package kafkastore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/deadletter/kafkastore"
	"github.com/tidings-bus/tidings/deadletter/storetest"
	"github.com/tidings-bus/tidings/internal/testenv"
)

func TestStore(t *testing.T) {
	suite(t, config(newCluster(t)), 10)
}

// The same on a real broker, with what only that has: its latency, its limits of
// topics' settings, its order of acknowledgments.
func TestStoreOnARealBroker(t *testing.T) {
	c := config(newCluster(t))
	c.Connection = connection.Config{Brokers: testenv.Kafka(t)}
	c.Timeout = 30 * time.Second
	suite(t, c, 5)
}

func suite(t *testing.T, config kafkastore.Config, rounds int) {
	t.Helper()
	storetest.Run(t, func(t *testing.T) storetest.Fixture {
		config := config
		config.Topic = testenv.Name("parked")
		var members [2]*member
		for i := range members {
			s, err := kafkastore.NewOfGroups(config)
			require.NoError(t, err)
			members[i] = run(t, s)
		}
		return storetest.Fixture{
			Store: members[0].Letters(), Second: members[1].Letters(), Box: members[0].Store,
			Forgets: true, Rounds: rounds,
		}
	})
}
