package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func read(t *testing.T, text, form string) []item {
	t.Helper()
	in, err := openInput("-", strings.NewReader(text), form)
	require.NoError(t, err)
	defer in.close()
	var items []item
	for it := range in.items() {
		items = append(items, it)
	}
	again := 0
	for range in.items() {
		again++
	}
	require.Len(t, items, again, "every pass sees the same")
	return items
}

func TestTheFormOfTheInputIsGuessed(t *testing.T) {
	for text, want := range map[string]string{
		"":                           formNDJSON,
		"  \n\n [ ]":                 formBatch,
		`{"a":1}`:                    formNDJSON,
		"{\"a\":1}\n{\"b\":2}\n":     formNDJSON,
		"\n{\n \"a\": 1\n}\n":        formEvent,
		"{\n \"a\": 1\n}\n{\"b\":2}": formNDJSON, // its first line is bad, and named
		"{\"a\":\n":                  formNDJSON,
		"hello":                      formNDJSON,
	} {
		in, err := openInput("-", strings.NewReader(text), formAuto)
		require.NoError(t, err)
		require.Equal(t, want, in.form, "%q", text)
		in.close()
	}
}

func TestOneBadElementOfABatchStopsOnlyWhatCannotBeToldApart(t *testing.T) {
	items := read(t, `[{"a":1}, 7, {"b":2}]`, formAuto)
	require.Len(t, items, 3)
	for i, it := range items {
		require.NoError(t, it.err)
		require.Equal(t, i+1, it.number)
	}
	items = read(t, `[{"a":1}, x, {"b":2}]`, formAuto)
	require.Len(t, items, 2)
	require.ErrorContains(t, items[1].err, "invalid JSON: invalid character 'x'")
}

func TestAnEndlessElementOfABatchIsCutOff(t *testing.T) {
	items := []item{}
	endless := io.MultiReader(strings.NewReader(`["`), neverEnding('x'))
	batchItems(endless, func(it item) bool {
		items = append(items, it)
		return true
	})
	require.Len(t, items, 1)
	require.ErrorIs(t, items[0].err, errTooLong)
}

type neverEnding byte

func (b neverEnding) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(b)
	}
	return len(p), nil
}

func FuzzInputIsReadInOrderAndLinesComeBackWhole(f *testing.F) {
	for _, seed := range []string{"", "{}", "[{},{}]", "{}\n{}\r\n\n{}", "[", "[1,", "{\"a\":\n1}", "\x00", "[]x"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, form := range []string{formAuto, formBatch, formNDJSON, formEvent} {
			last := 0
			for _, it := range read(t, string(raw), form) {
				require.Greater(t, it.number, last)
				last = it.number
				if it.err == nil && form == formNDJSON {
					require.Contains(t, string(raw), string(it.raw))
				}
				if it.err == nil && form == formBatch {
					require.True(t, json.Valid(it.raw))
				}
			}
			if form == formNDJSON && len(bytes.TrimSpace(raw)) > 0 && bytes.IndexByte(raw, '\n') < 0 {
				require.Equal(t, 1, last)
			}
		}
	})
}
