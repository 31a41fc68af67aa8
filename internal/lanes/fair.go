package lanes

import "slices"

// Fairness shares the slots among tenants, by the messages they start: of two
// that have messages ready, one of weight 3 starts three for each of the other's.
// A tenant that had none ready does not catch up. None has more than three
// quarters of the slots, of all and of each partition's, so that a tenant whose
// messages take for ever leaves room for the others.
//
// Only tenants with unfinished messages are remembered.
type Fairness struct {
	// Weights of tenants, above zero; 1 for those that are not in it.
	Weights map[string]int
}

// fair is the Set's book of tenants: start-time fair queueing (Goyal, Vin, Cheng
// 1996), over partitions too.
type fair[V any] struct {
	weights          map[string]int
	tenants          map[string]*tenant[V]
	now              uint64 // virtual time: that of the message started last
	running          int    // slots of one tenant
	partitionRunning int
}

// tenant is one with unfinished messages.
type tenant[V any] struct {
	name    string
	cost    uint64 // virtual time that one message takes
	time    uint64 // virtual time of its next message
	running int    // slots
	holders int    // cells and slots that refer to it
	active  int    // cells with a ready message
	kept    []*cell[V]
}

// cell is what a tenant has in one partition.
type cell[V any] struct {
	tally

	tenant     *tenant[V]
	partition  *Partition[V]
	ready      queue[V]
	unfinished int
	running    int
	key        uint64 // the tenant's time, as the heap knows it: never above it
	standing   standing
}

// standing is where a cell waits for its turn.
type standing uint8

const (
	idle  standing = iota // has nothing ready
	heaps                 // in its partition's heap
	kept                  // its tenant has all the slots it may have
)

// unit is the virtual time that a message of weight 1 takes.
const unit = 1 << 20

func newFair[V any](c *Fairness, l Limits) *fair[V] {
	if c == nil {
		return nil
	}
	return &fair[V]{
		weights: c.Weights, tenants: map[string]*tenant[V]{},
		running: max(1, l.Running*3/4), partitionRunning: max(1, l.PartitionRunning*3/4),
	}
}

// cellOf returns the tenant's cell in p.
func (p *Partition[V]) cellOf(name string) *cell[V] {
	f := p.set.fair
	if f == nil {
		return nil
	}
	if c := p.cells[name]; c != nil {
		return c
	}
	t := f.tenants[name]
	if t == nil {
		t = &tenant[V]{name: name, cost: unit / uint64(max(1, f.weights[name])), time: f.now}
		f.tenants[name] = t
	}
	t.holders++
	c := &cell[V]{tenant: t, partition: p}
	if p.cells == nil {
		p.cells = map[string]*cell[V]{}
	}
	p.cells[name] = c
	return c
}

// forget drops a cell that has nothing unfinished.
func (p *Partition[V]) forget(c *cell[V]) {
	if p.cells[c.tenant.name] == c {
		delete(p.cells, c.tenant.name)
		p.set.fair.leave(c.tenant)
	}
}

func (f *fair[V]) leave(t *tenant[V]) {
	if t.holders--; t.holders == 0 && f.tenants[t.name] == t {
		delete(f.tenants, t.name)
	}
}

// begin books the slot of it.
func (f *fair[V]) begin(it *Item[V]) {
	t := it.cell.tenant
	it.cell.running++
	t.running++
	t.holders++
	f.now = max(f.now, t.time)
	t.time += t.cost
}

// end frees it, and lets those in that waited for the tenant to have one less.
func (f *fair[V]) end(it *Item[V]) {
	t := it.cell.tenant
	it.cell.running--
	t.running--
	t.kept = slices.DeleteFunc(t.kept, func(c *cell[V]) bool {
		if c.full() {
			return false
		}
		c.partition.cellHeap.push(c)
		c.partition.queue()
		return true
	})
	f.leave(t)
}

// full tells whether the tenant has all the slots it may have. A partition that
// drains must get over its messages, whosever they are.
func (c *cell[V]) full() bool {
	f := c.partition.set.fair
	return c.partition.phase == open && (c.tenant.running >= f.running || c.running >= f.partitionRunning)
}

// push makes it ready.
func (p *Partition[V]) push(it *Item[V]) {
	c := it.cell
	if c == nil {
		p.ready.push(it)
		return
	}
	c.ready.push(it)
	if c.standing == idle {
		if c.tenant.active++; c.tenant.active == 1 {
			c.tenant.time = max(c.tenant.time, p.set.fair.now)
		}
		p.cellHeap.push(c)
	}
}

