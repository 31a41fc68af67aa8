package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

func TestAnEditorGetsTheContentOnLinesAndWhatItWritesIsKept(t *testing.T) {
	script := filepath.Join(t.TempDir(), "editor")
	edits := func(text string) {
		require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\n"+text+"\n"), 0o700))
	}
	t.Setenv("VISUAL", "")
	t.Setenv("EDITOR", script+" -q")
	t.Setenv("TMPDIR", t.TempDir())
	cmd := &cobra.Command{}
	cmd.SetIn(&bytes.Buffer{})

	edits(`sed -i 's/"a": 1$/"a": 2/' "$2"`)
	value, keep, err := inEditor(t.Context(), cmd, 7, []byte(`{"a":1}`))
	require.NoError(t, err)
	require.Equal(t, "{\n  \"a\": 2\n}", string(value))
	require.FileExists(t, string(keep))
	keep.remove()
	require.NoFileExists(t, string(keep))

	edits(`:`)
	value, keep, err = inEditor(t.Context(), cmd, 7, []byte(`{"a":1}`))
	require.NoError(t, err)
	require.Equal(t, `{"a":1}`, string(value), "untouched, it is as it was")
	keep.remove()

	edits(`exit 3`)
	_, _, err = inEditor(t.Context(), cmd, 7, []byte(`{"a":1}`))
	require.ErrorContains(t, err, "ended: exit status 3; nothing was changed\nwhat you wrote is in ")

	t.Setenv("EDITOR", "")
	_, _, err = inEditor(t.Context(), cmd, 7, nil)
	require.EqualError(t, err, "how? neither VISUAL nor EDITOR is set: set one, or say --set FILE or --patch FILE")
}

func FuzzAKeysTextIsReadBack(f *testing.F) {
	for _, seed := range []string{"o-17", "", "base64:", "\x00\xff", "(no key)", "ä"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, key []byte) {
		back, err := parseKey(keyText(key))
		require.NoError(t, err)
		require.True(t, bytes.Equal(key, back), "%q", keyText(key))
	})
}
