package pathmodel

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/internal/delivery"
	"github.com/tidings-bus/tidings/internal/lanes"
	"github.com/tidings-bus/tidings/router"
)

// item is a message of the log.
type item struct {
	key       string
	partition int32
	offset    int64
	before    []*item // of its key, in the log's order
	garbage   bool
	foreign   bool // of a type that nobody takes
	id        uuid.UUID
	record    event.KafkaRecord
	at        time.Time
	reads     int // how often an owner of its partition may have begun with it
}

func (it *item) String() string {
	what := ""
	if it.garbage {
		what = ", undecodable,"
	}
	return fmt.Sprintf("%q%s at %d/%d", it.key, what, it.partition, it.offset)
}

// fact is about an item in a handler.
type fact struct {
	handler string
	item    *item
}

// kind is what a try comes to.
type kind int

const (
	works kind = iota
	fails
	panics
	waits
	rejects
	hangs
)

// outcome is what a try meets.
type outcome struct {
	kind  kind
	takes time.Duration
	after time.Duration // waits
}

// world is one schedule: the log, the group, the model.
type world struct {
	t        *testing.T
	random   *rand.Rand // of the schedule's own goroutine
	catalog  *event.Catalog
	base     base
	handlers []string
	settings handlers.Settings
	outage   router.Outage
	members  []*member // that live
	gone     []*member
	owner    map[int32]*member
	byID     map[uuid.UUID]*item
	store    deadletter.Store
	told     map[string]int // what happened
	kills    int
	began    int           // members
	pace     time.Duration // what tries take is divided by it
	atEnd    []func()

	mu         sync.Mutex
	chances    *rand.Rand // of all others
	logs       [][]*item  // by partition, up to what is published
	coming     []*item
	committed  []int64
	scripts    map[fact][]outcome
	effects    map[fact]int // of plain handlers
	discarded  map[fact]bool
	discarding *fact
	running    map[string]*member // by handler and key
	faulty     bool
	faults     int
	history    []string // when a schedule is repeated
}

// notef remembers what happened, for the log of a failure. The lock is held.
func (w *world) notef(format string, args ...any) {
	if repeats {
		w.history = append(w.history, time.Now().Format("04:05.000 ")+fmt.Sprintf(format, args...))
	}
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, pace: 1, random: rand.New(rand.NewPCG(seed, 1)), chances: rand.New(rand.NewPCG(seed, 2)),
		owner: map[int32]*member{}, byID: map[uuid.UUID]*item{}, told: map[string]int{},
		scripts: map[fact][]outcome{}, effects: map[fact]int{}, discarded: map[fact]bool{}, running: map[string]*member{},
	}
	var err error
	w.catalog, err = event.NewCatalog(event.CatalogConfig{Source: "/shop"})
	require.NoError(t, err)
	require.NoError(t, event.Register[stepped](w.catalog, "order.stepped", 1))
	require.NoError(t, event.Register[noted](w.catalog, "order.noted", 1))
	w.handlers = []string{"charge", "ship"}[:1+w.random.IntN(2)]
	w.settings = handlers.Settings{
		Tries: 1 + w.random.IntN(3), MinBackoff: 100 * time.Millisecond, MaxBackoff: time.Second, Timeout: 3 * time.Second,
	}
	if w.chance(6) {
		w.settings.Bounds.Events = 3
	}
	switch w.random.IntN(3) {
	case 0:
		w.outage.Off = true
	case 1:
		w.outage.Keys = 2
	}
	w.faulty = w.chance(2)
	partitions := 1 + w.random.IntN(2)
	w.logs, w.committed = make([][]*item, partitions), make([]int64, partitions)
	w.plan(partitions)
	return w
}

// chance is one in n.
func (w *world) chance(n int) bool { return w.random.IntN(n) == 0 }

// plan makes what will be published, and what befalls it.
func (w *world) plan(partitions int) {
	keys := 1 + w.random.IntN(4)
	last := map[string][]*item{}
	next := make([]int64, partitions)
	for n := range 4 + w.random.IntN(20) {
		key := fmt.Sprintf("k%d", w.random.IntN(keys))
		it := &item{key: key, partition: int32(int(key[1]) % partitions), garbage: w.chance(25), foreign: w.chance(20)}
		raised := event.Raised{Aggregate: event.Aggregate{Type: "order", ID: key}, Sequence: int64(len(last[key]) + 1), Payload: stepped{N: n}}
		if it.foreign {
			raised.Payload = noted{N: n}
		}
		e, err := w.catalog.Event(w.t.Context(), raised)
		require.NoError(w.t, err)
		it.record, it.id = event.ToKafka(e), e.ID()
		if it.garbage = it.garbage && !it.foreign; it.garbage {
			it.record.Value = []byte("{")
			if w.chance(2) { // not even an event
				it.record.Headers = nil
			}
		}
		if w.chance(20) {
			it.key, it.record.Key = "", nil
		}
		it.before = append([]*item(nil), last[it.key]...)
		if it.key != "" {
			last[it.key] = append(last[it.key], it)
		}
		it.offset = next[it.partition] + int64(w.random.IntN(2)*w.random.IntN(3)) // gaps
		next[it.partition] = it.offset + 1
		w.byID[it.id] = it
		w.coming = append(w.coming, it)
		for _, h := range w.handlers {
			w.scripts[fact{h, it}] = w.script()
		}
	}
}

