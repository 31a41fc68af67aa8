package pathmodel

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/deadletter/internal/replica"
	"github.com/tidings-bus/tidings/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// seedEnv repeats the schedule of a failure: goroutines that wake at the same
// moment take turns as they like, so that it is played a hundred times.
const seedEnv = "TIDINGS_TEST_SEED"

var repeats = os.Getenv(seedEnv) != ""

// tell says how a failure is had again, and what led to it when it is.
func (w *world) tell(seed uint64) {
	w.t.Logf("to repeat this schedule: %s=%d", seedEnv, seed)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, line := range w.history {
		w.t.Log(line)
	}
}

// schedules is how many an ordinary run plays; with TIDINGS_TEST_LONG=1 thirty
// times as many, with the race detector or -short a tenth.
const schedules = 3000

// databaseSchedules is how many are played with a database, which takes longer,
// and with the race detector some ten times as long again.
const databaseSchedules = 40

func TestI3I4I5I6AnyScheduleOfAGroupWithoutADatabaseAppliesEverythingInOrder(t *testing.T) {
	told := play(t, schedules, func(w *world) base { return &memory{world: w, log: replica.NewMemory()} })
	requireTold(t, told, "parked", "discarded", "killed", "moved", "lost", "asked", "stopped", "repeated", "faults")
}

// requireTold: a model in which nothing happens proves nothing.
func requireTold(t *testing.T, told map[string]int, whats ...string) {
	t.Helper()
	for _, what := range whats {
		if !repeats && told["schedules"] >= 40 { // of few, some may see none
			require.Greater(t, told[what], told["schedules"]/20, what)
		}
	}
}

// play plays n schedules, half of them in each of two goroutines.
func play(t *testing.T, n int, on func(*world) base) map[string]int {
	t.Helper()
	switch {
	case testenv.Long():
		n *= 30
	case testing.Short() || raceDetector:
		n /= 10
	}
	first, same := rand.Uint64(), false
	if text := os.Getenv(seedEnv); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
		first, n, same = seed, 100, true
	}
	var mu sync.Mutex
	told := map[string]int{}
	t.Run("schedules", func(t *testing.T) {
		const shards = 2
		for shard := range shards {
			t.Run(strconv.Itoa(shard), func(t *testing.T) {
				t.Parallel()
				for i := shard; i < n && !t.Failed(); i += shards {
					seed := first + uint64(i)
					if same {
						seed = first
					}
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t, seed)
						defer func() {
							if t.Failed() {
								w.tell(seed)
							}
						}()
						w.base = on(w)
						w.run()
						mu.Lock()
						defer mu.Unlock()
						for what, count := range w.told {
							told[what] += count
						}
						told["schedules"]++
					})
				}
			})
		}
	})
	t.Logf("%v", told)
	return told
}

// run plays the schedule to its end.
func (w *world) run() {
	w.store = w.base.letters()
	for range 1 + w.random.IntN(3) {
		w.start(w.name())
	}
	defer func() {
		for _, m := range append(w.members, w.gone...) {
			m.stop()
			<-m.ended
		}
		for _, f := range w.atEnd {
			f()
		}
	}()
	w.assign()
	for steps := 8 + w.random.IntN(10); steps > 0 || len(w.coming) > 0; steps-- {
		time.Sleep(w.between(3 * time.Second))
		w.publish(w.random.IntN(5))
		if w.chance(2) {
			w.commitAll()
		}
		w.step()
	}
	w.finish()
}

func (w *world) name() string {
	w.began++
	return fmt.Sprintf("m%d", w.began)
}

// step is what the world does to the group.
func (w *world) step() {
	switch w.random.IntN(12) {
	case 0: // one joins
		if len(w.members) < 3 {
			m := w.start(w.name())
			w.move(w.somePartition(), m)
		}
	case 1: // one crashes
		m := w.some()
		w.mu.Lock()
		m.dead.Store(true)
		w.mu.Unlock()
		w.kills++
		w.logf("%s crashes", m.name)
		w.told["killed"]++
		w.bury(m)
		if w.chance(2) {
			time.Sleep(w.between(5 * time.Second))
		}
		w.assign()
	case 2: // one stops in good order
		m := w.some()
		m.stop()
		<-m.ended
		w.logf("%s has stopped", m.name)
		w.told["stopped"]++
		w.bury(m)
		w.assign()
	case 3:
		w.move(w.somePartition(), w.some())
	case 4: // a session runs out
		id := w.somePartition()
		w.owner[id].reader.drop(id)
		w.owner[id] = nil
		w.told["lost"]++
		w.logf("%d is lost", id)
		w.assign()
	case 5:
		w.discardOne()
	case 6, 7:
		w.ask(deadletter.Filter{})
	case 8:
		w.ask(deadletter.Filter{Keys: [][]byte{fmt.Appendf(nil, "k%d", w.random.IntN(4))}, Handlers: []string{w.handlers[0]}})
	}
}

