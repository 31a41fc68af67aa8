package demo

import (
	"cmp"
	"fmt"
	"slices"
)

// maxNamed is how many mismatches of one kind the audit names; it counts all.
const maxNamed = 5

// journalRow is one event in the order service's own journal.
type journalRow struct {
	ID       string
	OrderID  string
	Sequence int64
	Type     string
	Amount   int64 // what it adds to the order's balance
	Twice    bool
}

// logRecord is one record of the topic.
type logRecord struct {
	ID        string
	Key       string
	Partition int32
	Offset    int64
}

// effectRow is one effect of a service.
type effectRow struct {
	EventID  string
	OrderID  string
	Sequence int64
	Type     string
}

// evidence is all that the audit looks at. It comes from the services' own
// databases and from the topic, not from anybody's counters; but for Refused.
type evidence struct {
	Journal  []journalRow
	Log      []logRecord // per partition in order of offset
	Services []serviceEvidence
}

type serviceEvidence struct {
	Name     string
	Types    []string         // it handles
	Effects  []effectRow      // in the order they happened
	Balances map[string]int64 // by order; nil: it keeps none
	// Refused is how many duplicates the service's processes counted. Killed
	// says that one of them was killed, and with it what it had not yet told.
	Refused int
	Killed  bool
	// Explained is how many second effects were left out, as a restart explains them.
	Explained int
}

// Audit is the outcome.
type Audit struct {
	Events      int            `json:"events"`       // in the journal
	Published   int            `json:"published"`    // distinct events in the topic
	Records     int            `json:"records"`      // records in the topic
	Copies      int            `json:"copies"`       // records beyond an event's first
	LogBreaks   int            `json:"order_breaks"` // first copies out of order, per key
	Unpublished int            `json:"unpublished"`
	Services    []ServiceAudit `json:"services"`
	// Mismatches name what does not add up. Empty: all is well.
	Mismatches []string `json:"mismatches"`
}

// ServiceAudit is what became of the events at one service.
type ServiceAudit struct {
	Name        string `json:"name"`
	Expected    int    `json:"expected"` // events of its types in the journal
	Handled     int    `json:"handled"`  // of them with an effect
	Effects     int    `json:"effects"`
	Refused     int    `json:"duplicates_refused"`
	Doubled     int    `json:"doubled"`
	OrderBreaks int    `json:"order_breaks"`
	Lost        int    `json:"lost"`
	Explained   int    `json:"repeated_by_restart"` // outside of a transaction: at least once
	Strange     int    `json:"strange"`             // effects of events nobody recorded, or of a type not its own
}

// OK reports whether everything adds up.
func (a Audit) OK() bool { return len(a.Mismatches) == 0 }

// audit compares the evidence event by event.
func audit(ev evidence) Audit {
	a := &auditor{journal: make(map[string]journalRow, len(ev.Journal)), copies: map[string]int{}, named: map[string]int{}}
	for _, j := range ev.Journal {
		a.journal[j.ID] = j
	}
	a.Events = len(a.journal)
	a.Mismatches = []string{}
	if len(a.journal) == 0 {
		a.mismatchf("journal", "the journal is empty: nothing was published, so nothing is proven")
	}
	a.checkJournal(ev.Journal)
	a.checkLog(ev)
	for _, s := range ev.Services {
		a.Services = append(a.Services, a.checkService(ev.Journal, s))
	}
	a.sumUp()
	return a.Audit
}

type auditor struct {
	Audit

	journal map[string]journalRow
	copies  map[string]int // in the topic, beyond the first, by event
	named   map[string]int // mismatches by kind
	kinds   []string
}

// mismatchf names what is wrong, up to a number for each kind.
func (a *auditor) mismatchf(kind, format string, args ...any) {
	if a.named[kind]++; a.named[kind] == 1 {
		a.kinds = append(a.kinds, kind)
	}
	if a.named[kind] <= maxNamed {
		a.Mismatches = append(a.Mismatches, fmt.Sprintf(format, args...))
	}
}

func (a *auditor) sumUp() {
	for _, k := range a.kinds {
		if more := a.named[k] - maxNamed; more > 0 {
			a.Mismatches = append(a.Mismatches, fmt.Sprintf("%s: and %d more", k, more))
		}
	}
}

// checkJournal holds the measure itself to its rule: per order 1, 2, 3.
func (a *auditor) checkJournal(journal []journalRow) {
	last := map[string]int64{}
	for _, j := range journal {
		if j.Sequence != last[j.OrderID]+1 {
			a.mismatchf("journal", "journal: %s follows sequence %d", j, last[j.OrderID])
		}
		last[j.OrderID] = j.Sequence
	}
}

func (j journalRow) String() string {
	return fmt.Sprintf("event %s (%s, order %s, sequence %d)", j.ID, j.Type, j.OrderID, j.Sequence)
}

