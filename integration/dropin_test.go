package integration

import (
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/integration/conformance"
	"github.com/tidings-bus/tidings/internal/testenv"
	"github.com/tidings-bus/tidings/subscriber/watermillkafka"
)

// dropIn is the subscriber for services that had watermill-kafka's.
func (m *member) dropIn() (message.Subscriber, error) {
	c := m.subscription()
	config := kafka.DefaultSaramaSubscriberConfig()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Interval = 500 * time.Millisecond
	config.Consumer.Group.Session.Timeout = c.Timings.Session
	config.Consumer.Group.Heartbeat.Interval = c.Timings.Session / 6
	return watermillkafka.NewSubscriber(kafka.SubscriberConfig{
		Brokers:               m.Brokers,
		ConsumerGroup:         m.Group,
		Unmarshaler:           watermillkafka.Marshaler{},
		OverwriteSaramaConfig: config,
	}, watermillkafka.LanesConfig{
		RunAhead: c.Limits.RunAhead, PartitionPending: c.Limits.PartitionPending,
	}, watermill.NewSlogLogger(slog.Default()))
}

// The fault suites, with watermillkafka's subscriber in the place of package
// subscriber's: I3 to I5 hold as there.

func TestDropInKilledInTheMiddleOfItsWorkLosesAndDoublesNothing(t *testing.T) {
	killInTheMiddle(t, stage{dropIn: true})
}

func TestDropInsJoinAndLeaveWhileEveryTwentiethEventFails(t *testing.T) {
	joinAndLeave(t, stage{partitions: 6, dropIn: true})
}

func TestDropInOutlivesABrokerKilledAndRestarted(t *testing.T) {
	killBroker(t, stage{dropIn: true})
}

func TestPartitionsMoveBetweenOneThreeAndTwoDropIns(t *testing.T) {
	movePartitions(t, stage{partitions: 6, dropIn: true})
}

func TestDropInPassesWatermillsOwnSuite(t *testing.T) {
	conn := connection.Config{Brokers: testenv.Kafka(t)}
	deadline := time.AfterFunc(budget(t), func() { panic("watermill's suite exceeded its budget") })
	t.Cleanup(func() { deadline.Stop() }) // after the parallel tests
	conformance.DropIn(t, conn, !testenv.Long())
}

// Graceful steps repeat nothing: members that join and leave in good order while
// all works get no event twice. The inbox would hide it: its answers are counted.
func TestDropInsThatComeAndGoInOrderRepeatNothing(t *testing.T) {
	s := newScene(t, stage{partitions: 6, dropIn: true})
	events := plan("o", size(shape{120, 20}, shape{600, 100}))
	s.expect(events)
	hs := []handlerSpec{
		{Name: "open", Type: placed, Work: 10 * time.Millisecond},
		{Name: "book", Type: changed, Work: 10 * time.Millisecond},
		{Name: "settle", Type: closed, Work: 10 * time.Millisecond},
	}
	s.takes("billing", hs)
	spec := func(name string) member { return member{Name: name, Group: "billing", Handlers: hs} }
	producing := s.producer(producer{Slice: 20, Pace: 250 * time.Millisecond})
	members := []*process{s.member(spec("m0"))}
	s.awaitEffects(50, "member = 'm0'")
	for i := range size(3, 12) {
		name := fmt.Sprintf("m%d", i+1)
		members = append(members, s.member(spec(name)))
		s.awaitEffects(50, "member = $1", name)
		members[0].stop(t)
		members = members[1:]
	}
	producing.release(t)
	s.awaitDrained("billing")
	for _, m := range members {
		m.stop(t)
	}
	s.requireEffectsOnce("billing")
	require.Zero(t, s.duplicates(), "events that came again after orderly steps")
}

// duplicates sums what the members, who have ended, say of themselves.
func (s *scene) duplicates() (n int) {
	s.t.Helper()
	counted := regexp.MustCompile(duplicatesLine + `.* count=(\d+)`)
	for _, p := range s.processes {
		if p.role != roleMember {
			continue
		}
		found := counted.FindStringSubmatch(p.log.String())
		require.NotNil(s.t, found, "process %s does not say how many duplicates it had", p.name)
		one, err := strconv.Atoi(found[1])
		require.NoError(s.t, err)
		n += one
	}
	return n
}

const duplicatesLine = "duplicates that the inbox kept from handlers"

// countDuplicates returns what writes their number to the log.
func (m *member) countDuplicates() func() {
	registry := prometheus.NewRegistry()
	m.metrics = registry
	return func() {
		families, err := registry.Gather()
		if err != nil {
			slog.Error("the metrics cannot be read", "cause", err)
			return
		}
		n := 0.0
		for _, f := range families {
			for _, one := range f.GetMetric() {
				for _, label := range one.GetLabel() {
					if f.GetName() == "tidings_router_events_total" && label.GetValue() == "duplicate" {
						n += one.GetCounter().GetValue()
					}
				}
			}
		}
		slog.Info(duplicatesLine, "count", int(n))
	}
}
