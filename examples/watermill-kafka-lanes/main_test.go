package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/internal/broker"
	"github.com/tidings-bus/tidings/publisher"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick")) // sarama's, for the process's life
}

const (
	keys   = 10
	perKey = 5
	broken = "order-3" // of which no mail can be sent
)

// What the migration page promises: the failing order stands still before and
// after; the others stand behind it before, and go on after, each in order, from
// where the service was.
func TestOnlyTheFailingOrderStandsStillAfterTheChange(t *testing.T) {
	b, err := broker.Start(broker.Config{Addr: "127.0.0.1:0"})
	require.NoError(t, err)
	defer b.Close()
	brokers := []string{b.Addr()}
	publish(t, brokers)
	sent := &mails{texts: map[string][]string{}}

	t.Run("before", func(t *testing.T) {
		tried := sent.serve(t, brokers, stockSubscriber)
		for range 3 {
			<-tried
		}
		// Three tries later nothing has come past the failing message.
		require.Less(t, sent.count(), keys)
	})
	t.Run("after", func(t *testing.T) {
		tried := sent.serve(t, brokers, laneSubscriber)
		<-tried
		require.Eventually(t, func() bool { return sent.count() == (keys-1)*perKey }, 20*time.Second, 10*time.Millisecond)
		for order, texts := range sent.texts {
			require.Equal(t, []string{"1", "2", "3", "4", "5"}, texts, order)
		}
		<-tried
	})
}

// mails are those that were sent, by order.
type mails struct {
	mu    sync.Mutex
	texts map[string][]string
}

func (s *mails) count() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, texts := range s.texts {
		n += len(texts)
	}
	return n
}

// serve runs the service until the end of the test. The channel receives when it
// tries the failing order.
func (s *mails) serve(t *testing.T, brokers []string, newSubscriber func([]string, watermill.LoggerAdapter) (message.Subscriber, error)) <-chan struct{} {
	t.Helper()
	sub, err := newSubscriber(brokers, watermill.NopLogger{})
	require.NoError(t, err)
	tried := make(chan struct{})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, sub, watermill.NopLogger{}, func(m *message.Message) error {
			key, _ := kafka.MessageKeyFromCtx(m.Context())
			if string(key) == broken {
				select {
				case tried <- struct{}{}:
				case <-ctx.Done():
				}
				return errors.New("no such address")
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if texts := s.texts[string(key)]; !slices.Contains(texts, string(m.Payload)) { // at least once is what is promised
				s.texts[string(key)] = append(texts, string(m.Payload))
			}
			return nil
		})
	}()
	t.Cleanup(func() { stop(); require.NoError(t, <-done) })
	return tried
}

// publish sends the orders' messages by stock's publisher, one partition.
func publish(t *testing.T, brokers []string) {
	t.Helper()
	topics, err := publisher.NewTopics(publisher.TopicsConfig{Connection: connection.Config{Brokers: brokers}})
	require.NoError(t, err)
	require.NoError(t, topics.Create(t.Context(), publisher.TopicSpec{Name: "orders", Partitions: 1}))
	require.NoError(t, topics.Close())
	pub, err := kafka.NewPublisher(kafka.PublisherConfig{
		Brokers: brokers,
		Marshaler: kafka.NewWithPartitioningMarshaler(func(_ string, m *message.Message) (string, error) {
			return m.Metadata.Get("order"), nil
		}),
	}, watermill.NopLogger{})
	require.NoError(t, err)
	defer pub.Close()
	for n := range perKey {
		for k := range keys {
			m := message.NewMessage(watermill.NewUUID(), fmt.Append(nil, n+1))
			m.Metadata.Set("order", fmt.Sprintf("order-%d", k))
			require.NoError(t, pub.Publish("orders", m))
		}
	}
}

// The code of the migration page is the code that is tested here.
func TestTheMigrationPagesCodeIsTheCodeThatIsTested(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "migrating-from-watermill-kafka.md"))
	require.NoError(t, err)
	var shown []string
	for _, m := range regexp.MustCompile("(?ms)^```go\n(.*?)^```$").FindAllStringSubmatch(string(page), -1) {
		shown = append(shown, strings.TrimSpace(m[1]))
	}
	var tested []string
	for _, file := range []string{"before.go", "after.go", "main.go"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`(?ms)^// MIGRATION: \w+\.\n(.*?)^// MIGRATION end\.$`).FindAllStringSubmatch(string(text), -1) {
			tested = append(tested, strings.TrimSpace(m[1]))
		}
	}
	require.Len(t, tested, 3)
	require.Equal(t, tested, shown)
}