// script is what the tries of an event meet before it works.
func (w *world) script() []outcome {
	var s []outcome
	if w.chance(4) {
		length := 1 + w.random.IntN(2)
		if w.chance(3) {
			length = 3 + w.random.IntN(6) // poison, for a while
		}
		for range length {
			o := outcome{kind: fails, takes: w.between(100 * time.Millisecond)}
			switch w.random.IntN(9) {
			case 0:
				o.kind = panics
			case 1:
				o.kind, o.after = waits, w.between(10*time.Second)
			case 2:
				o.kind, o.after = waits, time.Minute+w.between(3*time.Minute)
			case 3:
				o.kind = rejects
			case 4:
				o.kind = hangs
			}
			s = append(s, o)
		}
	}
	o := outcome{takes: w.between(50 * time.Millisecond)}
	if w.chance(6) {
		o.takes = w.between(2500 * time.Millisecond)
	}
	return append(s, o)
}

func (w *world) between(most time.Duration) time.Duration {
	return time.Duration(w.random.Int64N(int64(most)))
}

// lag is how long the way to the dead letters takes.
func (w *world) lag() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.chances.IntN(20) == 0 {
		return time.Duration(w.chances.Int64N(int64(time.Second)))
	}
	return time.Duration(w.chances.Int64N(int64(20 * time.Millisecond)))
}

// falters is whether that way fails.
func (w *world) falters() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.faulty || w.chances.IntN(40) > 0 {
		return false
	}
	w.faults++
	return true
}

// publish appends the next n items to the log.
func (w *world) publish(n int) {
	w.mu.Lock()
	n = min(n, len(w.coming))
	for _, it := range w.coming[:n] {
		it.at = time.Now()
		w.notef("%v is published", it)
		w.logs[it.partition] = append(w.logs[it.partition], it)
	}
	w.coming = w.coming[n:]
	w.mu.Unlock()
	for _, m := range w.members {
		m.reader.ring()
	}
}

// fetch returns items of the log from an offset on.
func (w *world) fetch(id int32, from int64, most int) []*item {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, it := range w.logs[id] {
		if it.offset >= from {
			return w.logs[id][i:min(i+most, len(w.logs[id]))]
		}
	}
	return nil
}

// begin is where a new owner of a partition begins.
func (w *world) begin(id int32) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, it := range w.logs[id] {
		if it.offset >= w.committed[id] {
			it.reads++
		}
	}
	w.notef("%d begins at %d", id, w.committed[id])
	return w.committed[id]
}

// enter begins a try.
func (w *world) enter(m *member, handler string, it *item) outcome {
	w.mu.Lock()
	defer w.mu.Unlock()
	if it.key != "" && !m.isDead() {
		at := handler + it.key
		if other := w.running[at]; other != nil && !other.isDead() {
			w.t.Errorf("I3: handler %s has two tries of %q at once, in %s and %s", handler, it.key, other.name, m.name)
		}
		w.running[at] = m
	}
	f := fact{handler, it}
	o := w.scripts[f][0]
	if o.kind != works {
		w.scripts[f] = w.scripts[f][1:]
	}
	o.takes /= w.pace
	w.notef("%s: %s tries %v: %+v", m.name, handler, it, o)
	return o
}

func (w *world) leave(m *member, handler string, it *item) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running[handler+it.key] == m {
		delete(w.running, handler+it.key)
	}
}

// judge looks at an effect that happens now. The lock is held.
func (w *world) judge(f fact, applied func(fact) bool) {
	if w.discarded[f] {
		w.t.Errorf("handler %s applies %v, which was discarded", f.handler, f.item)
	}
	if f.item.garbage || f.item.foreign {
		w.t.Errorf("handler %s applies %v, which is none of its", f.handler, f.item)
	}
	if applied(f) {
		return // what is repeated says nothing of the order
	}
	for _, it := range f.item.before {
		o := fact{f.handler, it}
		if !it.foreign && !w.discarded[o] && (w.discarding == nil || *w.discarding != o) && (it.garbage || !applied(o)) {
			w.t.Errorf("I3: handler %s applies %v before %v", f.handler, f.item, it)
		}
	}
}

// commit commits the watermark of a partition, and looks at all below it.
func (w *world) commit(id int32, l *lanes.Partition[*delivery.Delivery]) {
	at, ok := l.Watermark()
	if !ok {
		return
	}
	parked, applied := w.parked(), w.base.applied() // what leaves was applied before
	w.mu.Lock()
	defer w.mu.Unlock()
	if at < w.committed[id] {
		w.t.Errorf("I5: the watermark of %d goes back from %d to %d", id, w.committed[id], at)
	}
	w.committed[id] = at
	w.notef("%d is committed to %d", id, at)
	for _, it := range w.logs[id] {
		for _, h := range w.handlers {
			if f := (fact{h, it}); it.offset < at && !it.foreign && applied[f] == 0 && !parked[f] && !w.discarded[f] {
				w.t.Errorf("I5: the watermark %d passes %v, with which handler %s is not finished", at, it, h)
			}
		}
	}
}

// parked is what the dead letters hold.
func (w *world) parked() map[fact]bool {
	facts := map[fact]bool{}
	for _, l := range w.lettersNow() {
		if it := w.of(&l); it != nil {
			facts[fact{l.Handler.Name, it}] = true
		}
	}
	return facts
}

func (w *world) lettersNow() []deadletter.Letter {
	ctx := w.t.Context()
	keys, err := w.store.Keys(ctx, deadletter.Filter{}, 0, deadletter.MaxPage)
	require.NoError(w.t, err)
	var all []deadletter.Letter
	for _, k := range keys {
		letters, err := w.store.Letters(ctx, k.ID, 0, 100)
		if err == nil { // else its last one has just left
			all = append(all, letters...)
		}
	}
	return all
}

func (w *world) of(l *deadletter.Letter) *item {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, it := range w.logs[l.Place.Partition] {
		if it.offset == l.Place.Offset {
			return it
		}
	}
	w.t.Errorf("letter %d is of no message: %+v", l.ID, l.Place)
	return nil
}
