package kafkastore_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/deadletter/kafkastore"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// The heart of it: a Look that began after a park was acknowledged sees it, in
// any member, however slow its reading is.
func TestI6NoLookThatBeganAfterAParkMissesIt(t *testing.T) {
	c := newCluster(t)
	a, b := newMember(t, c), newMember(t, c)
	b.look(admission("o-0", "0"), inbox.Fresh)
	var workers sync.WaitGroup
	for i := range 8 {
		workers.Go(func() {
			for j := range 40 {
				key := name(i*1000 + j)
				if answer, err := a.Park(t.Context(), admission(key, "1"), failed("no")); err != nil || answer != inbox.Parked {
					t.Errorf("park: %v, %v", answer, err)
				}
				if answer, err := b.Look(t.Context(), admission(key, "2")); err != nil || answer != inbox.Parked {
					t.Errorf("I6: an event of the parked key %s was admitted: %v, %v", key, answer, err)
				}
			}
		})
	}
	workers.Wait()
}

func TestLooksThatWaitShareOneQuestion(t *testing.T) {
	c := newCluster(t)
	a := newMember(t, c)
	a.look(admission("o-1", "1"), inbox.Fresh)
	questions := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Count: -1, Observe: true})
	var looks sync.WaitGroup
	for range 500 {
		looks.Go(func() { a.look(admission("o-1", "1"), inbox.Fresh) })
	}
	looks.Wait()
	require.Less(t, questions.Hits(), 250)
	require.Positive(t, questions.Hits())
}

func TestWithoutBrokersNothingIsAdmittedAndNothingIsAnsweredAsParked(t *testing.T) {
	c := newCluster(t)
	config := config(c)
	config.Timeout = 300 * time.Millisecond
	a := start(t, config)
	a.line("o-1", "1")
	fault := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Err: kerr.NotLeaderForPartition, Count: -1})
	_, err := a.Look(t.Context(), admission("o-1", "2"))
	require.ErrorIs(t, err, inbox.ErrNotAdmitted)
	require.Error(t, a.Ready(t.Context()))
	_, err = a.Park(t.Context(), admission("o-2", "3"), failed("no"))
	require.ErrorIs(t, err, inbox.ErrNotAdmitted)
	fault.Remove()
	require.Eventually(t, func() bool { return a.Ready(t.Context()) == nil }, 10*time.Second, 5*time.Millisecond)

	// The record is written and its answer does not come: in doubt, and asking
	// again settles it.
	e := admission("o-2", "4")
	fault = c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: -1})
	_, err = a.Park(t.Context(), e, failed("no"))
	require.ErrorIs(t, err, inbox.ErrCommitUnknown)
	fault.Remove()
	require.Eventually(t, func() bool {
		answer, err := a.Park(t.Context(), e, failed("no"))
		return err == nil && answer == inbox.Parked
	}, 10*time.Second, 5*time.Millisecond)
	require.Equal(t, []string{"4"}, a.parked()["o-2"], "once")
}

func TestAStoreThatDoesNotRunSaysSo(t *testing.T) {
	c := newCluster(t)
	config := config(c)
	config.Timeout = 50 * time.Millisecond
	s, err := kafkastore.New(config)
	require.NoError(t, err)
	_, err = s.Look(t.Context(), admission("o-1", "1"))
	require.ErrorIs(t, err, inbox.ErrNotAdmitted)
	require.ErrorContains(t, err, "Run")
	require.Error(t, s.Ready(t.Context()))
}

func TestRunAndKeepShareAReaderUntilTheLastHasEnded(t *testing.T) {
	c := newCluster(t)
	s, err := kafkastore.New(config(c))
	require.NoError(t, err)
	first, stopFirst := context.WithCancel(t.Context())
	second, stopSecond := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- s.Run(first) }()
	m := &member{Store: s, t: t}
	m.look(admission("o-1", "1"), inbox.Fresh)
	go func() { ended <- s.Keep(second) }()
	time.Sleep(10 * time.Millisecond) // most likely in: either way the look below must work
	stopFirst()
	require.NoError(t, <-ended)
	m.look(admission("o-1", "1"), inbox.Fresh)
	stopSecond()
	require.NoError(t, <-ended)
	require.Error(t, s.Ready(t.Context()))
	m = run(t, s) // and again
	m.look(admission("o-1", "1"), inbox.Fresh)
}

