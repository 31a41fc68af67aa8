package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tidings-bus/tidings/deadletter"
)

// crew are the members of a group, who come and go.
type crew struct {
	s      *scene
	spec   member // without a name
	random *rand.Rand
	began  int
	at     []*process
}

func (s *scene) crew(spec member, random *rand.Rand) *crew {
	return &crew{s: s, spec: spec, random: random}
}

// join starts a member with a name of its own, and returns when it runs: before
// that it does not know how to stop.
func (c *crew) join() *process {
	c.s.t.Helper()
	spec := c.spec
	spec.Name = fmt.Sprintf("m%d", c.began)
	c.began++
	p := c.s.member(spec)
	c.at = append(c.at, p)
	c.s.awaitLog(p, "router runs")
	return p
}

// leave stops a member in good order, and kill ends one as a crash does.
func (c *crew) leave() { c.s.t.Helper(); c.take().stop(c.s.t) }
func (c *crew) kill()  { c.s.t.Helper(); c.take().kill(c.s.t) }

// take takes one by chance from the list.
func (c *crew) take() *process {
	i := c.random.IntN(len(c.at))
	p := c.at[i]
	c.at = slices.Delete(c.at, i, i+1)
	return p
}

// killRetrier kills a member that is retrying a parked key of the group.
func (c *crew) killRetrier(store deadletter.Store) {
	c.s.t.Helper()
	var i int
	c.s.await("a member retries a key", func(ctx context.Context) (bool, string, error) {
		keys, err := store.Keys(ctx, deadletter.Filter{Group: c.spec.Group}, 0, deadletter.MaxPage)
		for _, k := range keys {
			i = slices.IndexFunc(c.at, func(p *process) bool { return k.Member == fmt.Sprintf("%s-%d", p.name, p.cmd.Process.Pid) })
			if i >= 0 {
				return true, "", nil
			}
		}
		return false, fmt.Sprintf("%d keys are parked", len(keys)), err
	})
	p := c.at[i]
	c.at = slices.Delete(c.at, i, i+1)
	p.kill(c.s.t)
}

// stop stops all in good order.
func (c *crew) stop(t *testing.T) {
	t.Helper()
	for _, p := range c.at {
		p.stop(t)
	}
	c.at = nil
}

// awaitSettled waits until the members that there are have all partitions, and
// nobody else is in the group: each step to it was a rebalance.
func (c *crew) awaitSettled(partitions int) {
	c.s.t.Helper()
	var want []string
	for _, p := range c.at {
		want = append(want, p.name)
	}
	slices.Sort(want)
	c.s.await(fmt.Sprintf("the group is of %v", want), func(ctx context.Context) (bool, string, error) {
		described, err := c.s.admin.DescribeGroups(ctx, c.spec.Group)
		if err == nil {
			err = described.Error()
		}
		if err != nil {
			return false, "", err
		}
		g := described[c.spec.Group]
		var names []string
		assigned := 0
		for _, m := range g.Members {
			names = append(names, m.ClientID)
			if a, ok := m.Assigned.AsConsumer(); ok {
				for _, topic := range a.Topics {
					assigned += len(topic.Partitions)
				}
			}
		}
		slices.Sort(names)
		return g.State == "Stable" && slices.Equal(names, want) && assigned == partitions,
			fmt.Sprintf("%s: %d partitions of %v", g.State, assigned, names), nil
	})
}
