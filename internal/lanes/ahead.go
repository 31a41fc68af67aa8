package lanes

// Run is offsets that are finished, from From up to To, which is not. Offsets of
// it that hold no message count as finished.
type Run struct{ From, To int64 }

// Ahead returns what is finished above the watermark, in order: the first most
// runs of it, which lie below next. The watermark is as Watermark has it; while
// nothing is finished below the oldest message, but something above it, it is
// that message. Entries added with Skip are finished. Ahead looks at what is held
// up to the highest finished message.
func (p *Partition[V]) Ahead(most int) (watermark, next int64, runs []Run, ok bool) {
	p.set.mu.Lock()
	defer p.set.mu.Unlock()
	log := p.log[p.head:]
	left := len(log) - p.pending
	watermark = p.watermark
	if watermark < 0 {
		if left == 0 {
			return -1, p.next, nil, false
		}
		watermark = log[0].offset
	}
	for i := 0; left > 0 && len(runs) < most; {
		if log[i].state != done {
			i++
			continue
		}
		from := i
		for i < len(log) && log[i].state == done {
			i++
			left--
		}
		runs = append(runs, Run{From: log[from].offset, To: log[i-1].offset + 1})
	}
	return watermark, p.next, runs, true
}
