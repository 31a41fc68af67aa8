package cli_test

import (
	"context"
	"database/sql"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// The content of a parked event is replaced by the members, who refuse what their
// handlers could not read; the original is kept, and all of it is audited.
func TestParkedEventsAreEditedByTheMembersAndAudited(t *testing.T) {
	b := newBilling(t)
	stop := b.member()
	b.pays("o-1", 1, -5, 7)
	b.awaitParked(2)
	event := id(b.keys()[0].Head)

	r := b.dlq("edit", event, "--set", write(t, "bad.json", "{\n  \"amount\": \"five\"\n}\n"))
	require.Equal(t, cli.ExitBadInput, r.code)
	require.Regexp(t, "^tidings: event "+event+" was not edited: line 2, column [0-9]+: .*amount", r.stderr)

	r = b.dlq("edit", event, "--patch", `[{"op": "replace", "path": "/total", "value": 5}]`)
	require.Equal(t, cli.ExitBadInput, r.code)
	require.Contains(t, r.stderr, "the patch does not fit event "+event+": ")

	require.Contains(t, b.dlqOK("edit", event, "--patch", `[{"op": "replace", "path": "/amount", "value": 5}]`, "--as", "ann", "--reason", "a wrong sign"), "edited event "+event)
	require.Contains(t, b.dlqOK("edit", event, "--patch", `[{"op": "test", "path": "/amount", "value": 5}]`), "is as it was: nothing to do\n")
	shown := b.dlqOK("show", event)
	require.Contains(t, shown, "content before it was edited (13 B)\n    {\n      \"amount\": -5\n    }\n")
	require.Contains(t, shown, `"amount": 5`)
	stop()

	defer cli.AnswerWithin(300 * time.Millisecond)()
	r = b.dlq("edit", event, "--set", write(t, "good.json", `{"amount":6}`))
	require.Equal(t, cli.ExitFailed, r.code)
	require.Regexp(t, `^tidings: no member of group billing has answered in 300ms; request 3 to edit event `+event+` stays: follow it by 'tidings dlq requests follow 3 --sqlite \S+', end it by `, r.stderr)
	require.Contains(t, b.dlqOK("requests", "end", "3", "--reason", "never mind"), "request 3 is edit of event "+event+", ended\n")
	r = b.dlq("requests", "end", "3")
	require.Equal(t, "tidings: request 3 is not open any more: it is edit of event "+event+", ended\n", r.stderr)

	b.member()
	b.dlqOK("retry", "--key", "o-1", "--as", "ann", "--reason", "corrected")
	require.Equal(t, []int{5, 7}, b.booked("o-1"))

	type entry struct {
		Action, Who, Reason string
		Event, Request      int64
		Before, After       map[string]any
	}
	var actions []string
	var edited entry
	for line := range strings.Lines(b.dlqOK("audit", "--json")) {
		e := decode[entry](t, line)
		actions = append(actions, e.Action)
		if e.Action == "edit" {
			edited = e
		}
	}
	require.Equal(t, []string{"retry", "end", "ask-edit", "edit", "ask-edit", "refuse", "ask-edit"}, actions)
	require.Equal(t, []string{"ann", "a wrong sign", `{"amount":-5}`, `{"amount":5}`}, []string{edited.Who, edited.Reason, edited.Before["value"].(string), edited.After["value"].(string)})
	require.Regexp(t, `(?m)^\d+ +\S+ \S+ UTC +ann +edit event `+event+` of key o-1, handler charge, request 2 +a wrong sign$`, b.dlqOK("audit"))
}

// What was exported can be parked again where it was discarded: behind nothing,
// and once.
func TestExportedEventsAreImportedInOrderAndOnce(t *testing.T) {
	b := newBilling(t)
	b.breaks("o-1", true)
	stop := b.member()
	b.pays("o-1", 1, 10, 20)
	b.pays("o-2", 1, -1)
	b.awaitParked(3)
	stop()
	file := filepath.Join(t.TempDir(), "parked.ndjson")
	require.Equal(t, "wrote 3 events of 2 keys to "+file+"\n", b.dlqOK("export", "--out", file))
	require.Equal(t, 2, strings.Count(b.dlqOK("export", "--key", "o-1"), "\n"))
	require.Equal(t, "parked 0 of 3 events; 3 are parked or applied already\n", b.dlqOK("import", file))

	// Another database that knows the handler takes them.
	other := filepath.Join(t.TempDir(), "other.db")
	ok(t, "", "migrate", "--sqlite", other)
	db, err := sql.Open("sqlite", other)
	require.NoError(t, err)
	defer db.Close()
	_, err = db.ExecContext(t.Context(), `INSERT INTO tidings_handler (grp, name, epoch, created_at) VALUES ('billing', 'charge', 0, 0)`)
	require.NoError(t, err)
	require.Contains(t, ok(t, "", "dlq", "import", file, "--sqlite", other, "--json"), `"parked": 3`)
	require.Equal(t, b.dlqOK("list", "--by", "topic"), strings.ReplaceAll(ok(t, "", "dlq", "list", "--by", "topic", "--sqlite", other), other, b.file))

	text, err := os.ReadFile(file)
	require.NoError(t, err)
	lines := strings.SplitAfter(string(text), "\n")
	lines[1] = strings.Replace(lines[1], `"cause":"`, `"caus":"`, 1)
	r := run(t, strings.Join(lines, ""), "dlq", "import", "-", "--sqlite", b.file)
	require.Equal(t, cli.ExitBadInput, r.code)
	require.Equal(t, "tidings: stdin, line 2: read a letter: \"cause\" is empty; use one such as \"error\"; nothing was parked\n", r.stderr)
}

// Parked events of a handler that is no more go on with another one.
func TestParkedEventsOfAHandlerThatIsGoneAreHandedOn(t *testing.T) {
	b := newBilling(t)
	b.breaks("o-1", true)
	stop := b.member("charge")
	b.pays("o-1", 1, 10, 20)
	b.awaitParked(2)
	stop()
	b.breaks("o-1", false)
	b.member("collect")
	require.Eventually(t, func() bool {
		return b.dlq("reassign", "--from", "charge", "--to", "collect").code == 0
	}, 30*time.Second, 50*time.Millisecond, "as soon as a member with the handler has started")
	require.Equal(t, "collect", b.keys()[0].Handler)
	b.dlqOK("retry", "--all")
	require.Equal(t, []int{10, 20}, b.booked("o-1"))
}

// A request goes on when the one who asked for it has gone, keys of it are busy
// meanwhile, and it can be ended.
func TestARequestOutlivesItsAskerAndNamesItself(t *testing.T) {
	b := newBilling(t)
	b.breaks("o-1", true)
	stop := b.member()
	b.pays("o-1", 1, 10)
	b.awaitParked(1)
	stop() // nobody carries requests out
	b.breaks("o-1", false)

	defer cli.AnswerWithin(100 * time.Millisecond)()
	ctx, cancel := context.WithCancel(t.Context())
	asked, told := make(chan int, 1), &toldText{}
	go func() {
		asked <- cli.Run(ctx, cli.Process{Args: []string{"dlq", "retry", "--all", "--sqlite", b.file}, Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: told})
	}()
	require.Eventually(t, func() bool { return b.keys()[0].Request == 1 }, 10*time.Second, 20*time.Millisecond)
	r := b.dlq("retry", "--all")
	require.Equal(t, cli.ExitFailed, r.code)
	require.Contains(t, r.stderr, "is being retried, by request 1 at the earliest; wait for it, or end it")
	r = b.dlq("edit", id(b.keys()[0].Head), "--set", write(t, "e.json", "{}"))
	require.Contains(t, r.stderr, "its key is being retried by request 1: wait for it by 'tidings dlq requests follow 1")
	require.Contains(t, b.dlqOK("show", "o-1"), "request   1, open: 0 of 1 key drained; 0 events applied, asked ")
	preview := b.dlqOK("retry", "--all", "--dry-run")
	require.Contains(t, preview, "would retry 0 keys with 0 events; asked for nothing\n1 more key is part of another open request: ")
	require.Eventually(t, func() bool {
		return strings.Contains(told.String(), "no member of group billing has taken it up in 100ms: ")
	}, 10*time.Second, 10*time.Millisecond)
	cancel()
	require.Equal(t, cli.ExitInterrupted, <-asked)
	require.Contains(t, told.String(), "request 1 goes on: follow it by 'tidings dlq requests follow 1 --sqlite "+b.file+"', end it by 'tidings dlq requests end 1 ")

	require.Regexp(t, `(?m)^1 +retry +\d+s ago +\S+@\S+ +open: 0 of 1 key drained; 0 events applied$`, b.dlqOK("requests", "--open"))
	b.member()
	require.Equal(t, "request 1 is done: 1 of 1 key drained; 1 event applied\n", b.dlqOK("requests", "follow", "1"))
	require.Equal(t, []int{10}, b.booked("o-1"))
}
