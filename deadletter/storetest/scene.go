package storetest

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

const (
	billing = "billing"
	orders  = "orders"
	placed  = "order.placed"
	member  = "member-1"
	second  = "member-2"
	lease   = time.Minute
)

var (
	charge = inbox.Handler{Group: billing, Name: "charge"}
	remind = inbox.Handler{Group: billing, Name: "remind"}
	ann    = deadletter.Act{Who: "ann", Reason: "the card service was repaired"}
	both   = []string{"charge", "remind"}
)

// scene is a part of the suite on its store.
type scene struct {
	*testing.T
	Fixture

	offset atomic.Int64
}

// read is an event of a key as it is read.
func (s *scene) read(h inbox.Handler, key string, sequence int64) inbox.Admission {
	id := uuid.Must(uuid.NewV7())
	a := inbox.Admission{
		Handler: h,
		Place:   inbox.Place{Topic: orders, Partition: 2, Offset: s.offset.Add(1)},
		Attempt: 1,
		EventID: id, Source: "/shop", AggregateType: "order", AggregateID: key, Sequence: sequence,
		Type: placed,
		Message: &inbox.Message{
			Record: event.KafkaRecord{
				Value:   fmt.Appendf(nil, `{"order":%q,"n":%d}`, key, sequence),
				Headers: []event.KafkaHeader{{Key: "ce_id", Value: []byte(id.String())}},
			},
			Time: time.UnixMilli(1_750_000_000_123).UTC(),
		},
	}
	if key != "" {
		a.Place.Key = []byte(key)
		a.Message.Record.Key = a.Place.Key
	}
	return a
}

// failure is what is told of an event whose tries were spent.
func failure(cause inbox.Cause) inbox.Failure {
	return inbox.Failure{
		Cause: cause, Error: "no answer from the bank", Attempts: 5,
		First: time.UnixMilli(1_760_000_000_001).UTC(), Last: time.UnixMilli(1_760_000_000_999).UTC(),
	}
}

// put parks a, and demands that it is parked.
func (s *scene) put(a inbox.Admission, f inbox.Failure) {
	s.Helper()
	got, err := s.Box.Park(s.Context(), a, f)
	require.NoError(s, err)
	require.Equal(s, inbox.Parked.String(), got.String())
}

// park parks events of a key with sequences from first on: the first failed, the
// others wait behind it. It returns their letters.
func (s *scene) park(h inbox.Handler, key string, first int64, n int) []deadletter.Letter {
	s.Helper()
	for i := range int64(n) {
		f := failure(inbox.CauseError)
		if i > 0 {
			f = inbox.Failure{Cause: inbox.CauseBehind}
		}
		s.put(s.read(h, key, first+i), f)
	}
	return s.letters(s.key(h, key).ID)
}

// keys lists all keys that match.
func (s *scene) keys(f deadletter.Filter) []deadletter.Key {
	s.Helper()
	list, err := s.Store.Keys(s.Context(), f, 0, deadletter.MaxPage)
	require.NoError(s, err)
	return list
}

// key returns a parked key of a handler.
func (s *scene) key(h inbox.Handler, key string) deadletter.Key {
	s.Helper()
	list := s.keys(deadletter.Filter{Group: h.Group, Handlers: []string{h.Name}, Keys: [][]byte{[]byte(key)}})
	list = slices.DeleteFunc(list, func(k deadletter.Key) bool { return k.Handler != h })
	require.Len(s, list, 1, "parked keys %q of handler %q", key, h.Name)
	return list[0]
}

func (s *scene) letters(key int64) []deadletter.Letter {
	s.Helper()
	list, err := s.Store.Letters(s.Context(), key, 0, deadletter.MaxPage)
	require.NoError(s, err)
	return list
}

