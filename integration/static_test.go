package integration

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidings-bus/tidings/internal/testenv"
)

// Ways for a member to go.
const (
	killed  = "killed"
	stopped = "stopped"
)

var departures = map[string]func(*process, *testing.T){
	killed:  (*process).kill,
	stopped: (*process).stop,
}

// A rolling restart of static members, by SIGKILL or in good order, while
// events flow: each comes back within its session to the partitions it had, the
// others' keep flowing, and nobody sees a rebalance: neither the members nor the
// group's coordinator. I3, I4 and I5 across it.
func TestAStaticMemberThatComesBackInTimeMovesNoPartition(t *testing.T) {
	for how, leave := range departures {
		t.Run(how, func(t *testing.T) {
			g := newStaticGroup(t, time.Minute, "a", "b", "c")
			assigned, generation := g.assigned(), g.generation()
			seen := map[string]sight{}
			for _, who := range g.names {
				seen[who] = g.look(who)
			}
			left := map[string]map[int32]int64{} // what was committed when each left
			for _, who := range g.names {
				g.awaitCommitted(assigned[who])
				leave(g.processes[who], t)
				g.step(who + " is away")
				var err error
				left[who], err = g.committed(g.ctx, g.group)
				require.NoError(t, err)
				g.awaitShared(g.group, g.others(who)...)
				require.Equal(t, assigned, g.assigned(), "%s must stay in the group while it is away", who)
				g.start(who)
				g.awaitShared(g.group, g.names...)
				g.step(who + " is back")
				for _, other := range g.others(who) {
					require.Equal(t, seen[other], g.look(other), "%s must see nothing of the restart of %s", other, who)
				}
				seen[who] = g.look(who)
				require.Equal(t, sight{rebalances: 1, moves: 1}, seen[who], "%s must have its partitions back at once", who)
			}
			g.finish()
			ends, err := g.admin.ListEndOffsets(g.ctx, g.topic)
			require.NoError(t, err)
			for _, who := range g.names {
				require.Equal(t, seen[who], g.look(who))
				var behind int64
				for _, id := range assigned[who] {
					end, ok := ends.Lookup(g.topic, id)
					require.True(t, ok)
					behind += end.Offset - left[who][id]
				}
				received := int64(g.metric(who, "tidings_subscriber_received_total"))
				repeated := int64(g.metric(who, "tidings_router_events_total", `outcome="duplicate"`))
				t.Logf("%s read %d messages after its return, %d of them applied before", who, received, repeated)
				if how == stopped {
					require.Equal(t, behind, received, "%s must go on from its last commit", who)
					require.Zero(t, repeated, "%s must repeat nothing after a stop in good order", who)
					continue
				}
				// The last commit of a killed process may still have been on its way.
				require.LessOrEqual(t, received, behind, "%s must go on from its last commit", who)
			}
			require.Equal(t, assigned, g.assigned())
			require.Equal(t, generation, g.generation(), "the coordinator must have seen no rebalance")
			require.Zero(t, g.sharedAggregates(), "aggregates that more than one member had")
			g.end()
		})
	}
}

// A static member that stays away, killed or stopped in good order, keeps its
// partitions until its session ends. Then they move to the others, and a member
// that comes back after that is a new one.
func TestAStaticMemberThatStaysAwayLosesItsPartitionsAfterItsSession(t *testing.T) {
	for how, leave := range departures {
		t.Run(how, func(t *testing.T) {
			const session = 6 * time.Second
			g := newStaticGroup(t, session, "a", "b", "c")
			away := g.names[1]
			seen := map[string]sight{}
			for _, who := range g.others(away) {
				seen[who] = g.look(who)
			}
			begin := time.Now()
			leave(g.processes[away], t)
			g.step(away + " is away")
			g.awaitEffects(1, `grp = $1 AND member <> $2 AND aggregate IN (SELECT aggregate FROM effect WHERE member = $2)`, g.group, away)
			// Its last sign of life was a little earlier than the end.
			require.Greater(t, time.Since(begin), session/2, "its partitions must wait for it")
			g.step("its partitions have moved")
			g.await("the others alone have all partitions", func(ctx context.Context) (bool, string, error) {
				now, err := g.tryAssigned(ctx)
				n := 0
				for _, ids := range now {
					n += len(ids)
				}
				return len(now) == 2 && n == staticPartitions, fmt.Sprint(now), err
			})
			for _, who := range g.others(away) {
				require.Greater(t, g.look(who).rebalances, seen[who].rebalances)
			}
			g.start(away)
			g.awaitShared(g.group, g.names...)
			g.step(away + " has partitions again")
			g.finish()
			g.end()
		})
	}
}

