package kafkastore

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/deadletter/internal/line"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

func full() *deadletter.Letter {
	at := time.UnixMilli(1_700_000_000_123).UTC()
	return &deadletter.Letter{
		ID: 7, Handler: inbox.Handler{Group: "billing", Name: "charge", Epoch: 2},
		Place:   inbox.Place{Topic: "order", Partition: 3, Offset: 9, Key: []byte{0xff, '/'}},
		EventID: uuid.NewSHA1(uuid.NameSpaceOID, []byte("1")), Type: "order.placed", Source: "/shop",
		AggregateType: "order", AggregateID: "o-1", Sequence: 4,
		Record: event.KafkaRecord{
			Key: []byte("another"), Value: []byte{0, 0xff},
			Headers: []event.KafkaHeader{{Key: "ce_id", Value: []byte("1")}, {Key: letterHeader, Value: []byte("the event's own")}, {Key: "", Value: nil}},
		},
		Original: &event.KafkaRecord{Key: []byte("another"), Value: []byte("as it was"), Headers: []event.KafkaHeader{{Key: "\xff", Value: []byte{}}}},
		Time:     at,
		Failure:  inbox.Failure{Cause: inbox.CausePanic, Error: "boom", Stack: "main.go:1", Attempts: 3, First: at, Last: at, Due: at},
		Parked:   at,
	}
}

func TestALetterIsReadAsItWasWritten(t *testing.T) {
	for name, change := range map[string]func(l *deadletter.Letter){
		"full":             func(*deadletter.Letter) {},
		"without a value":  func(l *deadletter.Letter) { l.Record.Value = nil },
		"an empty value":   func(l *deadletter.Letter) { l.Record.Value = []byte{} },
		"without a key":    func(l *deadletter.Letter) { l.Place.Key, l.Record.Key, l.Original = nil, nil, nil },
		"no headers":       func(l *deadletter.Letter) { l.Record.Headers = nil },
		"undecodable":      func(l *deadletter.Letter) { l.Type, l.Source, l.AggregateType, l.AggregateID = "", "", "", "" },
		"only of its time": func(l *deadletter.Letter) { l.Failure = inbox.Failure{Cause: inbox.CauseBehind} },
	} {
		t.Run(name, func(t *testing.T) {
			l := full()
			change(l)
			c := line.Change{Name: line.Name(l.Handler, l.Place.Topic, l.Place.Key, l.EventID), Letter: l, Line: 5, Since: l.Time, Restored: true}
			r, err := encode(&c)
			require.NoError(t, err)
			require.NotNil(t, r.Value, "null is a tombstone")
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: writeHeader, Value: []byte("w/1")})
			got, err := decode(r)
			require.NoError(t, err)
			require.Equal(t, c, got)
			require.Equal(t, "w/1", writeOf(r))
		})
	}
	r, err := encode(&line.Change{Name: "gone"})
	require.NoError(t, err)
	require.Nil(t, r.Value)
	got, err := decode(r)
	require.NoError(t, err)
	require.Equal(t, line.Change{Name: "gone"}, got)
}

// I8: a small letter must not keep the whole batch that it was read in.
func TestALetterSharesNoMemoryWithWhatItWasReadFrom(t *testing.T) {
	l := full()
	r, err := encode(&line.Change{Name: line.Name(l.Handler, l.Place.Topic, l.Place.Key, l.EventID), Letter: l})
	require.NoError(t, err)
	r.Value = bytes.Clone(r.Value)
	for i := range r.Headers {
		r.Headers[i].Value = bytes.Clone(r.Headers[i].Value)
	}
	got, err := decode(r)
	require.NoError(t, err)
	for _, b := range [][]byte{r.Value, r.Headers[0].Value, r.Headers[1].Value, r.Headers[2].Value} {
		for i := range b {
			b[i] = '!'
		}
	}
	require.Equal(t, l, got.Letter)
}

// Whatever is in the topic: it is refused, or written again as it was read.
func FuzzDecode(f *testing.F) {
	l := full()
	r, err := encode(&line.Change{Name: line.Name(l.Handler, l.Place.Topic, l.Place.Key, l.EventID), Letter: l})
	require.NoError(f, err)
	f.Add(r.Key, r.Value, r.Headers[0].Value)
	f.Add([]byte("x"), []byte("hello"), []byte(`{"v":1}`))
	f.Add([]byte(nil), []byte(nil), []byte(`{`))
	f.Fuzz(func(t *testing.T, key, value, header []byte) {
		c, err := decode(&kgo.Record{Key: key, Value: value, Headers: []kgo.RecordHeader{{Key: letterHeader, Value: header}}})
		if err != nil {
			return
		}
		again, err := encode(&c)
		require.NoError(t, err)
		twice, err := decode(again)
		require.NoError(t, err)
		require.Equal(t, c, twice)
		line.NewLines().Apply(0, time.UnixMilli(1), c)
	})
}
