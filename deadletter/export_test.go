package deadletter_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

func exportedLetter() deadletter.Letter {
	at := time.Date(2026, 3, 4, 5, 6, 7, 89_000_000, time.UTC)
	return deadletter.Letter{
		ID:      7,
		Handler: inbox.Handler{Group: "billing", Name: "charge", Epoch: 2},
		Place:   inbox.Place{Topic: "orders", Partition: 3, Offset: 42, Key: []byte("o-1")},
		EventID: uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8057"), Type: "order.placed", Source: "/shop",
		AggregateType: "order", AggregateID: "o-1", Sequence: 9,
		Record: event.KafkaRecord{
			Key: []byte("o-1"), Value: []byte(`{"amount":1,"note":"<&>"}`),
			Headers: []event.KafkaHeader{{Key: "a", Value: []byte("1")}, {Key: "null"}, {Key: "empty", Value: []byte{}}, {Key: "\xff", Value: []byte{0}}},
		},
		Original: &event.KafkaRecord{Key: []byte("o-1"), Value: []byte{0xff}, Headers: []event.KafkaHeader{{Key: "a", Value: []byte("1")}}},
		Time:     at,
		Failure: inbox.Failure{
			Cause: inbox.CausePanic, Error: "nil map", Stack: "main.go:7\n", Attempts: 5,
			First: at.Add(time.Second), Last: at.Add(time.Minute), Due: at.Add(time.Hour),
		},
		Parked: at.Add(2 * time.Minute),
	}
}

const exportedLine = `{"v":1,"id":7,"group":"billing","handler":"charge","epoch":2,"topic":"orders","partition":3,"offset":42,` +
	`"event_id":"01890a5d-ac96-774b-bcce-b302099a8057","type":"order.placed","source":"/shop","aggregate_type":"order","aggregate_id":"o-1","sequence":9,` +
	`"time":"2026-03-04T05:06:07.089Z","key":"o-1","value":"{\"amount\":1,\"note\":\"<&>\"}",` +
	`"headers":[{"name":"a","value":"1"},{"name":"null","value":null},{"name":"empty","value":""},{"name":{"base64":"/w=="},"value":{"base64":"AA=="}}],` +
	`"original":{"value":{"base64":"/w=="},"headers":[{"name":"a","value":"1"}]},` +
	`"cause":"panic","error":"nil map","stack":"main.go:7\n","attempts":5,` +
	`"first_failed":"2026-03-04T05:06:08.089Z","last_failed":"2026-03-04T05:07:07.089Z","due":"2026-03-04T06:06:07.089Z","parked":"2026-03-04T05:08:07.089Z"}`

func TestALetterIsExportedUnderStableNamesAndComesBackExactly(t *testing.T) {
	line, err := deadletter.MarshalLetter(exportedLetter())
	require.NoError(t, err)
	require.Equal(t, exportedLine, string(line)) //nolint:testifylint // the bytes are the promise, not the value
	l, err := deadletter.UnmarshalLetter(line)
	require.NoError(t, err)
	require.Equal(t, exportedLetter(), l)
}

func TestANullValueIsNotAnEmptyOneInAnExport(t *testing.T) {
	for _, value := range [][]byte{nil, {}, []byte("null"), []byte("a\x00b"), []byte(`{"base64":"AA=="}`)} {
		l := exportedLetter()
		l.Place.Key, l.Record.Key, l.Original.Key = nil, value, value
		if len(value) > 0 {
			l.Place.Key = value
		}
		l.Record.Value, l.Original.Value = value, value
		line, err := deadletter.MarshalLetter(l)
		require.NoError(t, err)
		require.NotContains(t, string(line), `\u0000`, "PostgreSQL's jsonb refuses it")
		again, err := deadletter.UnmarshalLetter(line)
		require.NoError(t, err)
		require.Equal(t, l, again)
	}
}

func TestALineThatIsNoLetterIsRefusedWithTheFieldsName(t *testing.T) {
	for name, c := range map[string]struct{ line, says string }{
		"no JSON":         {`{`, "unexpected end"},
		"two":             {exportedLine + exportedLine, "after top-level value"},
		"no version":      {`{"group":"g"}`, `its form "v" is 0`},
		"a later version": {`{"v":2}`, "use the release that wrote it"},
		"no group":        {`{"v":1}`, `"group" is empty`},
		"no handler":      {`{"v":1,"group":"g"}`, `"handler" is empty`},
		"no topic":        {`{"v":1,"group":"g","handler":"h"}`, `"topic" is empty`},
		"no event":        {`{"v":1,"group":"g","handler":"h","topic":"t","cause":"error"}`, `"event_id" is missing`},
		"no cause":        {`{"v":1,"group":"g","handler":"h","topic":"t","event_id":"01890a5d-ac96-774b-bcce-b302099a8057"}`, `"cause" is empty`},
		"bad bytes":       {`{"v":1,"value":{"hex":"00"}}`, `{"base64": "..."}`},
		"bad base64":      {`{"v":1,"value":{"base64":"%"}}`, "base64"},
		"a number":        {`{"v":1,"value":7}`, "cannot unmarshal"},
		"negative":        {`{"v":1,"group":"g","handler":"h","topic":"t","event_id":"01890a5d-ac96-774b-bcce-b302099a8057","cause":"error","attempts":-1}`, "below 0"},
		"NUL":             {`{"v":1,"group":"g\u0000","handler":"h","topic":"t","event_id":"01890a5d-ac96-774b-bcce-b302099a8057","cause":"error"}`, `"group" has a NUL`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := deadletter.UnmarshalLetter([]byte(c.line))
			require.ErrorContains(t, err, c.says)
			require.ErrorContains(t, err, "read a letter: ")
		})
	}
}

func FuzzUnmarshalLetter(f *testing.F) {
	f.Add([]byte(exportedLine))
	f.Add([]byte(`{"v":1,"group":"g","handler":"h","topic":"t","event_id":"01890a5d-ac96-774b-bcce-b302099a8057","cause":"error","key":"","value":{"base64":""}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		l, err := deadletter.UnmarshalLetter(line)
		if err != nil {
			return
		}
		out, err := deadletter.MarshalLetter(l)
		if err != nil {
			t.Skip("a year that RFC 3339 has no place for: ", err)
		}
		require.True(t, json.Valid(out))
		again, err := deadletter.UnmarshalLetter(out)
		require.NoError(t, err)
		require.Equal(t, l, again)
	})
}
