package deadletter_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/deadletter/internal/replica"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// schedules is how many random schedules a run has.
const schedules = 2000

// Random schedules of members that retry, fail, arrive, stop and vanish, with
// edits and discards, against what must be true of any: every event of a key is
// applied or discarded, once, and those applied in order.
func TestI3I4I6AnyScheduleSettlesEachEventOnceAndInOrder(t *testing.T) {
	n := schedules
	if testing.Short() {
		n = 300
	}
	first := rand.Uint64()
	var parked, retried, edited, discarded, killed int
	for i := range uint64(n) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, first+i)
			w.run()
			if t.Failed() {
				t.Fatalf("schedule of seed %d", first+i)
			}
			parked, retried, edited, discarded, killed = parked+w.parked, retried+w.retried, edited+w.edited, discarded+len(w.discarded), killed+w.killed
		})
		if t.Failed() {
			return
		}
	}
	// A model that never parks proves nothing.
	t.Logf("%d schedules: %d events parked, %d tries of parked ones, %d edited, %d discarded, %d members killed", n, parked, retried, edited, discarded, killed)
	for _, count := range []int{parked, retried, edited, discarded, killed} {
		require.Greater(t, count, n/10)
	}
}

// world is one schedule.
type world struct {
	t      *testing.T
	random *rand.Rand // of the schedule: used by its own goroutine only
	memory *replica.Memory

	mu        sync.Mutex
	left      map[uuid.UUID]int // failures to come
	sequence  map[uuid.UUID]int
	applied   map[string][]int // by key: sequences, in order of effect
	value     map[uuid.UUID]string
	discarded map[uuid.UUID]bool
	running   map[string]int

	arrived                         map[string]int
	parked, retried, edited, killed int
	lanes                           sync.WaitGroup
}

func newWorld(t *testing.T, seed uint64) *world {
	return &world{
		t: t, random: rand.New(rand.NewPCG(seed, seed)), memory: replica.NewMemory(),
		left: map[uuid.UUID]int{}, sequence: map[uuid.UUID]int{}, applied: map[string][]int{}, value: map[uuid.UUID]string{},
		discarded: map[uuid.UUID]bool{}, running: map[string]int{}, arrived: map[string]int{},
	}
}

func (w *world) store() *replica.Store { return replica.New(w.memory, w.memory.State, group, 0) }

// process is one member: what it does after it was killed does not happen.
type process struct {
	*awayStore

	world *world
	name  string
	stop  context.CancelFunc
	ended chan struct{}
}

func (w *world) start(name string) *process {
	p := &process{awayStore: &awayStore{Store: w.store()}, world: w, name: name, ended: make(chan struct{})}
	r, err := deadletter.NewRunner(deadletter.Config{
		Store: p, Group: group, Member: name, Handlers: map[string]deadletter.Retrier{charge: p},
		Concurrent: 1 + w.random.IntN(3), Lease: 5 * time.Second, StopTimeout: time.Second, Logger: quiet,
	})
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	go func() {
		defer close(p.ended)
		_ = r.Run(ctx)
	}()
	return p
}

// kill makes the process vanish: nothing of it reaches the store any more.
func (p *process) kill() {
	p.world.mu.Lock()
	p.err.Store(&errAway)
	p.world.mu.Unlock()
	p.stop()
}

// effect applies an event and takes the letter out, if there is one, as one: what
// the stores in databases do, and what this one does when nothing crashes.
func (w *world) effect(ctx context.Context, store *replica.Store, p *process, a inbox.Admission, takes time.Duration) (err error) {
	key := string(a.Place.Key)
	w.mu.Lock()
	w.running[key]++
	if w.running[key] > 1 {
		w.t.Errorf("I3: key %s is handled twice at once", key)
	}
	w.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running[key]--
	if p != nil && p.away() != nil || ctx.Err() != nil {
		return errAway
	}
	if w.left[a.EventID] > 0 {
		w.left[a.EventID]--
		return errNo
	}
	if w.discarded[a.EventID] {
		w.t.Errorf("event %d of key %s was discarded and is applied", w.sequence[a.EventID], key)
	}
	w.applied[key] = append(w.applied[key], w.sequence[a.EventID])
	if want := w.value[a.EventID]; want != string(a.Message.Record.Value) {
		w.t.Errorf("event %d of key %s is applied with the value %q, not %q", w.sequence[a.EventID], key, a.Message.Record.Value, want)
	}
	return store.Record(context.WithoutCancel(ctx), a)
}

