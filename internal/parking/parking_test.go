package parking_test

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/internal/parking"
)

func TestRecordsStandInAColumnExactly(t *testing.T) {
	for name, r := range map[string]event.KafkaRecord{
		"nothing":         {},
		"null and empty":  {Value: []byte{}, Headers: []event.KafkaHeader{{Key: "null"}, {Key: "empty", Value: []byte{}}, {Key: ""}}},
		"names twice":     {Value: []byte("v"), Headers: []event.KafkaHeader{{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte("2")}}},
		"no text":         {Value: []byte{0, 0xff}, Headers: []event.KafkaHeader{{Key: "\xff\x00", Value: []byte{0}}, {Key: "a\x00b"}, {Key: "\"\u2028<"}}},
		"looks as if not": {Headers: []event.KafkaHeader{{Key: "base64", Value: []byte("base64")}}},
	} {
		t.Run(name, func(t *testing.T) {
			headers, err := parking.ParseHeaders(parking.Headers(r.Headers))
			require.NoError(t, err)
			require.Equal(t, r.Headers, headers)
			again, err := parking.ParseOriginal(parking.Original(r))
			require.NoError(t, err)
			require.Equal(t, r, again)
			require.NotContains(t, parking.Original(r), `\u0000`, "jsonb refuses it")
		})
	}
}

func TestKeysAndNamesOfAnyLengthFitAnIndex(t *testing.T) {
	require.Nil(t, parking.Key([]byte{}))
	long := []byte(strings.Repeat("k", 1000))
	require.Equal(t, long, parking.Key(long))
	longer, other := append(slices.Clone(long), 'a'), append(slices.Clone(long), 'b')
	require.Len(t, parking.Key(longer), len("sha256:")+32)
	require.NotEqual(t, parking.Key(longer), parking.Key(other))
	require.Equal(t, "name", parking.Name("name"))
	require.Len(t, parking.Name(strings.Repeat("n", 401)), len("sha256:")+64)
}

func TestEventsOfDifferentHandlersHaveDifferentLocks(t *testing.T) {
	id := uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8057")
	class, one := parking.EventLock(1, id)
	same, two := parking.EventLock(2, id)
	require.Equal(t, class, same)
	require.NotEqual(t, one, two)
}

func TestTextIsWhatADatabaseCanStore(t *testing.T) {
	require.Equal(t, "plain", parking.Text("plain"))
	require.Equal(t, "a\uFFFDb\uFFFDc", parking.Text("a\x00b\xff\xfec"))
}

func FuzzParseHeaders(f *testing.F) {
	f.Add(`[]`)
	f.Add(`[["a","YQ=="],["b",null],["\ufffd","","/w=="]]`)
	f.Add(`[["a"]]`)
	f.Fuzz(func(t *testing.T, text string) {
		headers, err := parking.ParseHeaders(text)
		if err != nil {
			return
		}
		again, err := parking.ParseHeaders(parking.Headers(headers))
		require.NoError(t, err)
		require.Equal(t, headers, again)
		require.True(t, utf8.ValidString(parking.Headers(headers)))
	})
}
