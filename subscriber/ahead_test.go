package subscriber

import (
	"encoding/base64"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/internal/lanes"
)

// randomAhead has runs above offset, most of them short.
func randomAhead(r *rand.Rand, offset int64) ahead {
	a := ahead{epoch: int32(r.IntN(1000)) - 1}
	next := offset
	for range r.IntN(40) {
		from := next + 1 + r.Int64N(1<<r.IntN(30))
		next = from + 1 + r.Int64N(1<<r.IntN(30))
		a.runs = append(a.runs, lanes.Run{From: from, To: next})
	}
	return a
}

func TestWhatIsFinishedAheadIsReadAsItWasWritten(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		at := place{topic: [16]byte{byte(r.IntN(256))}, partition: int32(r.IntN(100)), offset: r.Int64N(math.MaxInt64 / 2)}
		a := randomAhead(r, at.offset)
		text := a.encode(at)
		require.Equal(t, len(a.runs) == 0, text == "", "nothing to say is the plain watermark")
		if text == "" {
			continue
		}
		require.LessOrEqual(t, len(text), aheadSize)
		got, err := decodeAhead(text, at)
		require.NoError(t, err)
		require.Equal(t, a, got)

		// It says nothing at another place.
		for _, other := range []place{
			{topic: [16]byte{at.topic[0] + 1}, partition: at.partition, offset: at.offset},
			{topic: at.topic, partition: at.partition + 1, offset: at.offset},
			{topic: at.topic, partition: at.partition, offset: at.offset + 1},
		} {
			_, err := decodeAhead(text, other)
			require.ErrorIs(t, err, errGarbled)
		}
		// Nor when a character was changed.
		i := len(aheadVersion) + r.IntN(len(text)-len(aheadVersion))
		other := byte('A')
		if text[i] == other {
			other = 'B'
		}
		_, err = decodeAhead(text[:i]+string(other)+text[i+1:], at)
		require.ErrorIs(t, err, errGarbled)
	}
}

func TestTheLongestPrefixThatFitsIsWritten(t *testing.T) {
	at := place{offset: 100}
	var a ahead
	for i := range int64(5000) { // every second message
		a.runs = append(a.runs, lanes.Run{From: 101 + 2*i, To: 102 + 2*i})
	}
	text := a.encode(at)
	require.LessOrEqual(t, len(text), aheadSize)
	require.Greater(t, len(text), aheadSize-8)
	got, err := decodeAhead(text, at)
	require.NoError(t, err)
	require.Greater(t, len(got.runs), 700)
	require.Less(t, len(got.runs), aheadRuns, "more runs than are asked for never fit")
	require.Equal(t, a.runs[:len(got.runs)], got.runs)
}

func TestTenThousandFinishedAheadOfOneTakeAHandfulOfBytes(t *testing.T) {
	a := ahead{epoch: 3, runs: []lanes.Run{{From: 1001, To: 11_001}}}
	require.LessOrEqual(t, len(a.encode(place{offset: 1000})), 16)
}

func TestMetadataThatIsNotOursIsToldApart(t *testing.T) {
	for text, want := range map[string]error{
		"":                                errForeign,
		"tidings-4f1c-member":             errForeign,
		"t2.AAAA":                         errForeign,
		`{"by":"another tool"}`:           errForeign,
		"t1.":                             errGarbled,
		"t1.!!!!":                         errGarbled,
		"t1.AAAAAAAA":                     errGarbled,
		"t1." + strings.Repeat("A", 4096): errGarbled,
	} {
		_, err := decodeAhead(text, place{offset: 5})
		require.ErrorIs(t, err, want, "%q", text)
	}
	// A sum that is right does not make what is wrong right.
	for _, body := range [][]byte{{}, {0xff}, {1, 0, 1}, {1, 1, 0}, {1, 1}, {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1}} {
		at := place{offset: 5}
		b := append([]byte{0, 0, 0, 0}, body...)
		sum := at.sum(body)
		b[0], b[1], b[2], b[3] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
		_, err := decodeAhead(aheadVersion+base64.RawURLEncoding.EncodeToString(b), at)
		require.ErrorIs(t, err, errGarbled, "%v", body)
	}
}

func TestRecordsOfALaterEpochAreNotWhatWasFinished(t *testing.T) {
	a := ahead{epoch: 4, runs: []lanes.Run{{From: 10, To: 12}, {From: 20, To: 30}}}
	require.False(t, a.finished(9, 4))
	require.True(t, a.finished(10, 4))
	require.True(t, a.finished(11, 3))
	require.False(t, a.finished(12, 4))
	require.True(t, a.finished(21, 4))
	require.False(t, a.finished(22, 5), "the log was cut off here and written anew")
	require.False(t, a.finished(23, 4))
}

func TestWhatIsNotReadYetIsPassedOn(t *testing.T) {
	a := ahead{runs: []lanes.Run{{From: 10, To: 15}, {From: 20, To: 30}, {From: 40, To: 50}}}
	require.Equal(t, []lanes.Run{{From: 5, To: 7}, {From: 25, To: 30}, {From: 40, To: 50}}, a.with([]lanes.Run{{From: 5, To: 7}}, 25))
	require.Equal(t, []lanes.Run{{From: 22, To: 30}, {From: 40, To: 50}}, a.with([]lanes.Run{{From: 22, To: 25}}, 25))
	require.Empty(t, a.with(nil, 50))
}

func FuzzMetadataNeverPanicsAndLiesAboveTheOffset(f *testing.F) {
	at := place{topic: [16]byte{1}, partition: 3, offset: 100}
	f.Add((&ahead{epoch: 1, runs: []lanes.Run{{From: 101, To: 200}, {From: 300, To: 301}}}).encode(at), int64(100), []byte{})
	f.Add("t1.AAAA", int64(0), []byte{2, 1, 1})
	f.Add("consumer-1", int64(-1), []byte{0, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, text string, offset int64, body []byte) {
		at := place{topic: [16]byte{1}, partition: 3, offset: offset}
		sum := at.sum(body)
		signed := aheadVersion + base64.RawURLEncoding.EncodeToString(append([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}, body...))
		for _, s := range []string{text, signed} {
			a, err := decodeAhead(s, at)
			if err != nil {
				continue
			}
			next := offset
			for _, r := range a.runs {
				if r.From <= next || r.To <= r.From {
					t.Fatalf("run %v after %d", r, next)
				}
				next = r.To
			}
			if again, err := decodeAhead(a.encode(at), at); len(a.runs) > 0 && len(s) <= aheadSize && (err != nil || len(again.runs) != len(a.runs)) {
				t.Fatalf("%v became %v: %v", a, again, err)
			}
		}
	})
}