// Retry implements deadletter.Retrier.
func (p *process) Retry(ctx context.Context, l deadletter.Letter) deadletter.Outcome {
	w, store := p.world, p.Store.(*replica.Store)
	if p.away() != nil {
		return deadletter.Outcome{Verdict: deadletter.NotTried, Err: errAway}
	}
	a := admissionOf(&l)
	answer, err := store.Look(ctx, a)
	switch {
	case err != nil:
		return deadletter.Outcome{Verdict: deadletter.NotTried, Err: err}
	case answer == inbox.Gone:
		return deadletter.Outcome{Verdict: deadletter.Passed}
	}
	w.mu.Lock()
	w.retried++
	takes := time.Duration(1+len(l.EventID)*int(l.EventID[15])) * time.Millisecond
	w.mu.Unlock()
	switch err := w.effect(ctx, store, p, a, takes); {
	case err == nil:
		return deadletter.Outcome{Verdict: deadletter.Applied}
	case p.away() != nil || ctx.Err() != nil:
		return deadletter.Outcome{Verdict: deadletter.NotTried, Err: err}
	default:
		f := inbox.Failure{Cause: inbox.CauseError, Error: err.Error(), Attempts: l.Attempts + 1}
		if l.EventID[14]%2 == 0 {
			f.Due = time.Now().Add(time.Duration(l.EventID[13]) * 100 * time.Millisecond)
		}
		if _, err := store.Park(context.WithoutCancel(ctx), a, f); err != nil {
			return deadletter.Outcome{Verdict: deadletter.NotTried, Err: err}
		}
		return deadletter.Outcome{Verdict: deadletter.Failed, Err: err}
	}
}

// Check implements deadletter.Retrier.
func (p *process) Check(l deadletter.Letter, to deadletter.Edited) error {
	return (&retrier{}).Check(l, to)
}

// lane delivers events of one key in order, as members of the group do: what was
// not acknowledged is delivered again, by another one.
func (w *world) lane(key string, events []inbox.Admission, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	for _, a := range events {
		time.Sleep(time.Duration(random.IntN(4000)) * time.Millisecond)
		for acked := false; !acked; {
			acked = w.deliver(a, random)
		}
		w.mu.Lock()
		w.arrived[key]++
		w.mu.Unlock()
	}
}

func (w *world) deliver(a inbox.Admission, random *rand.Rand) (acked bool) {
	ctx, store := context.Background(), w.store()
	crash := random.IntN(8) == 0 // after parking, before the offset was committed
	for {
		answer, err := store.Look(ctx, a)
		require.NoError(w.t, err)
		f := inbox.Failure{Cause: inbox.CauseBehind}
		if answer == inbox.Duplicate { // it was parked before the crash, and has left
			return true
		}
		if answer == inbox.Fresh {
			if w.effect(ctx, store, nil, a, time.Duration(random.IntN(50))*time.Millisecond) == nil {
				return true
			}
			f = inbox.Failure{Cause: inbox.CauseError, Attempts: 1}
			if random.IntN(3) == 0 {
				f.Due = time.Now().Add(time.Duration(random.IntN(20)) * time.Second)
			}
		}
		answer, err = store.Park(ctx, a, f)
		require.NoError(w.t, err)
		if answer == inbox.Duplicate {
			return true
		}
		if answer == inbox.Parked {
			w.mu.Lock()
			w.parked++
			w.mu.Unlock()
			return !crash
		}
	}
}

// run plays the schedule to its end and judges it.
func (w *world) run() {
	keys := 1 + w.random.IntN(4)
	total := 0
	var lanes []func()
	for k := range keys {
		key := fmt.Sprintf("k%d", k)
		var events []inbox.Admission
		for i := range 1 + w.random.IntN(8) {
			a := w.event(key, i+1)
			events = append(events, a)
			if w.random.IntN(3) == 0 {
				w.left[a.EventID] = 1 + w.random.IntN(4)
			}
		}
		total += len(events)
		seed := w.random.Uint64()
		lanes = append(lanes, func() { w.lane(key, events, seed) })
	}
	for _, lane := range lanes {
		w.lanes.Go(lane)
	}
	members := []*process{w.start("m0")}
	var gone []*process
	for i := range 6 + w.random.IntN(10) {
		time.Sleep(time.Duration(w.random.IntN(4000)) * time.Millisecond)
		switch w.random.IntN(7) {
		case 0:
			members = append(members, w.start(fmt.Sprintf("m%d", i+1)))
		case 1:
			m := members[0]
			members = append(members[1:], w.start(fmt.Sprintf("m%d", i+1)))
			gone = append(gone, m)
			if w.random.IntN(2) == 0 {
				m.kill()
				w.killed++
			} else {
				m.stop()
			}
		case 2:
			w.edit()
		case 3:
			w.discard()
		default:
			w.ask()
		}
	}
	w.lanes.Wait()
	w.drain(total)
	time.Sleep(10 * time.Second) // a claim of a killed member may have outlived its key
	for _, m := range append(members, gone...) {
		m.stop()
		<-m.ended
	}
	w.judge(total)
}