// consistent demands that what is listed of each key is what its letters say.
func (s *scene) consistent() {
	s.Helper()
	var sum deadletter.Count
	for _, k := range s.keys(deadletter.Filter{}) {
		list := s.letters(k.ID)
		require.NotEmpty(s, list)
		head := list[0]
		require.Equal(s, int64(len(list)), k.Events, "events of key %q", k.Key)
		require.Equal(s, head.ID, k.Head)
		require.Equal(s, head.Handler, k.Handler)
		require.Equal(s, head.Cause, k.Cause)
		require.Equal(s, head.Type, k.Type)
		require.Equal(s, head.Error, k.Error)
		require.Equal(s, head.Attempts, k.Tries)
		require.Equal(s, head.Parked, k.HeadAt)
		require.True(s, slices.IsSortedFunc(list, func(a, b deadletter.Letter) int { return int(a.ID - b.ID) }))
		sum.Keys++
		sum.Events += k.Events
		sum.Bytes += k.Bytes
	}
	all, err := s.Store.Count(s.Context(), deadletter.Filter{})
	require.NoError(s, err)
	require.Len(s, all, 1)
	require.Equal(s, []int64{sum.Keys, sum.Events, sum.Bytes}, []int64{all[0].Keys, all[0].Events, all[0].Bytes}, "keys, events, bytes")
}

// admission is that of a retry of l.
func admission(l *deadletter.Letter) inbox.Admission {
	return inbox.Admission{
		Handler: l.Handler, Place: l.Place, Attempt: 1, EventID: l.EventID,
		Source: l.Source, AggregateType: l.AggregateType, AggregateID: l.AggregateID, Sequence: l.Sequence,
		Type: l.Type, Message: &inbox.Message{Record: l.Record, Time: l.Time}, Letter: l.ID,
	}
}

// retry is what a handler that succeeds does with a letter. It reports the
// answer that it was given; only after Fresh the effect was made.
func (s *scene) retry(l *deadletter.Letter, effect func()) inbox.Answer {
	s.Helper()
	a := admission(l)
	answer, err := s.Box.Look(s.Context(), a)
	require.NoError(s, err)
	if answer != inbox.Fresh {
		return answer
	}
	if effect != nil {
		effect()
	}
	require.NoError(s, s.Box.Record(s.Context(), a))
	return answer
}

// apply is what a handler that succeeds does with an event that was read.
func (s *scene) apply(a inbox.Admission) inbox.Answer {
	s.Helper()
	answer, err := s.Box.Look(s.Context(), a)
	require.NoError(s, err)
	if answer == inbox.Fresh {
		require.NoError(s, s.Box.Record(s.Context(), a))
	}
	return answer
}

// claim claims keys for a member.
func (s *scene) claim(who string, limit int) []deadletter.Key {
	s.Helper()
	list, err := s.Store.Claim(s.Context(), billing, both, who, lease, limit)
	require.NoError(s, err)
	return list
}

// ask asks for a retry.
func (s *scene) ask(f deadletter.Filter) deadletter.Request {
	s.Helper()
	r, err := s.Store.Ask(s.Context(), deadletter.Request{Group: billing, Kind: deadletter.RequestRetry, Filter: f}, ann)
	require.NoError(s, err)
	return r
}

func (s *scene) request(id int64) deadletter.Request {
	s.Helper()
	r, err := s.Store.Request(s.Context(), id)
	require.NoError(s, err)
	return r
}

func (s *scene) advance() {
	s.Helper()
	require.NoError(s, s.Store.Advance(s.Context(), billing))
}

// audit returns the newest line of the audit log.
func (s *scene) audit() deadletter.Entry {
	s.Helper()
	list, err := s.Store.Audit(s.Context(), billing, 0, 1)
	require.NoError(s, err)
	require.Len(s, list, 1)
	return list[0]
}

// field maps what is listed to one of its fields.
func field[T, V any](list []T, of func(T) V) []V {
	values := make([]V, 0, len(list))
	for _, v := range list {
		values = append(values, of(v))
	}
	return values
}

func sequence(l deadletter.Letter) int64 { return l.Sequence }
func keyText(k deadletter.Key) string    { return string(k.Key) }
func keyID(k deadletter.Key) int64       { return k.ID }
