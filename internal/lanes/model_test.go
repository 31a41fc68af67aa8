package lanes

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// The model replays a schedule on a Set whose workers it plays itself, and
// checks the invariants after each step against a plain list of messages.

type modelMessage struct {
	offset                     int64
	key, tenant                string
	finished, running, skipped bool
	started                    bool // a handler had it, at any attempt
	handed                     bool // it has it now
	gathered                   bool // it shares the slot of another one
	attempts                   int
	size                       int64
	counted                    bool // against what may be pending
	room                       *Room
}

type modelPartition struct {
	p        *Partition[*modelMessage]
	log      []*modelMessage
	drained  chan bool // the result, once drain is called
	drainMax int64     // highest started when it was called
}

type model struct {
	t      testing.TB
	s      *Set[*modelMessage]
	random func(n int) int
	parts  []*modelPartition
	out    []*Item[*modelMessage] // taken, not booked
	groups []*modelGroup          // gathered, not settled
	nextID int32
	batch  int
	trace  []string
}

var modelLimits = Limits{
	Running: 7, PartitionRunning: 4, Pending: 60, PartitionPending: 30,
	RunAhead: 45, Bytes: 6000, PartitionBytes: 3500,
}

const modelPlace = 7

func newModel(t testing.TB, random func(int) int) *model {
	m := &model{t: t, random: random, batch: 6}
	config := Config[*modelMessage]{Limits: modelLimits, Offers: true, Place: modelPlace}
	if random(2) == 0 {
		config.Fair = &Fairness{Weights: map[string]int{"x": 3}}
	}
	m.s = New(config)
	m.s.started = modelLimits.Running // the model is all the workers there are
	return m
}

func (m *model) failf(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("%s\nafter: %v", fmt.Sprintf(format, args...), m.trace)
}

func (m *model) logf(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf(format, args...))
	if len(m.trace) > 60 {
		m.trace = m.trace[1:]
	}
}

func (m *model) step() {
	switch m.random(22) {
	case 0, 1, 2:
		m.add()
	case 3, 4, 5, 6:
		m.take()
	case 7, 8, 9:
		m.book(Finished())
	case 10:
		m.book(RetryIn(time.Duration(m.random(5)) * 100 * time.Millisecond))
	case 11:
		m.hand()
	case 12:
		m.book(Withdrawn())
	case 13:
		m.logf("sleep")
		time.Sleep(time.Duration(m.random(4)+1) * 60 * time.Millisecond)
	case 14:
		if m.random(4) == 0 {
			m.open()
		}
	case 15:
		if m.random(6) == 0 {
			m.end()
		}
	case 16, 17:
		m.follow()
	case 18:
		m.gather()
	case 19, 20:
		m.settle()
	case 21:
		m.pause()
	}
	synctest.Wait()
	m.check()
}

// pause pauses the Set now and then, for a few steps.
func (m *model) pause() {
	switch {
	case m.s.halted:
		m.logf("resume")
		m.s.Resume()
	case m.random(3) == 0:
		m.logf("pause")
		m.s.Pause()
	}
}

func (m *model) open() {
	if len(m.parts) >= 4 {
		return
	}
	m.logf("open %d", m.nextID)
	m.parts = append(m.parts, &modelPartition{p: m.s.Open(m.nextID), drainMax: -1})
	m.nextID++
}

func (m *model) some() *modelPartition {
	if len(m.parts) == 0 {
		return nil
	}
	return m.parts[m.random(len(m.parts))]
}

func (m *model) add() {
	mp := m.some()
	if mp == nil || mp.drained != nil {
		return
	}
	m.s.mu.Lock()
	paused := mp.p.paused
	m.s.mu.Unlock()
	if paused {
		return
	}
	offset := mp.p.next
	var entries []Entry[*modelMessage]
	var room *Room
	if m.random(3) == 0 {
		room = &Room{Bytes: int64(m.random(300))}
	}
	for range 1 + m.random(m.batch) {
		offset += int64(m.random(3)) // a gap now and then
		e := Entry[*modelMessage]{Offset: offset, Size: 1 + m.random(200)}
		if m.random(12) == 0 {
			e.Skip = true
			mp.log = append(mp.log, &modelMessage{offset: offset, finished: true, skipped: true})
		} else {
			if k := m.random(6); k > 0 {
				e.Key = []byte{byte('a' + k)}
			}
			if m.random(3) > 0 {
				e.Room = room
			}
			if m.s.fair != nil {
				e.Tenant = []string{"x", "y", "z", ""}[m.random(4)]
			}
			e.Value = &modelMessage{offset: offset, key: string(e.Key), tenant: e.Tenant, size: int64(e.Size), room: e.Room}
			lane, tenant := 0, 0
			for _, v := range mp.log {
				if v.key != "" && v.key == e.Value.key && v.counted && !v.finished {
					lane++
				}
				if m.s.fair != nil && v.tenant == e.Tenant && v.counted && !v.finished {
					tenant++
				}
			}
			e.Value.counted = lane < modelLimits.laneShare() && tenant < modelLimits.tenantShare()
			mp.log = append(mp.log, e.Value)
		}
		entries = append(entries, e)
		offset++
	}
	m.logf("add %d+%d", mp.p.ID(), len(entries))
	if err := mp.p.Add(entries...); err != nil {
		m.failf("Add: %v", err)
	}
}

