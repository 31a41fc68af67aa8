package deadletter_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/deadletter/internal/replica"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	group  = "billing"
	charge = "charge"
	topic  = "order"
)

var handler = inbox.Handler{Group: group, Name: charge}

// parker is the side of a store that handlers have.
type parker interface {
	Look(ctx context.Context, a inbox.Admission) (inbox.Answer, error)
	Record(ctx context.Context, a inbox.Admission) error
	Park(ctx context.Context, a inbox.Admission, f inbox.Failure) (inbox.Answer, error)
}

// shop is a handler's dead letters in memory and the effects of its function.
type shop struct {
	*replica.Memory

	t testing.TB

	mu      sync.Mutex
	offset  int64
	applied []string        // key/value, in order
	running map[string]int  // by key
	fails   map[string]bool // values that fail
	takes   time.Duration   // a try
	tries   int
}

func newShop(t testing.TB) *shop {
	return &shop{Memory: replica.NewMemory(), t: t, running: map[string]int{}, fails: map[string]bool{}}
}

// store is the store as a further process has it.
func (s *shop) store() *replica.Store { return replica.New(s.Memory, s.State, group, 0) }

// admission returns one of a new event.
func (s *shop) admission(key, value string) inbox.Admission {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offset++
	return inbox.Admission{
		Handler: handler, EventID: uuid.Must(uuid.NewV7()), Type: "order.placed", Source: "/shop",
		AggregateType: topic, AggregateID: key,
		Place:   inbox.Place{Topic: topic, Partition: 0, Offset: s.offset, Key: []byte(key)},
		Message: &inbox.Message{Record: event.KafkaRecord{Key: []byte(key), Value: []byte(value)}, Time: time.Now()},
	}
}

// park parks an event of a key.
func (s *shop) park(key, value string, f inbox.Failure) {
	s.t.Helper()
	answer, err := s.store().Park(s.t.Context(), s.admission(key, value), f)
	require.NoError(s.t, err)
	require.Equal(s.t, inbox.Parked.String(), answer.String())
}

// line parks events of a key: the first has failed, the others wait behind it.
func (s *shop) line(key string, values ...string) {
	s.t.Helper()
	f := inbox.Failure{Cause: inbox.CauseError, Error: "no", Attempts: 5}
	for _, v := range values {
		s.park(key, v, f)
		f = inbox.Failure{Cause: inbox.CauseBehind}
	}
}

// effects returns what was applied, of one key or all.
func (s *shop) effects() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.applied)
}

func (s *shop) fail(values ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range values {
		s.fails[v] = true
	}
}

func (s *shop) tried() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tries
}

func (s *shop) mend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.fails)
}

var quiet = slog.New(slog.DiscardHandler)

var errNo = errors.New("no")

// run is the handler's function, which no two may run for one key.
func (s *shop) run(ctx context.Context, key, value string) error {
	s.mu.Lock()
	s.tries++
	s.running[key]++
	overlap := s.running[key] > 1
	takes := s.takes
	s.mu.Unlock()
	if overlap {
		s.t.Errorf("I3: two tries of key %q at once", key)
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.running[key]--
	}()
	if takes > 0 {
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails[value] {
		return errNo
	}
	s.applied = append(s.applied, key+"/"+value)
	return nil
}

// retrier retries as the router does: by the handler, with the letter's ID.
type retrier struct {
	shop  *shop
	store parker
	// before, when set, may decide instead.
	before func(ctx context.Context, l deadletter.Letter) (deadletter.Outcome, bool)
	due    time.Duration // of a failed retry
}

func admissionOf(l *deadletter.Letter) inbox.Admission {
	return inbox.Admission{
		Handler: l.Handler, Place: l.Place, EventID: l.EventID, Type: l.Type, Letter: l.ID, Attempt: l.Attempts + 1,
		Message: &inbox.Message{Record: l.Record, Time: l.Time},
	}
}

func (r *retrier) Retry(ctx context.Context, l deadletter.Letter) deadletter.Outcome {
	if r.before != nil {
		if o, ok := r.before(ctx, l); ok {
			return o
		}
	}
	a := admissionOf(&l)
	answer, err := r.store.Look(ctx, a)
	switch {
	case err != nil:
		return deadletter.Outcome{Verdict: deadletter.NotTried, Err: err}
	case answer == inbox.Gone:
		return deadletter.Outcome{Verdict: deadletter.Passed}
	}
	if err := r.shop.run(ctx, string(l.Place.Key), string(l.Record.Value)); err != nil {
		if ctx.Err() != nil {
			return deadletter.Outcome{Verdict: deadletter.NotTried, Err: err}
		}
		f := inbox.Failure{Cause: inbox.CauseError, Error: err.Error(), Attempts: l.Attempts + 1, Last: time.Now()}
		if r.due > 0 {
			f.Due = time.Now().Add(r.due)
		}
		if _, err := r.store.Park(ctx, a, f); err != nil {
			return deadletter.Outcome{Verdict: deadletter.NotTried, Err: err}
		}
		return deadletter.Outcome{Verdict: deadletter.Failed, Err: err}
	}
	if err := r.store.Record(ctx, a); err != nil {
		return deadletter.Outcome{Verdict: deadletter.NotTried, Err: err}
	}
	return deadletter.Outcome{Verdict: deadletter.Applied}
}

func (r *retrier) Check(_ deadletter.Letter, to deadletter.Edited) error {
	if len(to.Value) > 0 && to.Value[0] == '!' {
		return errors.New("line 1, column 1: unexpected '!'")
	}
	return nil
}

// config is a Runner's for a member of the shop.
func (s *shop) config(member string) deadletter.Config {
	store := s.store()
	return deadletter.Config{
		Store: store, Group: group, Member: member,
		Handlers: map[string]deadletter.Retrier{charge: &retrier{shop: s, store: store}},
		Logger:   quiet,
	}
}

// start runs a Runner until stop is called, which returns when it has ended.
func (s *shop) start(c deadletter.Config) (r *deadletter.Runner, stop func()) {
	s.t.Helper()
	r, err := deadletter.NewRunner(c)
	require.NoError(s.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			require.NoError(s.t, <-done)
		})
	}
	s.t.Cleanup(stop)
	return r, stop
}

// ask records a request to retry.
func (s *shop) ask(f deadletter.Filter, rate float64) deadletter.Request {
	s.t.Helper()
	f.Group = group
	q, err := s.store().Ask(s.t.Context(), deadletter.Request{Group: group, Kind: deadletter.RequestRetry, Filter: f, Rate: rate}, ann)
	require.NoError(s.t, err)
	return q
}

var ann = deadletter.Act{Who: "ann", Reason: "mended"}

func (s *shop) request(id int64) deadletter.Request {
	s.t.Helper()
	q, err := s.store().Request(s.t.Context(), id)
	require.NoError(s.t, err)
	return q
}

func (s *shop) keys() []deadletter.Key {
	s.t.Helper()
	keys, err := s.store().Keys(s.t.Context(), deadletter.Filter{}, 0, 1000)
	require.NoError(s.t, err)
	return keys
}
