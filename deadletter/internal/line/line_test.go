package line_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/deadletter/internal/line"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

var (
	charge = inbox.Handler{Group: "billing", Name: "charge"}
	epoch  = time.UnixMilli(1_700_000_000_000).UTC()
)

func letter(key, event string) *deadletter.Letter {
	return &deadletter.Letter{
		Handler: charge, Place: inbox.Place{Topic: "order", Key: []byte(key)},
		EventID: uuid.NewSHA1(uuid.NameSpaceOID, []byte(event)), Record: record(event), Failure: inbox.Failure{Cause: inbox.CauseBehind},
	}
}

func record(value string) event.KafkaRecord { return event.KafkaRecord{Value: []byte(value)} }

func nameOf(l *deadletter.Letter) string {
	return line.Name(l.Handler, l.Place.Topic, l.Place.Key, l.EventID)
}

// log is a log of letters, and what may have been left of it.
type log []*entry

type entry struct {
	position int64
	change   line.Change
}

// read returns the lines of one who reads it.
func (l log) read() *line.Lines {
	s := line.NewLines()
	for _, e := range l {
		s.Apply(e.position, epoch.Add(time.Duration(e.position)*time.Second), e.change)
	}
	return s
}

// compact keeps the last record of each name below a position; some of the
// tombstones go too.
func (l log) compact(below int64, tombstones bool) log {
	last := map[string]int64{}
	for _, e := range l {
		if e.position < below {
			last[e.change.Name] = e.position
		}
	}
	var kept log
	for _, e := range l {
		if e.position >= below || last[e.change.Name] == e.position && (e.change.Letter != nil || tombstones) {
			kept = append(kept, e)
		}
	}
	return kept
}

// shown is all that people and members see of lines.
func shown(s *line.Lines) []string {
	var list []string
	for _, at := range s.All() {
		list = append(list, fmt.Sprintf("key %d %s of %d bytes", at.ID, at.Key, at.Bytes))
		for _, l := range at.Letters {
			list = append(list, fmt.Sprintf("  %d %s %d", l.ID, l.Record.Value, l.Attempts))
		}
	}
	return list
}

func TestKeysAreToldApartAndNamedForPeople(t *testing.T) {
	a := letter("a/b", "1")
	require.Equal(t, "billing/charge/0/order/a%2Fb/"+a.EventID.String(), nameOf(a))
	names := map[string]bool{}
	id := a.EventID
	for _, h := range []inbox.Handler{charge, {Group: "billing", Name: "charge", Epoch: 1}, {Group: "billing", Name: "remind"}, {Group: "b", Name: "charge"}} {
		for _, topic := range []string{"order", "order/a"} {
			for _, key := range []string{"", "a", "/a", "a/", "a%2F", id.String()} {
				names[line.Name(h, topic, []byte(key), id)] = true
			}
		}
	}
	require.Len(t, names, 4*2*6)
}

