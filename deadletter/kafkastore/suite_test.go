package kafkastore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/deadletter/kafkastore"
	"github.com/tidings-bus/tidings/deadletter/storetest"
)

func TestStore(t *testing.T) {
	c := newCluster(t)
	number := 0
	storetest.Run(t, func(t *testing.T) storetest.Fixture {
		number++
		config := config(c)
		config.Topic = "parked-" + name(number)
		var members [2]*member
		for i := range members {
			s, err := kafkastore.NewOfGroups(config)
			require.NoError(t, err)
			members[i] = run(t, s)
		}
		return storetest.Fixture{
			Store: members[0].Letters(), Second: members[1].Letters(), Box: members[0].Store,
			Forgets: true, Rounds: 10,
		}
	})
}