func (m *model) partition(p *Partition[*modelMessage]) *modelPartition {
	i := slices.IndexFunc(m.parts, func(mp *modelPartition) bool { return mp.p == p })
	if i < 0 {
		return nil
	}
	return m.parts[i]
}

func (m *model) take() {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	p := m.s.pick()
	if p == nil {
		m.idle()
		return
	}
	it := m.s.take(p)
	it.slot = &slot[*modelMessage]{item: it}
	m.logf("take %d/%d", p.id, it.offset)
	m.began(it, nil)
	m.out = append(m.out, it)
}

// began checks that it may run now, with those of its key in its group.
func (m *model) began(it *Item[*modelMessage], with *modelGroup) {
	p, v := it.partition, it.Value
	if m.s.halted {
		m.failf("message %d handed out in a pause", v.offset)
	}
	mp := m.partition(p)
	if mp == nil {
		m.failf("message %d of a closed partition handed out", v.offset)
	}
	if v.running || v.finished {
		m.failf("message %d handed out while running=%v finished=%v", v.offset, v.running, v.finished)
	}
	for _, o := range mp.log { // I3
		if o.offset < v.offset && v.key != "" && o.key == v.key && !o.finished && !with.has(o) {
			m.failf("message %d handed out before %d of the same key was finished", v.offset, o.offset)
		}
	}
	if mp.drained != nil && v.offset > mp.drainMax {
		m.failf("message %d started in a drain that ends at %d", v.offset, mp.drainMax)
	}
	v.running = true
	v.attempts++
	if it.Attempt() != v.attempts {
		m.failf("attempt %d of message %d called %d", v.attempts, v.offset, it.Attempt())
	}
}

// follow goes on in the slot of a message that has been handed over.
func (m *model) follow() {
	if len(m.out) == 0 {
		return
	}
	i := m.random(len(m.out))
	it := m.out[i]
	v := it.Value
	if !v.handed {
		return
	}
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	waited := false
	for _, mp := range m.parts {
		if mp.p != it.partition && mp.p.hasReady() && mp.p.running < modelLimits.PartitionRunning && m.s.pick() == nil {
			waited = waited || mp.p.phase == open || mp.p.phase == draining
		}
	}
	if m.s.fair != nil { // turns are the tenants'
		waited = m.s.pickOf(modelLimits.Running-m.s.running+1) != it.partition
	}
	phase := it.partition.phase
	next := m.s.follow(it)
	if next == nil {
		m.logf("follow %d/%d: none", it.partition.id, it.offset)
		return
	}
	m.logf("follow %d/%d: %d", it.partition.id, it.offset, next.offset)
	if next.partition != it.partition || phase != open {
		m.failf("message %d of partition %d in phase %d was followed by %d of partition %d", it.offset, it.partition.id, phase, next.offset, next.partition.id)
	}
	if waited {
		m.failf("partition %d went on in a slot that another one waits for", it.partition.id)
	}
	if !next.handed.Load() || next.slot != it.slot {
		m.failf("message %d follows without having been handed over", next.offset)
	}
	m.out = slices.Delete(m.out, i, i+1)
	v.running, v.handed, v.finished = false, false, true
	m.began(next, nil)
	m.out = append(m.out, next)
	next.Value.handed, next.Value.started = true, true
}

// idle checks that nothing is refused that may run.
func (m *model) idle() {
	if len(m.out)+len(m.groups) >= modelLimits.Running || m.s.halted {
		return
	}
	for _, mp := range m.parts {
		if mp.p.phase == open && mp.p.hasReady() && mp.p.running < m.s.reserve {
			m.failf("partition %d has a ready message and only %d of its %d slots", mp.p.id, mp.p.running, m.s.reserve)
		}
	}
	if len(m.out)+len(m.groups) == 0 {
		for _, mp := range m.parts {
			for _, v := range mp.log {
				if mp.p.phase == open && !v.finished && mp.p.asleep == 0 {
					m.failf("message %d of partition %d is stuck", v.offset, mp.p.id)
				}
			}
		}
	}
}

