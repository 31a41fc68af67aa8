package integration

import (
	"testing"
	"time"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/integration/conformance"
	"github.com/tidings-bus/tidings/internal/testenv"
)

// TestPublisherAndSubscriberPassWatermillsOwnSuite runs it over raw messages.
func TestPublisherAndSubscriberPassWatermillsOwnSuite(t *testing.T) {
	conn := connection.Config{Brokers: testenv.Kafka(t)}
	deadline := time.AfterFunc(budget(t), func() { panic("watermill's suite exceeded its budget") })
	t.Cleanup(func() { deadline.Stop() }) // after the parallel tests
	conformance.Watermill(t, conn, !testenv.Long())
}
