package demo

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// sound is evidence of two orders in which everything is as it should be.
func sound() evidence {
	journal := []journalRow{
		{ID: "e1", OrderID: "o-1", Sequence: 1, Type: typePlaced},
		{ID: "f1", OrderID: "o-2", Sequence: 1, Type: typePlaced},
		{ID: "e2", OrderID: "o-1", Sequence: 2, Type: typePaid, Amount: 100, Twice: true},
		{ID: "e3", OrderID: "o-1", Sequence: 3, Type: typeShipped},
		{ID: "f2", OrderID: "o-2", Sequence: 2, Type: typePaid, Amount: 70},
		{ID: "f3", OrderID: "o-2", Sequence: 3, Type: typeCanceled, Amount: -70},
	}
	log := []logRecord{
		{"e1", "o-1", 0, 0},
		{"e2", "o-1", 0, 1},
		{"e2", "o-1", 0, 2},
		{"e3", "o-1", 0, 3},
		{"f1", "o-2", 1, 0},
		{"f2", "o-2", 1, 1},
		{"f3", "o-2", 1, 2},
	}
	effect := func(ids ...string) []effectRow {
		var rows []effectRow
		for _, id := range ids {
			for _, j := range journal {
				if j.ID == id {
					rows = append(rows, effectRow{j.ID, j.OrderID, j.Sequence, j.Type})
				}
			}
		}
		return rows
	}
	return evidence{Journal: journal, Log: log, Services: []serviceEvidence{
		{
			Name: billing, Types: services[0].types, Effects: effect("f1", "e1", "e2", "f2", "e3", "f3"),
			Balances: map[string]int64{"o-1": 100, "o-2": 0}, Killed: true,
		},
		{
			Name: shipping, Types: services[1].types, Effects: effect("e2", "f2", "f3", "e3"),
			Balances: map[string]int64{"o-1": 1, "o-2": 0}, Refused: 1,
		},
		{Name: mail, Types: services[2].types, Effects: effect("e1", "e3", "f1", "f3")},
	}}
}

func TestSoundEvidencePassesAndEverythingIsCounted(t *testing.T) {
	a := audit(sound())
	require.Empty(t, a.Mismatches)
	require.True(t, a.OK())
	require.Equal(t, Audit{
		Events: 6, Published: 6, Records: 7, Copies: 1, Mismatches: []string{},
		Services: []ServiceAudit{
			{Name: billing, Expected: 6, Handled: 6, Effects: 6},
			{Name: shipping, Expected: 4, Handled: 4, Effects: 4, Refused: 1},
			{Name: mail, Expected: 4, Handled: 4, Effects: 4},
		},
	}, a)
}