// hasReady tells whether a message of p may start, slots aside.
func (p *Partition[V]) hasReady() bool {
	if p.set.fair == nil {
		return p.ready.first != nil
	}
	return p.best() != nil
}

// pop takes the message out that is next.
func (p *Partition[V]) pop() *Item[V] {
	if p.set.fair == nil {
		return p.ready.pop()
	}
	c := p.best()
	it := c.ready.pop()
	if c.ready.first == nil {
		p.cellHeap.pop()
		c.rest()
	}
	return it
}

// rest books that the cell has nothing ready any more; it is in no heap.
func (c *cell[V]) rest() {
	c.standing = idle
	c.tenant.active--
}

// best returns the cell whose tenant's turn comes first. Tenants' times rise
// while they wait here: a cell finds its place in the heap when it comes up.
func (p *Partition[V]) best() *cell[V] {
	h := &p.cellHeap
	for len(*h) > 0 {
		c := (*h)[0]
		switch {
		case c.full():
			h.pop()
			c.standing = kept
			c.tenant.kept = append(c.tenant.kept, c)
		case c.key != c.tenant.time:
			c.key = c.tenant.time
			h.down(0)
		default:
			return c
		}
	}
	return nil
}

// fairest is pick for a fair Set: of the partitions that may run a message, the
// one with the tenant whose turn comes first; among equals they take turns.
func (s *Set[V]) fairest(reserved bool) *Partition[V] {
	var first *Partition[V]
	var at uint64
	var next *Partition[V]
	for p := s.feeding.first; p != nil; p = next {
		next = p.following
		c := p.best()
		switch {
		case c == nil: // its tenants have got what they may have, elsewhere
			s.feeding.remove(p)
		case reserved && p.running >= s.reserve:
		case first == nil || c.tenant.time < at:
			first, at = p, c.tenant.time
		}
	}
	return first
}

// pickReady is queue.pick over all that is ready in p.
func (p *Partition[V]) pickReady(f func(*Item[V]) (take, more bool)) {
	if p.set.fair == nil {
		p.ready.pick(f)
		return
	}
	going := true
	for p.best() != nil && going { // in the order of turns
		c := p.cellHeap.pop()
		c.ready.pick(func(it *Item[V]) (take, more bool) {
			if take, going = f(it); take {
				c.tenant.time += c.tenant.cost
			}
			return take, going
		})
		c.standing = kept // out of the heap until all have been looked at
		c.tenant.kept = append(c.tenant.kept, c)
	}
	p.rank()
}

// keep drops what is ready above limit.
func (p *Partition[V]) keep(limit int64) {
	if p.set.fair == nil {
		p.ready.keep(limit)
		return
	}
	for _, c := range p.cells {
		c.ready.keep(limit)
	}
	p.rank()
}

// rank makes the heap anew of all cells that have something ready.
func (p *Partition[V]) rank() {
	p.cellHeap = p.cellHeap[:0]
	for _, c := range p.cells {
		if c.standing == kept {
			c.tenant.kept = slices.DeleteFunc(c.tenant.kept, func(k *cell[V]) bool { return k == c })
		}
		switch {
		case c.ready.first != nil:
			p.cellHeap.push(c)
		case c.standing != idle:
			c.rest()
		}
	}
}

// cells is a binary heap by the cells' keys.
type cells[V any] []*cell[V]

func (h *cells[V]) push(c *cell[V]) {
	c.standing = heaps
	c.key = c.tenant.time
	*h = append(*h, c)
	s := *h
	for i := len(s) - 1; i > 0; {
		parent := (i - 1) / 2
		if s[parent].key <= s[i].key {
			return
		}
		s[i], s[parent] = s[parent], s[i]
		i = parent
	}
}

func (h *cells[V]) pop() *cell[V] {
	s := *h
	c := s[0]
	last := len(s) - 1
	s[0], s[last] = s[last], nil
	*h = s[:last]
	h.down(0)
	return c
}

func (h *cells[V]) down(i int) {
	s := *h
	for {
		child := 2*i + 1
		if child >= len(s) {
			return
		}
		if right := child + 1; right < len(s) && s[right].key < s[child].key {
			child = right
		}
		if s[i].key <= s[child].key {
			return
		}
		s[i], s[child] = s[child], s[i]
		i = child
	}
}