func (m *model) hand() {
	if len(m.out) == 0 {
		return
	}
	it := m.out[m.random(len(m.out))]
	m.logf("hand %d/%d", it.partition.id, it.Offset())
	it.Value.handed, it.Value.started = true, true
	it.Handed()
}

func (m *model) book(out Outcome) {
	if len(m.out) == 0 {
		return
	}
	i := m.random(len(m.out))
	it := m.out[i]
	v := it.Value
	if out.verdict == withdrawn && v.handed {
		return
	}
	m.out = slices.Delete(m.out, i, i+1)
	m.logf("book %d/%d %v", it.partition.id, v.offset, out)
	v.running, v.handed = false, false
	switch out.verdict {
	case finished:
		v.started = true
		mp := m.partition(it.partition)
		v.finished = mp != nil
	case failed:
		v.started = true
	case withdrawn:
		v.attempts--
	}
	m.s.mu.Lock()
	m.s.book(it, out)
	m.s.mu.Unlock()
}

// end drains a partition, cancels it, or closes it.
func (m *model) end() {
	mp := m.some()
	if mp == nil {
		return
	}
	if mp.drained == nil && m.random(4) > 0 {
		m.logf("drain %d", mp.p.id)
		for _, v := range mp.log {
			// What is out may yet turn out to have started.
			if v.started || v.running {
				mp.drainMax = v.offset
			}
		}
		mp.drained = make(chan bool, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			mp.drained <- mp.p.Drain(ctx, 300*time.Millisecond)
		}()
		return
	}
	if mp.drained != nil {
		select {
		case clean := <-mp.drained:
			m.afterDrain(mp, clean)
		default:
			mp.p.Cancel()
			if <-mp.drained && mp.p.running > 0 {
				m.failf("partition %d drained with %d running", mp.p.id, mp.p.running)
			}
		}
	}
	m.logf("close %d", mp.p.id)
	mp.p.Close()
	m.parts = slices.DeleteFunc(m.parts, func(o *modelPartition) bool { return o == mp })
}

func (m *model) afterDrain(mp *modelPartition, clean bool) {
	if !clean {
		return
	}
	if mp.p.running > 0 {
		m.failf("partition %d drained with %d running", mp.p.id, mp.p.running)
	}
	for _, v := range mp.log {
		if v.offset <= mp.p.limit && !v.finished {
			m.failf("drain of partition %d left %d unfinished below %d", mp.p.id, v.offset, mp.p.limit)
		}
	}
}

func (m *model) check() {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	m.checkTenants()
	counted, running, asleep, reserved := 0, 0, 0, 0
	var bytes int64
	for _, mp := range m.parts {
		p := mp.p
		want := int64(-1)
		slots := 0 // of groups whose leaders are settled
		for _, g := range m.groups {
			if g.p == p && g.led() {
				slots++
			}
		}
		left, weighed, held, up, below := 0, 0, int64(0), 0, true
		rooms := map[*Room]bool{}
		for _, v := range mp.log {
			if below = below && v.finished; below {
				want = v.offset + 1
			}
			if !below && p.watermark <= v.offset {
				held += modelPlace
			}
			if !v.finished {
				left++
				held += v.size
				if v.room != nil && !rooms[v.room] {
					rooms[v.room] = true
					held += v.room.Bytes
				}
				if v.counted {
					weighed++
				}
			}
			if v.running && !v.gathered {
				up++
			}
		}
		if p.watermark != want { // I5
			m.failf("watermark of partition %d is %d, want %d", p.id, p.watermark, want)
		}
		m.checkAhead(mp)
		if p.pending != left || p.running != up+slots {
			m.failf("partition %d counts %d pending, %d running; want %d, %d", p.id, p.pending, p.running, left, up+slots)
		}
		if p.counted != weighed || p.bytes != held {
			m.failf("partition %d counts %d messages and %d bytes; want %d, %d", p.id, p.counted, p.bytes, weighed, held)
		}
		if p.running > modelLimits.PartitionRunning || p.counted >= modelLimits.PartitionPending+m.batch ||
			len(p.log)-p.head >= modelLimits.RunAhead+m.batch || p.bytes >= modelLimits.PartitionBytes+int64(m.batch)*220+300 { // I8
			m.failf("partition %d is past its limits: %d running, %d pending, %d held, %d bytes", p.id, p.running, p.pending, len(p.log)-p.head, p.bytes)
		}
		if m.s.halted && p.phase == open && !p.paused {
			m.failf("partition %d is fed in a pause", p.id)
		}
		if p.paused && p.phase == open && m.s.low(p) {
			m.failf("partition %d stays paused with room", p.id)
		}
		counted, running, asleep, bytes = counted+p.counted, running+p.running, asleep+p.asleep, bytes+p.bytes
		reserved += max(0, m.s.reserve-p.running)
	}
	if m.s.counted != counted || m.s.bytes != bytes || len(m.s.sleepers) != asleep || m.s.reserved != reserved {
		m.failf("the set counts %d pending, %d bytes, %d asleep, %d reserved; want %d, %d, %d, %d",
			m.s.counted, m.s.bytes, len(m.s.sleepers), m.s.reserved, counted, bytes, asleep, reserved)
	}
	// Three quarters, and the shares of four partitions that came one by one: (1+1/2+1/3+1/4)/4.
	overshoot := 4 * m.batch
	if len(m.out)+len(m.groups) > modelLimits.Running || counted > modelLimits.Pending*128/100+overshoot || bytes > modelLimits.Bytes*128/100+int64(overshoot)*220+4*300 {
		m.failf("past the total limits: %d out, %d pending, %d bytes", len(m.out)+len(m.groups), counted, bytes)
	}
}

