package cli_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTheOperatorsPageRuns runs each command of docs/dead-letters.md, in order, as
// it stands, on a group that has what the page speaks of.
func TestTheOperatorsPageRuns(t *testing.T) {
	page, err := os.ReadFile("../../docs/dead-letters.md")
	require.NoError(t, err)
	b := newBilling(t)
	b.breaks("o-17", true)
	b.breaks("o-18", true)
	b.member()
	for parked, pay := range []func(){
		func() { b.pays("o-17", 1, 10) },
		func() { b.pays("o-17", 2, 20) },
		func() { b.pays("o-18", 1, 1) },
		func() { b.pays("o-42", 1, -5) },
		func() { b.pays("o-42", 2, 7) },
		func() { b.pays("o-99", 1, -1) },
		func() { b.pays("o-99", 2, 3) },
	} {
		pay() // one by one: the page names their numbers
		b.awaitParked(parked + 1)
	}
	b.breaks("o-17", false)
	b.breaks("o-18", false)
	t.Chdir(filepath.Dir(b.file))
	t.Setenv("TIDINGS_SQLITE", b.file)
	said := map[string]string{}
	for _, m := range regexp.MustCompile("(?ms)^```(sh|json)\n(.*?)^```$").FindAllStringSubmatch(string(page), -1) {
		if m[1] == "json" {
			require.NoError(t, os.WriteFile("amount.json", []byte(m[2]), 0o600))
			continue
		}
		for line := range strings.Lines(m[2]) {
			words := shellFields(line)
			require.Equal(t, "tidings", words[0])
			r := run(t, "", words[1:]...)
			require.Zero(t, r.code, "%s%s%s", line, r.stdout, r.stderr)
			said[strings.TrimSpace(line)] = r.stdout
		}
	}
	require.Contains(t, said["tidings dlq list"], "4 keys with 7 events (")
	require.Contains(t, said["tidings dlq list --by age"], "under 1h")
	require.Contains(t, said["tidings dlq show o-17"], "behind it 1 event\n")
	require.Contains(t, said["tidings dlq retry --cause error --dry-run"], "would retry 2 keys with 3 events; asked for nothing\n")
	require.Equal(t, "request 2 is done: 1 of 1 key drained; 1 event applied\n", said[`tidings dlq retry --cause error --rate 20 --reason "the bank is back"`])
	require.Equal(t, 8, strings.Count(said["tidings dlq audit"], "\n"), said["tidings dlq audit"])
	for order, want := range map[string][]int{"o-17": {10, 20}, "o-18": {1}, "o-42": {5, 7}, "o-99": {3}} {
		require.Equal(t, want, b.booked(order), order)
	}
	for _, word := range regexp.MustCompile("`(tidings(?: [a-z][a-z-]*)+)").FindAllStringSubmatch(string(page), -1) {
		ok(t, "", append(strings.Fields(word[1])[1:], "--help")...)
	}
}
