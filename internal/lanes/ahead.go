package lanes

// Run is offsets that are finished, from From up to To, which is not. Offsets of
// it that hold no message count as finished.
type Run struct{ From, To int64 }

// Ahead returns what is finished above the watermark, in order: the first most
// runs of it. ok is false while the partition has no watermark to be above of.
// Entries added with Skip are finished. It goes through what is held up to the
// highest finished message.
func (p *Partition[V]) Ahead(most int) (watermark int64, runs []Run, ok bool) {
	p.set.mu.Lock()
	defer p.set.mu.Unlock()
	log := p.log[p.head:]
	if len(log) == 0 {
		return p.watermark, nil, p.watermark >= 0
	}
	// Before anything is finished the watermark is the oldest message: nothing
	// below it was added.
	watermark = p.watermark
	if watermark < 0 {
		watermark = log[0].offset
	}
	if p.ahead == 0 {
		return watermark, nil, true
	}
	left := p.ahead
	for i := 0; i < len(log) && left > 0; {
		if log[i].state != done {
			i++
			continue
		}
		from := i
		for i < len(log) && log[i].state == done {
			i++
			left--
		}
		if len(runs) == most {
			break
		}
		runs = append(runs, Run{From: log[from].offset, To: log[i-1].offset + 1})
	}
	return watermark, runs, true
}