func TestFullDeadLettersRefuse(t *testing.T) {
	c := newCluster(t)
	a := newMember(t, c)
	bounded := func(key, value string, b inbox.Bounds) inbox.Admission {
		a := admission(key, value)
		a.Bounds = b
		return a
	}
	a.line("o-1", "1", "2")
	_, err := a.Park(t.Context(), bounded("o-1", "3", inbox.Bounds{Events: 2}), behind)
	require.ErrorIs(t, err, inbox.ErrFull)
	_, err = a.Park(t.Context(), bounded("o-1", strings.Repeat("x", 1000), inbox.Bounds{Bytes: 1000}), behind)
	require.ErrorIs(t, err, inbox.ErrFull)
	_, err = a.Park(t.Context(), bounded("o-1", "3", inbox.Bounds{Age: time.Nanosecond}), behind)
	require.ErrorIs(t, err, inbox.ErrFull)
	a.park(bounded("o-1", "3", inbox.Bounds{Events: 3, Bytes: 10_000, Age: time.Hour}), behind)

	config := config(c)
	config.MaxBytes = 2000
	b := start(t, config)
	_, err = b.Park(t.Context(), admission("o-2", strings.Repeat("x", 2000)), failed("no"))
	require.ErrorIs(t, err, inbox.ErrFull)
	require.ErrorContains(t, err, "memory")
	require.Equal(t, map[string][]string{"o-1": {"1", "2", "3"}}, b.parked())
}

func TestAnEventThatFitsNoRecordIsRefusedAndHoldsNothingUp(t *testing.T) {
	c := newCluster(t)
	a := newMember(t, c)
	a.park(admission("o-0", strings.Repeat("x", 1<<20)), failed("no")) // more than Kafka's default
	_, err := a.Park(t.Context(), admission("o-1", strings.Repeat("x", 9<<20)), failed("no"))
	require.Error(t, err)
	require.NotErrorIs(t, err, inbox.ErrCommitUnknown)
	a.park(admission("o-1", "1"), failed("no"))
	require.Len(t, a.all(), 2)
}

func TestTopicsThatWouldLoseLettersAreRefused(t *testing.T) {
	for _, c := range []struct {
		name       string
		partitions int32
		policy     string
		want       string
	}{
		{"several partitions", 3, "compact", "3 partitions"},
		{"deleted", 1, "delete", `"delete"`},
		{"compacted and deleted", 1, "compact,delete", `"compact,delete"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			cluster := newCluster(t)
			require.NoError(t, cluster.CreateTopic(letters, c.partitions, map[string]string{"cleanup.policy": c.policy}))
			s, err := kafkastore.New(config(cluster))
			require.NoError(t, err)
			require.ErrorContains(t, s.Check(t.Context()), c.want)
			require.ErrorContains(t, s.Run(t.Context()), c.want)
		})
	}
	cluster := newCluster(t)
	s, err := kafkastore.New(config(cluster))
	require.NoError(t, err)
	require.NoError(t, s.Check(t.Context()))
	require.NoError(t, s.Check(t.Context()), "they are there")
	require.Equal(t, "compact", *cluster.TopicInfo(letters).Configs["cleanup.policy"])
	require.Len(t, cluster.PartitionInfos(letters), 1)
	require.Equal(t, "2592000000", *cluster.TopicInfo(letters + ".log").Configs["retention.ms"])
}

func TestAConfigThatCannotWorkIsNamed(t *testing.T) {
	good := kafkastore.Config{Connection: connection.Config{Brokers: []string{"localhost:9092"}}, Group: group}
	_, err := kafkastore.New(good)
	require.NoError(t, err)
	for _, c := range []struct {
		field  string
		change func(*kafkastore.Config)
	}{
		{"Brokers", func(c *kafkastore.Config) { c.Connection.Brokers = nil }},
		{"Group", func(c *kafkastore.Config) { c.Group = "" }},
		{"Topic", func(c *kafkastore.Config) { c.Group = "über" }},
		{"Retention", func(c *kafkastore.Config) { c.Retention = time.Minute }},
		{"MaxBytes", func(c *kafkastore.Config) { c.MaxBytes = -1 }},
		{"Timeout", func(c *kafkastore.Config) { c.Timeout = -1 }},
	} {
		config := good
		c.change(&config)
		_, err := kafkastore.New(config)
		require.ErrorContains(t, err, c.field)
	}
}

func TestAnotherGroupsEventsAreRefused(t *testing.T) {
	c := newCluster(t)
	a := newMember(t, c)
	other := admission("o-1", "1")
	other.Handler.Group = "shipping"
	_, err := a.Look(t.Context(), other)
	require.ErrorContains(t, err, "shipping")
	_, err = a.Park(t.Context(), other, failed("no"))
	require.ErrorContains(t, err, "shipping")
	_, err = a.Letters().Ask(t.Context(), deadletter.Request{Group: "shipping", Kind: deadletter.RequestRetry}, ann)
	require.ErrorContains(t, err, "shipping")
}