func TestTheAuditNamesWhatDoesNotAddUp(t *testing.T) {
	for name, c := range map[string]struct {
		tamper func(*evidence)
		want   []string
	}{
		"an effect is missing": {
			func(ev *evidence) { ev.Services[0].Effects = ev.Services[0].Effects[:5] },
			[]string{"billing: event f3 (order.canceled, order o-2, sequence 3) had no effect"},
		},
		"an effect happened twice": {
			func(ev *evidence) {
				ev.Services[2].Effects = append(ev.Services[2].Effects, ev.Services[2].Effects[1])
			},
			[]string{"mail: event e3 (order.shipped, order o-1, sequence 3) had its effect 2 times"},
		},
		"two effects are swapped": {
			func(ev *evidence) {
				e := ev.Services[1].Effects
				e[0], e[3] = e[3], e[0]
			},
			[]string{"shipping: event e2 (order.paid, order o-1, sequence 2) had its effect after sequence 3"},
		},
		"an effect of nothing": {
			func(ev *evidence) {
				ev.Services[0].Effects = append(ev.Services[0].Effects, effectRow{"x", "o-9", 1, typePaid})
			},
			[]string{"billing: an effect of event x (order.paid, order o-9, sequence 1), which is not its to handle"},
		},
		"an effect of a type that is not its own": {
			func(ev *evidence) {
				ev.Services[1].Effects = append([]effectRow{{"e1", "o-1", 1, typePlaced}}, ev.Services[1].Effects...)
			},
			[]string{"shipping: an effect of event e1 (order.placed, order o-1, sequence 1), which is not its to handle"},
		},
		"an effect that says something else": {
			func(ev *evidence) { ev.Services[0].Effects[0].OrderID = "o-1" },
			[]string{
				"billing: the effect of event f1 (order.placed, order o-2, sequence 1) says order.placed, order o-1, sequence 1",
				"billing: event f1 (order.placed, order o-2, sequence 1) had no effect",
			},
		},
		"a sum was changed twice, although its row is there once": {
			func(ev *evidence) { ev.Services[0].Balances["o-1"] = 200 },
			[]string{"billing: the balance of order o-1 is 200, the journal says 100"},
		},
		"a balance of an unknown order": {
			func(ev *evidence) { ev.Services[1].Balances["o-7"] = 1 },
			[]string{"shipping: a balance of order o-7, which the journal does not have"},
		},
		"an event is not in the topic": {
			func(ev *evidence) { ev.Log = append(ev.Log[:3:3], ev.Log[4:]...) },
			[]string{"topic: event e3 (order.shipped, order o-1, sequence 3) is missing"},
		},
		"an event overtook another in the topic (I2)": {
			func(ev *evidence) { ev.Log[4].Offset, ev.Log[5].Offset = 1, 0 },
			[]string{"topic: event f1 (order.placed, order o-2, sequence 1) stands behind sequence 2"},
		},
		"an order is in two partitions": {
			func(ev *evidence) { ev.Log[6].Partition = 2 },
			[]string{"topic: event f3 (order.canceled, order o-2, sequence 3) is in partition 2, earlier events of its order in 1"},
		},
		"a record of nothing": {
			func(ev *evidence) { ev.Log = append(ev.Log, logRecord{"x", "o-1", 0, 9}) },
			[]string{"topic: partition 0 offset 9 has event x, which the order service never recorded"},
		},
		"a record under another key": {
			func(ev *evidence) { ev.Log[6].Key = "o-3" },
			[]string{`topic: event f3 (order.canceled, order o-2, sequence 3) has the key "o-3"`},
		},
		"the second copy is missing": {
			func(ev *evidence) {
				ev.Log = append(ev.Log[:2:2], ev.Log[3:]...)
			},
			[]string{"topic: event e2 (order.paid, order o-1, sequence 2) was to be published twice and is there once"},
		},
		"a duplicate was not refused": {
			func(ev *evidence) { ev.Services[1].Refused = 0 },
			[]string{"shipping: refused 0 duplicates, but the topic has 1 second copies of its events"},
		},
		"the journal has a gap": {
			func(ev *evidence) { ev.Journal[5].Sequence = 4 },
			[]string{"journal: event f3 (order.canceled, order o-2, sequence 4) follows sequence 2"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			ev := sound()
			c.tamper(&ev)
			a := audit(ev)
			require.False(t, a.OK())
			for _, w := range c.want {
				require.Contains(t, a.Mismatches, w)
			}
		})
	}
}

func TestAnEmptyJournalProvesNothing(t *testing.T) {
	require.False(t, audit(evidence{}).OK())
}

func TestManyMismatchesOfAKindAreCountedNotListed(t *testing.T) {
	ev := sound()
	ev.Services[0].Effects = nil
	a := audit(ev)
	require.Equal(t, 6, a.Services[0].Lost)
	require.Contains(t, a.Mismatches, "billing lost: and 1 more")
	require.Len(t, strings.Split(strings.Join(a.Mismatches, "\n"), "had no effect"), maxNamed+1)
}

func TestFaultsThatDidNotHappenAreMismatches(t *testing.T) {
	require.Len(t, faults{}.missing(true), 2)
	require.Len(t, faults{}.missing(false), 1)
	all := faults{kills: 1, effects: 30, unfinished: 4, after: 50, restarts: 1}
	require.Empty(t, all.missing(true))
	for what, tamper := range map[string]func(*faults){
		"killed, but never started again":            func(f *faults) { f.down = true },
		"killed before it had done anything":         func(f *faults) { f.effects = 0 },
		"killed when it had finished everything":     func(f *faults) { f.unfinished = 0 },
		"started again, but it did nothing any more": func(f *faults) { f.after = 0 },
	} {
		f := all
		tamper(&f)
		require.Len(t, f.missing(true), 1, what)
	}
}
