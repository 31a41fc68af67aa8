package lanes

// Room is memory that several entries of one partition share, such as a buffer
// of which each has a piece: it is held until the last of them is finished. It
// counts Bytes from the first of them on; their own sizes count besides. Between
// Add and the end of the partition it belongs to the Set.
type Room struct {
	Bytes int64

	holders int
}

// tally counts the unfinished messages of a lane or a tenant that count against
// what may be pending: none of them takes more than its share of that.
type tally struct{ counted int }

// No key takes more than a quarter of what may be pending in a partition, and no
// tenant more than half: a flood of theirs does not keep what comes behind it
// from being read. What is beyond is bounded by RunAhead and bytes alone.
func (l Limits) laneShare() int   { return max(1, l.PartitionPending/4) }
func (l Limits) tenantShare() int { return max(1, l.PartitionPending/2) }

// charge books what an unfinished message holds.
func (p *Partition[V]) charge(it *Item[V]) {
	s := p.set
	p.pending++
	if it.cell != nil {
		it.cell.unfinished++
	}
	lane, tenant := it.lane, it.tenant()
	if (lane == nil || lane.counted < s.laneShare) && (tenant == nil || tenant.counted < s.tenantShare) {
		p.count(it, 1)
	}
	bytes := it.size
	if r := it.room; r != nil {
		if r.holders == 0 {
			bytes += r.Bytes
		}
		r.holders++
	}
	p.hold(bytes)
}

// discharge gives it back when the message is finished.
func (p *Partition[V]) discharge(it *Item[V]) {
	p.pending--
	if it.counted {
		p.count(it, -1)
	}
	if c := it.cell; c != nil {
		if c.unfinished--; c.unfinished == 0 {
			p.forget(c)
		}
	}
	bytes := it.size
	if r := it.room; r != nil {
		if r.holders--; r.holders == 0 {
			bytes += r.Bytes
		}
		it.room = nil
	}
	it.lane = nil
	p.hold(-bytes)
}

func (p *Partition[V]) hold(bytes int64) {
	p.bytes += bytes
	p.set.bytes += bytes
}

func (p *Partition[V]) count(it *Item[V], n int) {
	it.counted = n > 0
	p.counted += n
	p.set.counted += n
	if it.lane != nil {
		it.lane.counted += n
	}
	if tenant := it.tenant(); tenant != nil {
		tenant.counted += n
	}
}

func (it *Item[V]) tenant() *tally {
	if it.cell == nil {
		return nil
	}
	return &it.cell.tally
}