// Any reader of a log has the same lines, however much of what was put right of
// it has been compacted: random writers, some of whom know little.
func TestReadersOfACompactedLogHaveTheSameLines(t *testing.T) {
	for seed := range uint64(3000) {
		random := rand.New(rand.NewPCG(seed, 1))
		live := line.NewLines()
		var l log
		write := func(c line.Change) {
			e := &entry{int64(len(l)), c}
			l = append(l, e)
			live.Apply(e.position, epoch.Add(time.Duration(e.position)*time.Second), c)
		}
		var late []line.Change // records that are on their way
		parked := map[string]bool{}
		for range 5 + random.IntN(40) {
			key, number := fmt.Sprint("k", random.IntN(3)), fmt.Sprint("e", random.IntN(8))
			x := letter(key, key+number)
			known := live.Named(nameOf(x))
			switch random.IntN(6) {
			case 0, 1: // parked, with what the writer knows, perhaps twice
				c := line.Change{Name: nameOf(x), Letter: x}
				if at := live.Line(charge, "order", []byte(key), x.EventID); at != nil && random.IntN(4) > 0 {
					c.Line, c.Since = at.ID, at.Since
				}
				write(c)
				parked[nameOf(x)] = true
			case 2, 3:
				if known != nil {
					delete(parked, nameOf(x))
					write(line.Change{Name: nameOf(x)})
				}
			case 4:
				if known != nil {
					c := live.Rewrite(known.ID)
					c.Letter.Attempts++
					if random.IntN(3) == 0 {
						late = append(late, c)
					} else {
						write(c)
					}
				}
			case 5:
				if len(late) > 0 {
					write(late[0])
					late = late[1:]
				}
			}
			for _, name := range live.Stale() { // put right before a compaction comes so far
				c := live.Restore(name)
				c.Restored = true
				write(c)
			}
			require.Empty(t, live.Stale())
		}
		for _, at := range live.All() {
			for _, x := range at.Letters {
				require.True(t, parked[nameOf(x)], "seed %d: a late record brought it back", seed)
				delete(parked, nameOf(x))
			}
		}
		require.Empty(t, parked, "seed %d: lost", seed)
		want := shown(live)
		require.Equal(t, want, shown(l.read()), "seed %d: the whole log", seed)
		for range 5 {
			left := l.compact(random.Int64N(int64(len(l)+1)), random.IntN(2) == 0)
			left = left.compact(random.Int64N(int64(len(l)+1)), random.IntN(2) == 0)
			require.Equal(t, want, shown(left.read()), "seed %d: compacted", seed)
		}
		total := live.Total(charge)
		events, bytes := 0, int64(0)
		for _, at := range live.All() {
			events += len(at.Letters)
			bytes += at.Bytes
			require.True(t, slices.IsSortedFunc(at.Letters, func(a, b *deadletter.Letter) int { return int(a.ID - b.ID) }))
		}
		require.Equal(t, []int64{int64(len(live.All())), int64(events), bytes}, []int64{total.Keys, total.Events, total.Bytes})
	}
}

func TestWhatLeftIsRememberedForADayAndBounded(t *testing.T) {
	s := line.NewLines()
	a := letter("a", "1")
	s.Apply(0, epoch, line.Change{Name: nameOf(a), Letter: a})
	require.False(t, s.Left(nameOf(a)))
	s.Apply(1, epoch, line.Change{Name: nameOf(a)})
	require.True(t, s.Left(nameOf(a)))
	s.Apply(2, epoch.Add(23*time.Hour), line.Change{Name: "b"})
	require.True(t, s.Left(nameOf(a)))
	s.Apply(3, epoch.Add(25*time.Hour), line.Change{Name: "c"})
	require.False(t, s.Left(nameOf(a)))
	for i := range int64(100_000) {
		s.Apply(4+i, epoch.Add(25*time.Hour), line.Change{Name: fmt.Sprint("x", i)})
	}
	require.False(t, s.Left("c"))
	require.True(t, s.Left("x0"))
}

func TestClaimsAreGrantedInTheOrderOfTheLog(t *testing.T) {
	d := line.NewDesk()
	at := func(s int) time.Time { return epoch.Add(time.Duration(s) * time.Second) }
	claim := func(second int, member string, keys ...int64) []int64 {
		return d.Apply(int64(second), at(second), line.Note{Claim: &line.Claim{Member: member, Keys: keys, Lease: 10 * time.Second}}).Keys
	}
	renew := func(second int, member string, keys ...int64) []int64 {
		return d.Apply(int64(second), at(second), line.Note{Renew: &line.Claim{Member: member, Keys: keys, Lease: 10 * time.Second}}).Keys
	}
	require.Equal(t, []int64{1, 2}, claim(0, "a", 1, 2))
	require.Equal(t, []int64{3}, claim(1, "b", 2, 3))
	require.Empty(t, claim(2, "a", 1), "also its own")
	require.Equal(t, []int64{1}, renew(5, "a", 1, 3))
	require.Equal(t, []int64{2}, claim(10, "b", 1, 2), "the lease has passed")
	require.Empty(t, renew(11, "a", 2))
	require.Empty(t, renew(15, "a", 1), "too late")
	require.False(t, d.Apply(16, at(16), line.Note{Release: &line.Release{Member: "a", Key: 2}}).OK)
	require.True(t, d.Apply(17, at(17), line.Note{Release: &line.Release{Member: "b", Key: 2}}).OK)
	require.True(t, d.Unfinished(2, at(17)))
	require.Equal(t, []int64{2}, claim(18, "c", 2))
	require.True(t, d.Apply(19, at(19), line.Note{Release: &line.Release{Member: "c", Key: 2, Done: true}}).OK)
	require.False(t, d.Unfinished(2, at(19)))
}