// A process that stands still is replaced by another of its name. When it wakes
// up, the broker refuses it: it reads nothing more, and what it had in hand is
// finished once, by either (I4). The rest of the group notices nothing.
func TestAStaticMemberThatWasReplacedReadsNothingMore(t *testing.T) {
	g := newStaticGroup(t, time.Minute, "a", "b")
	assigned, generation, seen := g.assigned(), g.generation(), g.look("b")
	frozen := g.processes["a"]
	g.processes["frozen"] = frozen
	require.NoError(t, frozen.cmd.Process.Signal(syscall.SIGSTOP))
	// What it has begun stays locked until it wakes: more connections than it has.
	spec := g.spec
	spec.Name, spec.Instance, spec.Connections = "successor", "a", 16
	g.processes["a"] = g.member(spec)
	g.awaitShared(g.group, "successor", "b")
	g.step("a has a successor")
	require.NoError(t, frozen.cmd.Process.Signal(syscall.SIGCONT))
	g.awaitLog(frozen, "partitions lost")
	g.step("a is awake and refused")
	read := g.metric("frozen", "tidings_subscriber_received_total")
	g.awaitShared(g.group, "successor", "b")
	require.Equal(t, assigned, g.assigned())
	g.finish()
	require.InDelta(t, read, g.metric("frozen", "tidings_subscriber_received_total"), 0)
	require.Equal(t, seen, g.look("b"))
	require.Equal(t, generation, g.generation(), "the coordinator must have seen no rebalance")
	frozen.stop(t)
	g.end()
}

// Nobody watches a topic while the leader is away: when it comes back to its old
// partitions, it must find those that were added meanwhile.
func TestAPartitionAddedWhileAStaticLeaderWasAwayIsGivenToAMember(t *testing.T) {
	g := newStaticGroup(t, time.Minute, "a")
	g.processes["a"].stop(t)
	added, err := g.admin.CreatePartitions(g.ctx, 2, g.topic)
	require.NoError(t, err)
	require.NoError(t, added.Error())
	g.start("a")
	g.await("all partitions have a member", func(ctx context.Context) (bool, string, error) {
		now, err := g.tryAssigned(ctx)
		return len(now["a"]) == staticPartitions+2, fmt.Sprint(now), err
	})
	g.finish()
	g.end()
}

// staticPartitions is how many partitions the static members share.
const staticPartitions = 6

// staticGroup is a group of static members amid a flow of events.
type staticGroup struct {
	*scene

	group     string
	names     []string
	spec      member
	producing *process
	processes map[string]*process // by the member's name, the newest
}

// newStaticGroup returns when each member has its share, and effects.
func newStaticGroup(t *testing.T, session time.Duration, names ...string) *staticGroup {
	t.Helper()
	g := &staticGroup{
		scene:     newScene(t, stage{partitions: staticPartitions}),
		group:     testenv.Name("billing"), // its members outlive the suite
		names:     names,
		processes: map[string]*process{},
	}
	g.expect(plan("o", size(shape{120, 30}, shape{600, 100})))
	hs := every(0, time.Millisecond)
	g.takes(g.group, hs)
	g.spec = member{Group: g.group, Handlers: hs, Session: session, Port: true}
	for _, name := range g.names {
		g.start(name)
	}
	g.await("each member has its share", func(ctx context.Context) (bool, string, error) {
		now, err := g.tryAssigned(ctx)
		done := len(now) == len(g.names)
		for _, ids := range now {
			done = done && len(ids) == staticPartitions/len(g.names)
		}
		return done, fmt.Sprint(now), err
	})
	g.producing = g.producer(producer{Slice: 15, Pace: 800 * time.Millisecond})
	g.awaitShared(g.group, g.names...)
	g.step("the group is complete")
	return g
}

// start starts the member of that name, again or for the first time.
func (g *staticGroup) start(name string) {
	g.t.Helper()
	spec := g.spec
	spec.Name, spec.Instance = name, name
	g.processes[name] = g.member(spec)
}

func (g *staticGroup) others(than string) []string {
	return slices.DeleteFunc(slices.Clone(g.names), func(name string) bool { return name == than })
}

