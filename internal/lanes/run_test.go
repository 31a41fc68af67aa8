package lanes

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// modelGroup is a message and what was gathered in its slot.
type modelGroup struct {
	*Group[*modelMessage]

	p      *Partition[*modelMessage]
	leader *Item[*modelMessage]
	open   []*Item[*modelMessage] // not settled
	lost   []*Item[*modelMessage] // settled, or taken back
}

func (g *modelGroup) has(v *modelMessage) bool {
	return g != nil && slices.ContainsFunc(g.open, func(it *Item[*modelMessage]) bool { return it.Value == v })
}

// led tells whether its leader is settled: only the slot is in use.
func (g *modelGroup) led() bool { return !slices.Contains(g.open, g.leader) }

// gather begins a group in the slot of a message that was handed over, or adds
// to one.
func (m *model) gather() {
	var g *modelGroup
	if len(m.groups) > 0 && m.random(3) == 0 {
		g = m.groups[m.random(len(m.groups))]
		if g.led() {
			return
		}
	} else {
		if len(m.out) == 0 {
			return
		}
		i := m.random(len(m.out))
		it := m.out[i]
		if !it.Value.handed || m.partition(it.partition) == nil {
			return
		}
		m.out = slices.Delete(m.out, i, i+1)
		g = &modelGroup{p: it.partition, leader: it, open: []*Item[*modelMessage]{it}, Group: it.Group()}
		m.groups = append(m.groups, g)
	}
	most, bytes := m.random(6), int64(m.random(900))
	phase, alone := g.p.phase, g.leader.alone
	taken := g.Gather(most, bytes)
	m.logf("gather %d of %d/%d", len(taken), g.p.id, g.leader.offset)
	if len(taken) > 0 && (alone || phase != open && phase != draining) {
		m.failf("message %d gathered others in phase %d, alone %v", g.leader.offset, phase, alone)
	}
	for _, it := range taken {
		bytes -= it.size
		if it.partition != g.p || it.alone || !it.handed.Load() {
			m.failf("message %d was gathered from partition %d, alone %v", it.offset, it.partition.id, it.alone)
		}
		m.began(it, g)
		it.Value.gathered, it.Value.handed, it.Value.started = true, true, true
		g.open = append(g.open, it)
	}
	if len(taken) > most || bytes < 0 {
		m.failf("%d messages gathered where %d were asked for, %d bytes are left", len(taken), most, bytes)
	}
}

// settle settles some of a group, or all of it and ends its work.
func (m *model) settle() {
	if len(m.groups) == 0 {
		return
	}
	i := m.random(len(m.groups))
	g := m.groups[i]
	n := len(g.open)
	end := m.random(3) == 0
	if !end {
		n = m.random(n + 1)
	}
	its := slices.Clone(g.open[:n])
	var outs []Outcome
	back := map[string]bool{} // keys whose later messages go back
	gone := m.partition(g.p) == nil
	for _, it := range its {
		out := []Outcome{Finished(), Finished(), Finished(), RetryIn(time.Duration(m.random(3)) * 100 * time.Millisecond), RetryIn(0).Alone(), Withdrawn()}[m.random(6)]
		outs = append(outs, out)
		v := it.Value
		m.logf("settle %d/%d %v", g.p.id, v.offset, out)
		if back[v.key] {
			m.restore(v)
		} else {
			v.running, v.handed, v.gathered = false, false, false
			switch out.verdict {
			case finished:
				v.finished = !gone
			case withdrawn:
				v.attempts--
			case failed:
			}
		}
		back[v.key] = back[v.key] || v.key != "" && out.verdict != finished
	}
	g.open = slices.DeleteFunc(g.open, func(it *Item[*modelMessage]) bool {
		taken := slices.Contains(its, it)
		if !taken && back[it.Value.key] { // the set took it back with the one before it
			m.restore(it.Value)
			g.lost = append(g.lost, it)
			return true
		}
		return taken
	})
	// What is said of others changes nothing, whoever has them now.
	late := len(g.lost)
	g.lost = append(g.lost, its...)
	its = append(slices.Clone(g.lost[:late]), its...)
	for range late {
		outs = slices.Insert(outs, 0, []Outcome{Finished(), RetryIn(0), Withdrawn()}[m.random(3)])
	}
	g.Settle(its, outs)
	if !end {
		return
	}
	m.groups = slices.Delete(m.groups, i, i+1)
	m.s.mu.Lock()
	m.s.vacate(g.leader)
	m.s.mu.Unlock()
}

func (m *model) restore(v *modelMessage) {
	if v.running {
		v.attempts--
	}
	v.running, v.handed, v.gathered = false, false, false
}

func TestGatheredMessagesAreSettledEachOnItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := roomy
		limits.Running, limits.PartitionRunning = 1, 1
		var rounds [][]string
		failed := false
		s := New(Config[string]{Limits: limits, Work: func(it *Item[string]) Outcome {
			g := it.Group()
			its := append([]*Item[string]{it}, g.Gather(5, 1<<20)...)
			var round []string
			outs := make([]Outcome, len(its))
			for i, it := range its {
				round = append(round, it.Value)
				if it.Value == "a1" && !failed {
					outs[i] = RetryIn(time.Second).Alone()
					failed = true
				}
			}
			rounds = append(rounds, round)
			g.Settle(its, outs)
			return Finished()
		}})
		p := s.Open(0)
		require.NoError(t, p.Add(entries("a", "a", "b", "a", "b", "c", "c", "")...))
		synctest.Wait()
		require.Equal(t, [][]string{{"a0", "a1", "a3", "b2", "b4", "c5"}, {"7", "c6"}}, rounds,
			"runs of a key in order, a full round, and a failed one's followers wait behind it")
		next, _ := p.Watermark()
		require.Equal(t, int64(1), next)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, [][]string{{"a1"}, {"a3"}}, rounds[2:], "what failed runs alone")
		next, _ = p.Watermark()
		require.Equal(t, int64(8), next)
		s.Close()
	})
}

func TestGatherLeavesWhatWasToBeTriedAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := roomy
		limits.Running, limits.PartitionRunning = 1, 1
		hold := make(chan struct{})
		var gathered []string
		s := New(Config[string]{Limits: limits, Work: func(it *Item[string]) Outcome {
			switch {
			case it.Value == "a0" && it.Attempt() == 1:
				return RetryIn(0).Alone()
			case it.Value == "b1" && it.Attempt() == 1:
				<-hold
				g := it.Group()
				its := append([]*Item[string]{it}, g.Gather(10, 1<<20)...)
				for _, it := range its {
					gathered = append(gathered, it.Value)
				}
				g.Settle(its, make([]Outcome, len(its)))
			}
			return Finished()
		}})
		p := s.Open(0)
		require.NoError(t, p.Add(entries("a")...))
		require.NoError(t, p.Add(Entry[string]{Offset: 1, Key: []byte("b"), Value: "b1"}, Entry[string]{Offset: 2, Key: []byte("c"), Value: "c2"}))
		synctest.Wait()
		close(hold)
		synctest.Wait()
		require.Equal(t, []string{"b1", "c2"}, gathered)
		next, _ := p.Watermark()
		require.Equal(t, int64(3), next)
		s.Close()
	})
}