// checkLog looks for events that are not in the topic, are there under another
// key, or stand before their predecessor (I2).
func (a *auditor) checkLog(ev evidence) {
	log := slices.Clone(ev.Log)
	slices.SortFunc(log, func(x, y logRecord) int {
		return cmp.Or(cmp.Compare(x.Partition, y.Partition), cmp.Compare(x.Offset, y.Offset))
	})
	seen := make(map[string]int, len(log))
	last := map[string]int64{}
	partition := map[string]int32{}
	for _, r := range log {
		j, known := a.journal[r.ID]
		if !known {
			a.mismatchf("topic", "topic: partition %d offset %d has event %s, which the order service never recorded", r.Partition, r.Offset, r.ID)
			continue
		}
		if r.Key != j.OrderID {
			a.mismatchf("topic", "topic: %s has the key %q", j, r.Key)
		}
		if p, ok := partition[r.Key]; ok && p != r.Partition {
			a.mismatchf("topic", "topic: %s is in partition %d, earlier events of its order in %d", j, r.Partition, p)
		}
		partition[r.Key] = r.Partition
		if seen[r.ID]++; seen[r.ID] > 1 {
			a.Copies++
			a.copies[r.ID]++
			continue
		}
		if j.Sequence <= last[j.OrderID] {
			a.LogBreaks++
			a.mismatchf("topic order", "topic: %s stands behind sequence %d", j, last[j.OrderID])
		}
		last[j.OrderID] = max(last[j.OrderID], j.Sequence)
	}
	a.Records, a.Published = len(log), len(seen)
	for _, j := range ev.Journal {
		switch {
		case seen[j.ID] == 0:
			a.Unpublished++
			a.mismatchf("unpublished", "topic: %s is missing", j)
		case j.Twice && seen[j.ID] < 2:
			a.mismatchf("copies", "topic: %s was to be published twice and is there once", j)
		}
	}
}

func (a *auditor) checkService(journal []journalRow, s serviceEvidence) ServiceAudit {
	out := ServiceAudit{Name: s.Name, Effects: len(s.Effects), Refused: s.Refused, Explained: s.Explained}
	count := make(map[string]int, len(s.Effects))
	last := map[string]int64{}
	for _, e := range s.Effects {
		j, known := a.journal[e.EventID]
		if !known || !slices.Contains(s.Types, j.Type) {
			out.Strange++
			a.mismatchf(s.Name+" strange", "%s: an effect of event %s (%s, order %s, sequence %d), which is not its to handle", s.Name, e.EventID, e.Type, e.OrderID, e.Sequence)
			continue
		}
		if e.OrderID != j.OrderID || e.Sequence != j.Sequence || e.Type != j.Type {
			out.Strange++
			a.mismatchf(s.Name+" strange", "%s: the effect of %s says %s, order %s, sequence %d", s.Name, j, e.Type, e.OrderID, e.Sequence)
			continue
		}
		if count[e.EventID]++; count[e.EventID] > 1 {
			out.Doubled++
			a.mismatchf(s.Name+" doubled", "%s: %s had its effect %d times", s.Name, j, count[e.EventID])
			continue
		}
		if j.Sequence <= last[j.OrderID] {
			out.OrderBreaks++
			a.mismatchf(s.Name+" order", "%s: %s had its effect after sequence %d", s.Name, j, last[j.OrderID])
		}
		last[j.OrderID] = max(last[j.OrderID], j.Sequence)
	}
	out.Handled = len(count)
	copies := 0
	balances := map[string]int64{}
	for _, j := range journal {
		if !slices.Contains(s.Types, j.Type) {
			continue
		}
		out.Expected++
		balances[j.OrderID] += amountOf(s.Name, j)
		copies += a.copies[j.ID]
		if count[j.ID] == 0 {
			out.Lost++
			a.mismatchf(s.Name+" lost", "%s: %s had no effect", s.Name, j)
		}
	}
	if !s.Killed && out.Refused < copies {
		a.mismatchf(s.Name+" refused", "%s: refused %d duplicates, but the topic has %d second copies of its events", s.Name, out.Refused, copies)
	}
	a.checkBalances(s, balances)
	return out
}

// amountOf is what an event adds to a service's balance of its order.
func amountOf(service string, j journalRow) int64 {
	switch {
	case service == billing:
		return j.Amount
	case service == shipping && j.Type == typeShipped:
		return 1
	}
	return 0
}

func (a *auditor) checkBalances(s serviceEvidence, want map[string]int64) {
	if s.Balances == nil {
		return
	}
	orders := make([]string, 0, len(want))
	for id := range want {
		orders = append(orders, id)
	}
	slices.Sort(orders)
	for _, id := range orders {
		if got := s.Balances[id]; got != want[id] {
			a.mismatchf(s.Name+" balance", "%s: the balance of order %s is %d, the journal says %d", s.Name, id, got, want[id])
		}
	}
	for id := range s.Balances {
		if _, ok := want[id]; !ok {
			a.mismatchf(s.Name+" balance", "%s: a balance of order %s, which the journal does not have", s.Name, id)
		}
	}
}