func TestADeskForgetsOldRequestsAndEntriesButNoOpenOnes(t *testing.T) {
	d := line.NewDesk()
	ask := func(position int64) {
		q := line.Ask{Request: deadletter.Request{Group: "billing", Kind: deadletter.RequestEdit}}
		q.Entry.Group = "billing"
		d.Apply(position, epoch, line.Note{Ask: &q})
	}
	ask(0)
	for i := range int64(25_000) {
		ask(2*i + 1)
		d.Apply(2*i+2, epoch, line.Note{Settle: &line.Settle{Request: 2*i + 2, State: deadletter.Done}})
	}
	_, ok := d.Request(1)
	require.True(t, ok, "it is open")
	_, ok = d.Request(2)
	require.False(t, ok)
	require.LessOrEqual(t, len(d.Requests("billing", false, 1<<20)), 2001)
	require.LessOrEqual(t, len(d.Audit("billing", 0, 1<<20)), 20_000)
	require.Len(t, d.Requests("billing", true, 9), 1)
	require.Empty(t, d.Requests("shipping", false, 9))
}

// I8: what people discard and edit stands in the log of acts, whole.
func TestADeskBoundsTheBytesOfItsEntries(t *testing.T) {
	d := line.NewDesk()
	large := json.RawMessage(`"` + strings.Repeat("x", 1<<20) + `"`)
	for i := range int64(100) {
		d.Apply(i, epoch, line.Note{Audit: &deadletter.Entry{Group: "billing", Before: large}})
	}
	list := d.Audit("billing", 0, 1000)
	require.Less(t, len(list), 40)
	require.Greater(t, len(list), 20)
	require.Equal(t, int64(100), list[0].ID, "the newest stay")
}

// A key that was begun because it was due waits for nobody, however long all
// members are away.
func TestADeskRemembersWhatWasBegunWhileNobodyWasThere(t *testing.T) {
	d := line.NewDesk()
	claim := func(position int64, at time.Time, keys ...int64) {
		d.Apply(position, at, line.Note{Claim: &line.Claim{Member: "a", Keys: keys, Lease: 10 * time.Second}})
	}
	claim(0, epoch, 1, 2)
	later := epoch.Add(72 * time.Hour)
	claim(1, later, 3)
	require.True(t, d.Unfinished(1, later))
	require.True(t, d.Unfinished(2, later))
	much := epoch.Add(60 * 24 * time.Hour)
	claim(2, much, 3)
	require.False(t, d.Unfinished(1, much))
}

// I8: what is said of a failure counts too, and nothing stays counted.
func TestLinesCountTheMemoryOfAllThatALetterHas(t *testing.T) {
	s := line.NewLines()
	l := letter("a", "1")
	l.Error, l.Stack = strings.Repeat("e", 1000), strings.Repeat("s", 10_000)
	id, ok := s.Apply(0, epoch, line.Change{Name: nameOf(l), Letter: l})
	require.True(t, ok)
	require.Greater(t, s.Memory(), int64(11_000))
	edited := *s.Letter(id)
	edited.Record = record(strings.Repeat("v", 5000))
	edited.Original = &event.KafkaRecord{Value: make([]byte, 7000)}
	_, ok = s.Apply(1, epoch, line.Change{Name: nameOf(l), Letter: &edited})
	require.True(t, ok)
	require.Greater(t, s.Memory(), int64(23_000))
	_, ok = s.Apply(2, epoch, line.Change{Name: nameOf(l)})
	require.True(t, ok)
	require.Zero(t, s.Memory())
}