// finish lets the rest of the events flow, and returns when all are applied.
func (g *staticGroup) finish() {
	g.t.Helper()
	require.True(g.t, g.producing.running(), "members must come and go while events flow")
	g.producing.release(g.t)
	g.awaitDrained(g.group)
}

// end stops all members, and counts.
func (g *staticGroup) end() {
	g.t.Helper()
	for _, name := range g.names {
		g.processes[name].stop(g.t)
	}
	g.requireEffectsOnce(g.group)
}

// assigned are the partitions by the name of the member, as the group has it.
func (g *staticGroup) assigned() map[string][]int32 {
	g.t.Helper()
	now, err := g.tryAssigned(g.ctx)
	require.NoError(g.t, err)
	return now
}

func (g *staticGroup) tryAssigned(ctx context.Context) (map[string][]int32, error) {
	groups, err := g.admin.DescribeGroups(ctx, g.group)
	if err == nil {
		err = groups.Error()
	}
	if err != nil {
		return nil, err
	}
	found := map[string][]int32{}
	for _, m := range groups[g.group].Members {
		if m.InstanceID == nil {
			return nil, fmt.Errorf("member %s is not static", m.MemberID)
		}
		assigned, ok := m.Assigned.AsConsumer()
		if !ok { // in a rebalance
			continue
		}
		for _, topic := range assigned.Topics {
			ids := slices.Clone(topic.Partitions)
			slices.Sort(ids)
			found[strings.TrimSuffix(*m.InstanceID, "-"+g.topic)] = ids
		}
	}
	return found, nil
}

// awaitCommitted waits until the group has committed something of each.
func (g *staticGroup) awaitCommitted(ids []int32) {
	g.t.Helper()
	g.await(fmt.Sprintf("offsets of the partitions %v are committed", ids), func(ctx context.Context) (bool, string, error) {
		now, err := g.committed(ctx, g.group)
		return !slices.ContainsFunc(ids, func(id int32) bool { return now[id] == 0 }), fmt.Sprint(now), err
	})
}

// sight is what a member has seen of its group.
type sight struct {
	rebalances float64 // as its metric counts them
	moves      int     // of partitions, as its log tells
}

func (g *staticGroup) look(name string) sight {
	g.t.Helper()
	return sight{
		rebalances: g.metric(name, "tidings_subscriber_rebalances_total"),
		moves:      strings.Count(g.processes[name].log.String(), `msg="partitions `),
	}
}

// metric is that of the member, see scene.metric.
func (g *staticGroup) metric(name, series string, label ...string) float64 {
	g.t.Helper()
	return g.scene.metric(g.processes[name], series, label...)
}

// sharedAggregates counts those which more than one member has handled.
func (g *staticGroup) sharedAggregates() (n int) {
	g.t.Helper()
	require.NoError(g.t, g.pool.QueryRow(g.ctx, `SELECT count(*) FROM
		(SELECT FROM effect WHERE grp = $1 GROUP BY aggregate HAVING count(DISTINCT member) > 1) a`, g.group).Scan(&n))
	return n
}

// Where Kafka keeps its groups, and the version of the keys of their states.
const (
	groupLog = "__consumer_offsets"
	groupKey = 2
)

// generation is the newest generation of the group in the coordinator's log:
// each rebalance begins another.
func (g *staticGroup) generation() (newest int32) {
	g.t.Helper()
	listed, err := g.admin.ListEndOffsets(g.ctx, groupLog)
	require.NoError(g.t, err)
	require.NoError(g.t, listed.Error())
	ends, from := map[int32]int64{}, map[int32]kgo.Offset{}
	listed.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			ends[o.Partition], from[o.Partition] = o.Offset, kgo.NewOffset().AtStart()
		}
	})
	cl, err := kgo.NewClient(kgo.SeedBrokers(g.brokers...), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{groupLog: from}))
	require.NoError(g.t, err)
	defer cl.Close()
	newest = -1
	for len(ends) > 0 {
		fetches := cl.PollFetches(g.ctx)
		require.NoError(g.t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			var key kmsg.GroupMetadataKey
			var value kmsg.GroupMetadataValue
			if key.ReadFrom(r.Key) == nil && key.Version == groupKey && key.Group == g.group && value.ReadFrom(r.Value) == nil {
				newest = max(newest, value.Generation)
			}
			maps.DeleteFunc(ends, func(id int32, end int64) bool { return id == r.Partition && r.Offset+1 >= end })
		})
	}
	require.Positive(g.t, newest, "the group's generation must be in the coordinator's log")
	return newest
}