func (w *world) event(key string, sequence int) inbox.Admission {
	var id uuid.UUID
	for i := range id {
		id[i] = byte(w.random.Uint32())
	}
	w.sequence[id], w.value[id] = sequence, "as it came"
	return inbox.Admission{
		Handler: handler, EventID: id, Type: "order.placed", Sequence: int64(sequence),
		Place:   inbox.Place{Topic: topic, Offset: int64(sequence), Key: []byte(key)},
		Message: &inbox.Message{Record: event.KafkaRecord{Key: []byte(key), Value: []byte("as it came")}},
	}
}

func (w *world) letter() (l deadletter.Letter, ok bool) {
	keys, err := w.store().Keys(w.t.Context(), deadletter.Filter{}, 0, 100)
	require.NoError(w.t, err)
	if len(keys) == 0 {
		return l, false
	}
	letters, err := w.store().Letters(w.t.Context(), keys[w.random.IntN(len(keys))].ID, 0, 100)
	if err != nil || len(letters) == 0 {
		return l, false // applied in between
	}
	return letters[w.random.IntN(len(letters))], true
}

// edit does so itself, so that the model knows when: no member may be at the key.
func (w *world) edit() {
	l, ok := w.letter()
	if !ok {
		return
	}
	if w.random.IntN(2) == 0 { // asks the members, for something that is refused
		_, _ = w.store().Ask(w.t.Context(), deadletter.Request{Group: group, Kind: deadletter.RequestEdit, Letter: l.ID, Value: []byte("!")}, ann)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	value := fmt.Sprintf("edited %d", w.edited)
	if err := w.store().Edit(w.t.Context(), l.ID, deadletter.Edited{Value: []byte(value)}, ann); err == nil {
		w.value[l.EventID] = value
		w.edited++
	}
}

func (w *world) discard() {
	l, ok := w.letter()
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.store().Discard(w.t.Context(), l.ID, ann); err == nil {
		w.discarded[l.EventID] = true
	}
}

func (w *world) ask() {
	rate := []float64{0, 0, 1, 20}[w.random.IntN(4)]
	_, _ = w.store().Ask(w.t.Context(), deadletter.Request{Group: group, Kind: deadletter.RequestRetry, Rate: rate}, ann)
}

// drain asks until nothing is parked: every failure ends.
func (w *world) drain(total int) {
	for range 40 * total {
		keys, err := w.store().Keys(w.t.Context(), deadletter.Filter{}, 0, 1)
		require.NoError(w.t, err)
		if len(keys) == 0 {
			return
		}
		_, _ = w.store().Ask(w.t.Context(), deadletter.Request{Group: group, Kind: deadletter.RequestRetry}, ann)
		time.Sleep(30 * time.Second)
	}
	keys, err := w.store().Keys(w.t.Context(), deadletter.Filter{}, 0, 100)
	require.NoError(w.t, err)
	w.t.Errorf("I6: %d keys are never drained: %+v", len(keys), keys)
}

func (w *world) judge(total int) {
	settled := len(w.discarded)
	for key, sequences := range w.applied {
		settled += len(sequences)
		if !slices.IsSorted(sequences) || len(slices.Compact(slices.Clone(sequences))) != len(sequences) {
			w.t.Errorf("I3, I4: key %s was applied in the order %v", key, sequences)
		}
	}
	if settled != total {
		w.t.Errorf("I6: of %d events %d are settled: %v, %d discarded", total, settled, w.applied, len(w.discarded))
	}
	open, err := w.store().Requests(w.t.Context(), group, true, 100)
	require.NoError(w.t, err)
	for _, q := range open {
		if q.Kind == deadletter.RequestRetry {
			w.t.Errorf("request %d is never finished: %+v", q.ID, q)
		}
	}
}
