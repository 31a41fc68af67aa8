package cli_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/internal/cli"
)

// I6 by the command line: what fails is parked with what follows it, is seen,
// retried in order and discarded, and each changes what the list says.
func TestParkedEventsAreListedShownRetriedAndDiscarded(t *testing.T) {
	b := newBilling(t)
	b.breaks("o-1", true)
	b.member()
	b.pays("o-1", 1, 10, 20, 30)
	b.pays("o-2", 1, -5, 7)
	b.pays("o-3", 1, 1, 2, 3)
	b.awaitParked(5)

	list := b.dlqOK("list")
	require.Regexp(t, `(?m)^HANDLER +CAUSE +TYPE +KEYS +EVENTS +SIZE +OLDEST +NEWEST$`, list)
	require.Regexp(t, `(?m)^charge +error +order\.paid +1 +3 `, list)
	require.Regexp(t, `(?m)^charge +rejected +order\.paid +1 +2 `, list)
	require.Contains(t, list, "2 keys with 5 events (")
	require.Len(t, b.keys(), 2)
	keys := b.keys("--cause", "error")
	require.Len(t, keys, 1)
	require.Equal(t, parkedKey{Key: "o-1", Handler: "charge", Head: keys[0].Head, Cause: "error", Error: "the card of o-1 is broken", Tries: 2, Events: 3}, keys[0])

	shown := b.dlqOK("show", "o-1")
	for _, line := range []string{
		`key       o-1`, `handler   charge of group billing`, `cause     error, after 2 tries; first failed `,
		`error     the card of o-1 is broken`, `behind it 2 events`, `  aggregate order o-1 #1`, `"amount": 10`, "headers   ce_", "behind it\n",
		"discard it: tidings dlq discard " + id(keys[0].Head) + " --reason ... --sqlite " + b.file,
	} {
		require.Contains(t, shown, line)
	}

	// Still broken: the key stops at its first event, and the command says so.
	r := b.dlq("retry", "--key", "o-1")
	require.Equal(t, cli.ExitFailed, r.code)
	require.Contains(t, r.stdout, "done: 0 of 1 key drained, 1 stopped at a failure; 0 events applied\n  o-1, handler charge, event ")
	require.Contains(t, r.stderr, "1 key stopped at a failure\n")
	require.Equal(t, 3, b.keys("--key", "o-1")[0].Tries)

	b.breaks("o-1", false)
	require.Contains(t, b.dlqOK("retry", "--key", "o-1"), "done: 1 of 1 key drained; 3 events applied\n")
	require.Equal(t, []int{10, 20, 30}, b.booked("o-1"))

	require.Len(t, b.keys(), 1)
	r = b.dlq("discard", id(b.keys()[0].Head), "--reason", "a test", "--yes")
	require.Equal(t, 0, r.code, r.stderr)
	require.Contains(t, r.stdout, "1 event of its key stays parked; retry: tidings dlq retry --key o-2 --handler charge --sqlite "+b.file+"\n")
	require.EqualValues(t, 1, b.keys()[0].Events)
	b.dlqOK("retry", "--all")
	require.Equal(t, []int{7}, b.booked("o-2"))
	require.Equal(t, "nothing is parked in group billing (sqlite "+b.file+")\n", b.dlqOK("list"))
}
