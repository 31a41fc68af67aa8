package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/internal/testenv"
)

func newReading(t *testing.T, partitions int32, work time.Duration) (*reading, *kgo.Client, context.Context) {
	t.Helper()
	brokers := testenv.Kafka(t)
	ctx, cancel := context.WithTimeoutCause(t.Context(), budget(t), fmt.Errorf("%s is over its budget of %v", t.Name(), budget(t)))
	t.Cleanup(cancel)
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	topic := testenv.Name("reading")
	_, err = kadm.NewClient(client).CreateTopic(ctx, partitions, 1, nil, topic)
	require.NoError(t, err)
	return &reading{
		t: t, dir: t.TempDir(), readers: map[string]*process{},
		spec: reader{Group: topic + "-readers", Brokers: brokers, Topic: topic, Work: work},
	}, client, ctx
}

// Ten thousand events are finished ahead of one that is stuck when their member
// dies of SIGKILL: the next owner hands out that one, and no other (I5).
func TestASuccessorHandsOutOnlyWhatItsKilledPredecessorHadNotFinished(t *testing.T) {
	g, client, ctx := newReading(t, 1, 0)
	const total = 10_001
	var records []*kgo.Record
	for i := range total {
		records = append(records, &kgo.Record{Topic: g.spec.Topic, Key: fmt.Appendf(nil, "k%d", i), Value: []byte("{}")})
	}
	require.NoError(t, client.ProduceSync(ctx, records...).FirstErr())
	victim := g.start("victim", 1) // offset 0
	g.await(ctx, "all but one", func() bool { return done(g.notes("victim")) == total-1 })
	admin := kadm.NewClient(client)
	committed := func() kadm.Offset {
		offsets, err := admin.FetchOffsets(ctx, g.spec.Group)
		require.NoError(t, err)
		o, _ := offsets.Lookup(g.spec.Topic, 0)
		return o.Offset
	}
	// Two commits' time after the last was finished nothing is left to commit.
	last, since := committed(), time.Now()
	g.await(ctx, "the commit", func() bool {
		if o := committed(); o != last {
			last, since = o, time.Now()
		}
		return strings.HasPrefix(last.Metadata, "t1.") && time.Since(since) > 1500*time.Millisecond
	})
	require.Zero(t, last.At)
	t.Logf("metadata of %d finished ahead: %q", total-1, last.Metadata)
	victim.kill(t)

	heir := g.start("heir", 0)
	g.await(ctx, "the watermark", func() bool { return committed().At == total })
	heir.stop(t)
	begun := g.notes("heir")
	require.Len(t, begun, 2, "one event is begun and done")
	require.Zero(t, begun[0].offset)
}

// Members join, leave and die under load, with handlers of 10 ms: what leaves in
// good order repeats nothing, a kill repeats what was finished in half a second
// at most, and no partition stands still for long.
func TestRebalancesRepeatNothingAndPauseShortly(t *testing.T) {
	const partitions, perSecond = 6, 600
	g, client, ctx := newReading(t, partitions, 10*time.Millisecond)
	producing, stop := context.WithCancel(ctx)
	produced := make(chan int)
	go func() {
		n := 0
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for producing.Err() == nil {
			var records []*kgo.Record
			for range perSecond / 50 {
				records = append(records, &kgo.Record{Topic: g.spec.Topic, Key: fmt.Appendf(nil, "k%d", n%997), Value: []byte("{}")})
				n++
			}
			if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
				t.Errorf("produce: %v", err)
				break
			}
			<-tick.C
		}
		produced <- n
	}()
	defer stop()

	// settle waits until every partition is read on, and the named by the reader.
	settle := func(what, reader string) {
		from := time.Now()
		g.await(ctx, what, func() bool {
			read := map[int32]bool{}
			for _, n := range g.notes() {
				if n.done && n.at.After(from.Add(time.Second)) {
					read[n.partition] = true
				}
			}
			mine := reader == "" || slices.ContainsFunc(g.notes(reader), func(n noted) bool { return n.done })
			return len(read) == partitions && mine
		})
		pause, partition := longestPause(g.notes(), from)
		first := ""
		if reader != "" {
			first = fmt.Sprintf(", first message after %v", g.notes(reader)[0].at.Sub(from).Round(10*time.Millisecond))
		}
		t.Logf("%s: longest pause %v, of partition %d%s", what, pause.Round(time.Millisecond), partition, first)
		require.Less(t, pause, 20*time.Second)
	}
	repeated := func() int {
		times := map[[2]int64]int{}
		n := 0
		for _, x := range g.notes() {
			if at := [2]int64{int64(x.partition), x.offset}; x.done {
				times[at]++
				n += min(1, times[at]-1)
			}
		}
		return n
	}
	first := g.start("a", 0)
	settle("a begins", "a")
	g.start("b", 0)
	settle("b joins", "b")
	third := g.start("c", 0)
	settle("c joins", "c")
	first.stop(t)
	settle("a leaves", "")
	g.start("d", 0)
	settle("d joins", "d")
	require.Zero(t, repeated(), "graceful steps repeat nothing")

	third.kill(t)
	settle("c is killed", "")
	stop()
	total := <-produced
	g.await(ctx, "all", func() bool {
		seen := map[[2]int64]bool{}
		for _, x := range g.notes() {
			if x.done {
				seen[[2]int64{int64(x.partition), x.offset}] = true
			}
		}
		return len(seen) == total
	})
	t.Logf("%d of %d events were finished twice after the kill", repeated(), total)
	require.LessOrEqual(t, repeated(), perSecond/2, "what was finished in half a second")
	for _, name := range []string{"b", "d"} {
		g.readers[name].stop(t)
	}
}

// longestPause is the longest time in which nothing of a partition was begun.
func longestPause(all []noted, from time.Time) (time.Duration, int32) {
	slices.SortFunc(all, func(a, b noted) int { return a.at.Compare(b.at) })
	last := map[int32]time.Time{}
	var pause time.Duration
	var partition int32
	for _, n := range all {
		if n.done {
			continue
		}
		if before, ok := last[n.partition]; ok && n.at.After(from) && n.at.Sub(before) > pause {
			pause, partition = n.at.Sub(before), n.partition
		}
		last[n.partition] = n.at
	}
	return pause, partition
}
