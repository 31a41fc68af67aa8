package watermillkafka

import (
	"time"

	"github.com/IBM/sarama"
)

// SubscriberConfig is a sarama configuration for watermill-kafka's
// SubscriberConfig.OverwriteSaramaConfig. Where it differs from watermill-kafka's
// default: new groups start at the oldest message instead of skipping history;
// aborted transactional records are not read; and little is fetched ahead, so
// that one slow partition holds the others of its broker for fractions of a
// second instead of seconds. Add Net.TLS and Net.SASL as needed.
func SubscriberConfig() *sarama.Config {
	c := saramaConfig()
	c.Consumer.Return.Errors = true
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.IsolationLevel = sarama.ReadCommitted
	c.Consumer.MaxProcessingTime = 5 * time.Millisecond
	c.Consumer.Fetch.Default = 64 << 10
	c.ChannelBufferSize = 16
	return c
}

// PublisherConfig is a sarama configuration for watermill-kafka's
// PublisherConfig.OverwriteSaramaConfig. Where it differs from watermill-kafka's
// default: a message counts as sent when all in-sync replicas have it, instead of
// one; sending again after a failure neither doubles nor reorders; and keys go
// where our publisher sends them.
func PublisherConfig() *sarama.Config {
	c := saramaConfig()
	c.Producer.Return.Successes = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Idempotent = true
	c.Producer.Retry.Max = 10
	c.Net.MaxOpenRequests = 1
	c.Producer.Partitioner = sarama.NewMurmur2Partitioner // as Java's clients
	return c
}

func saramaConfig() *sarama.Config {
	c := sarama.NewConfig()
	c.ClientID = "tidings"
	c.Version = sarama.V2_8_0_0
	return c
}