func (w *world) logf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notef(format, args...)
}

func (w *world) some() *member { return w.members[w.random.IntN(len(w.members))] }

func (w *world) somePartition() int32 { return int32(w.random.IntN(len(w.logs))) }

// bury takes a member from those that live.
func (w *world) bury(m *member) {
	m.stop()
	w.gone = append(w.gone, m)
	w.members = slices.DeleteFunc(w.members, func(o *member) bool { return o == m })
	for id, o := range w.owner {
		if o == m {
			w.owner[id] = nil
		}
	}
	if len(w.members) == 0 {
		w.start(w.name())
	}
}

// assign gives partitions that nobody has to somebody.
func (w *world) assign() {
	for id := range w.logs {
		if w.owner[int32(id)] == nil {
			m := w.some()
			w.owner[int32(id)] = m
			m.reader.open(int32(id))
		}
	}
}

// move drains a partition and gives it to a member.
func (w *world) move(id int32, to *member) {
	w.told["moved"]++
	w.owner[id].reader.giveUp(id)
	w.owner[id] = to
	to.reader.open(id)
}

func (w *world) commitAll() {
	for id := range w.logs {
		w.owner[int32(id)].reader.commit(int32(id))
	}
}

func (w *world) ask(f deadletter.Filter) {
	rate := []float64{0, 0, 1, 20}[w.random.IntN(4)]
	f.Group = group
	_, err := w.store.Ask(w.t.Context(), deadletter.Request{Group: group, Kind: deadletter.RequestRetry, Filter: f, Rate: rate}, deadletter.Act{Who: "ann", Reason: "mended"})
	if err == nil { // else nothing is parked
		w.told["asked"]++
	}
}

func (w *world) discardOne() {
	letters := w.lettersNow()
	w.told["parked"] += len(letters)
	if len(letters) > 0 {
		w.discard(&letters[w.random.IntN(len(letters))])
	}
}

// discard discards a letter, or leaves it when it is being retried.
func (w *world) discard(l *deadletter.Letter) {
	it := w.of(l)
	if it == nil {
		return
	}
	f := fact{l.Handler.Name, it}
	w.mu.Lock()
	w.discarding = &f // what comes behind it may be applied before we hear of it
	w.mu.Unlock()
	err := w.store.Discard(w.t.Context(), l.ID, deadletter.Act{Who: "ann", Reason: "of no use"})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.discarding = nil
	if err == nil {
		w.discarded[f] = true
		w.notef("%v is discarded for %s", it, f.handler)
		w.told["discarded"]++
	}
}

// finish lets everything settle, and judges what came of it.
func (w *world) finish() {
	var parked map[fact]bool
	for range 300 {
		w.commitAll()
		parked = w.parked()
		if len(parked) == 0 && w.acknowledged() {
			break
		}
		for _, l := range w.lettersNow() {
			if it := w.of(&l); it.garbage { // nobody will ever read it
				w.discard(&l)
			}
		}
		w.ask(deadletter.Filter{})
		time.Sleep(20 * time.Second)
	}
	if len(parked) > 0 {
		w.t.Errorf("I6: never drained: %v", slices.Collect(maps.Keys(parked)))
	}
	if !w.acknowledged() {
		w.t.Errorf("I5: the watermarks stay at %v", w.committed)
	}
	applied := w.base.applied()
	for _, log := range w.logs {
		for _, it := range log {
			for _, h := range w.handlers {
				w.settled(fact{h, it}, applied[fact{h, it}])
			}
		}
	}
	w.told["faults"] += w.faults
}

func (w *world) settled(f fact, times int) {
	switch {
	case f.item.foreign:
	case times == 0 && !w.discarded[f]:
		w.t.Errorf("I6: handler %s has lost %v", f.handler, f.item)
	case times > 1 && w.base.exactly():
		w.t.Errorf("I4: handler %s has applied %v %d times", f.handler, f.item, times)
	case times > 1 && f.item.reads == 0 && w.kills == 0 && w.faults == 0:
		w.t.Errorf("I4: handler %s has applied %v %d times, which was read once", f.handler, f.item, times)
	case times > 1:
		w.told["repeated"]++
	}
}

// acknowledged: the committed watermarks are the log's ends.
func (w *world) acknowledged() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, log := range w.logs {
		if len(log) > 0 && w.committed[id] <= log[len(log)-1].offset {
			return false
		}
	}
	return true
}