// checkAhead compares what is finished above the watermark (I5).
func (m *model) checkAhead(mp *modelPartition) {
	m.s.mu.Unlock()
	watermark, next, runs, ok := mp.p.Ahead(1 << 20)
	m.s.mu.Lock()
	in := func(offset int64) bool {
		return slices.ContainsFunc(runs, func(r Run) bool { return r.From <= offset && offset < r.To })
	}
	finished := false
	for _, v := range mp.log {
		finished = finished || v.finished
		if v.finished != (v.offset < watermark || in(v.offset)) && ok {
			m.failf("message %d of partition %d, finished %v: %d and %v say otherwise", v.offset, mp.p.id, v.finished, watermark, runs)
		}
	}
	if ok != finished || len(mp.log) > 0 && next <= mp.log[len(mp.log)-1].offset {
		m.failf("partition %d, something finished %v: ahead says %d, %d, %v, %v", mp.p.id, finished, watermark, next, runs, ok)
	}
}

// checkTenants counts anew what each has: no more slots than it may, and nobody
// is remembered who has nothing.
func (m *model) checkTenants() {
	f := m.s.fair
	if f == nil {
		return
	}
	slots := map[string]int{}
	for _, it := range m.out {
		slots[it.cell.tenant.name]++
	}
	for _, g := range m.groups {
		slots[g.leader.cell.tenant.name]++
	}
	unfinished := map[string]bool{}
	for _, mp := range m.parts {
		for _, v := range mp.log {
			if !v.finished {
				unfinished[v.tenant] = true
			}
		}
		for name, c := range mp.p.cells {
			if c.unfinished == 0 || c.tenant != f.tenants[name] {
				m.failf("partition %d remembers tenant %q, who has nothing", mp.p.id, name)
			}
			if mp.p.phase == open && c.ready.first != nil && c.standing == idle {
				m.failf("tenant %q has a message ready in partition %d and no turn", name, mp.p.id)
			}
		}
	}
	for name, t := range f.tenants {
		if t.running != slots[name] {
			m.failf("tenant %q counts %d slots, has %d", name, t.running, slots[name])
		}
		if slots[name] == 0 && !unfinished[name] {
			m.failf("tenant %q is remembered, who has nothing", name)
		}
		active := 0
		for _, mp := range m.parts {
			if c := mp.p.cells[name]; c != nil && c.ready.first != nil {
				active++
			}
		}
		if t.active != active {
			m.failf("tenant %q counts %d partitions in which something is ready, has %d", name, t.active, active)
		}
	}
}

// finish lets everything end and checks that nothing is left over.
func (m *model) finish() {
	m.s.Resume()
	for range 10000 {
		m.take()
		m.book(Finished())
		m.settle()
		if len(m.out)+len(m.groups) == 0 {
			time.Sleep(time.Second)
			synctest.Wait()
			m.take()
			if len(m.out) == 0 {
				break
			}
		}
	}
	m.check()
	for _, mp := range m.parts {
		if mp.p.phase == open && (mp.p.pending != 0 || mp.p.counted != 0 || mp.p.bytes != 0 || len(mp.p.lanes) != 0 || mp.p.keyless != 0 || mp.p.paused) {
			m.failf("partition %d is not empty at the end: %+v", mp.p.id, m.s.Stats())
		}
		if mp.drained != nil {
			m.afterDrain(mp, <-mp.drained)
		}
		mp.p.Close()
	}
	m.s.Close()
	if f := m.s.fair; f != nil && len(f.tenants) != 0 {
		m.failf("tenants are remembered at the end: %v", f.tenants)
	}
	if len(m.s.sleepers) != 0 || m.s.counted != 0 || m.s.bytes != 0 || m.s.running != 0 {
		m.failf("the set is not empty at the end")
	}
}
