package cli_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/internal/cli"
)

func TestMistakesWithDeadLettersSayWhatWouldDo(t *testing.T) {
	b := newBilling(t)
	require.NoError(t, os.Unsetenv("TIDINGS_BROKERS")) // startBroker puts it back
	here := " --sqlite " + b.file
	_, err := b.db.ExecContext(t.Context(), `INSERT INTO tidings_handler (grp, name, epoch, created_at) VALUES ('billing', 'charge', 0, 0)`)
	require.NoError(t, err)
	empty := filepath.Join(t.TempDir(), "empty.db")
	db, err := sql.Open("sqlite", empty)
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), `CREATE TABLE t (n INTEGER)`)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	fresh := filepath.Join(t.TempDir(), "fresh.db")
	ok(t, "", "migrate", "--sqlite", fresh)
	two := filepath.Join(t.TempDir(), "two.db")
	ok(t, "", "migrate", "--sqlite", two)
	db, err = sql.Open("sqlite", two)
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), `INSERT INTO tidings_handler (grp, name, epoch, created_at) VALUES ('billing', 'charge', 0, 0), ('stock', 'reserve', 0, 0)`)
	require.NoError(t, err)
	require.NoError(t, db.Close())

	for _, c := range []struct {
		line   string
		code   int
		stderr string
	}{
		{"list", cli.ExitUsage, "where are the dead letters? say --postgres URL or --sqlite PATH of the handlers' database, or --brokers of a group that parks in Kafka\nsee 'tidings dlq list --help'"},
		{"list --postgres postgres://a@127.0.0.1/b" + here, cli.ExitUsage, "--postgres and --sqlite are all set (flag, environment or file); leave one\nsee 'tidings dlq list --help'"},
		{"list --sqlite " + empty, cli.ExitFailed, "sqlite " + empty + ": database is not migrated: it has schema version 0 and this binary needs 1; run `tidings migrate --sqlite ...`, or call schema.MigrateSQLite at start"},
		{"list --sqlite " + empty + ".no", cli.ExitFailed, "sqlite " + empty + ".no does not exist; 'tidings migrate --sqlite " + empty + ".no' makes it"},
		{"list --sqlite " + fresh, cli.ExitFailed, "sqlite " + fresh + ": no handler of any group has used this database yet; is it the one that the handlers' inbox is in?"},
		{"list --sqlite " + two, cli.ExitUsage, "which group? sqlite " + two + " has several: say --group billing or --group stock\nsee 'tidings dlq list --help'"},
		{"list --group bilings" + here, cli.ExitFailed, `group "bilings" not found in sqlite ` + b.file + `; did you mean "billing"?`},
		{"list --handler chagre" + here, cli.ExitFailed, `handler "chagre" of group "billing" not found; did you mean "charge"?`},
		{"list --cause eror" + here, cli.ExitUsage, "--cause \"eror\" is none; use one of error, timeout, panic, rejected, later, deadline, late, undecodable, unknown_type, behind; did you mean \"error\"?\nsee 'tidings dlq list --help'"},
		{"list --by handlers" + here, cli.ExitUsage, "--by \"handlers\" is none; use cause, type, handler, topic, key, age; did you mean \"handler\"?\nsee 'tidings dlq list --help'"},
		{"list --by key,cause" + here, cli.ExitUsage, "--by key,cause: key and age stand alone; use one of them, or the others together\nsee 'tidings dlq list --help'"},
		{"list --older soon" + here, cli.ExitUsage, ""},
		{"list --newer 1h --older 2h" + here, cli.ExitUsage, "--newer is not before --older: nothing can be both; the two name the begin and the end of a time\nsee 'tidings dlq list --help'"},
		{"list --key base64:x" + here, cli.ExitUsage, "--key \"base64:x\": what follows \"base64:\" is not base64: illegal base64 data at input byte 0\nsee 'tidings dlq list --help'"},
		{"show" + here, cli.ExitUsage, "tidings dlq show wants a key or an ID: tidings dlq show o-17\nsee 'tidings dlq show --help'"},
		{"show 1 --id 2" + here, cli.ExitUsage, "tidings dlq show: a key or an ID, --key and --id: leave one of them\nsee 'tidings dlq show --help'"},
		{"show o-1" + here, cli.ExitFailed, `nothing is parked under key "o-1": in group "billing" nothing is parked at all`},
		{"show --id 9" + here, cli.ExitFailed, "read letter 9: not found: it was applied or discarded, or was never there"},
		{"retry" + here, cli.ExitUsage, "which keys? say --key, --handler, --cause, --type, --topic, --older or --newer, or --all for everything\nsee 'tidings dlq retry --help'"},
		{"retry --all --key o-1" + here, cli.ExitUsage, "--all is everything: leave it out, or the flags that select\nsee 'tidings dlq retry --help'"},
		{"retry --all --rate -1" + here, cli.ExitUsage, "--rate -1: use events per second, or 0 for no bound\nsee 'tidings dlq retry --help'"},
		{"retry --all --dry-run --no-wait" + here, cli.ExitUsage, "--dry-run asks for nothing, so that there is nothing to wait for: leave --no-wait out\nsee 'tidings dlq retry --help'"},
		{"retry --all" + here, cli.ExitFailed, "nothing to retry: nothing is parked in group billing (sqlite " + b.file + ")"},
		{"discard 1" + here, cli.ExitUsage, "why? say --reason: the audit log keeps it, and the event never has its effect\nsee 'tidings dlq discard --help'"},
		{"discard 1 --reason r" + here, cli.ExitUsage, "nobody can be asked here, where the input is no terminal: say --yes\nsee 'tidings dlq discard --help'"},
		{"edit x" + here, cli.ExitUsage, "\"x\" is no event's ID: use a number that 'tidings dlq list --by key' lists\nsee 'tidings dlq edit --help'"},
		{"edit 1" + here, cli.ExitUsage, "how? there is no terminal for an editor here: say --set FILE or --patch FILE\nsee 'tidings dlq edit --help'"},
		{"edit 1 --set a --patch b" + here, cli.ExitUsage, "--set and --patch are both set; leave one out\nsee 'tidings dlq edit --help'"},
		{"edit 1 --patch [{]" + here, cli.ExitBadInput, ""},
		{`edit 1 --patch [{"op":"put","path":"/a"}]` + here, cli.ExitBadInput, `--patch is no JSON Patch (RFC 6902): invalid operation {"op":"put","path":"/a"}: unsupported operation; write for example [{"op": "replace", "path": "/amount", "value": 12}]`},
		{`edit 1 --patch [{"op":"add","path":"a","value":1}]` + here, cli.ExitBadInput, `--patch is no JSON Patch (RFC 6902): operation 1: path "a" does not begin with /; write for example [{"op": "replace", "path": "/amount", "value": 12}]`},
		{"reassign --from charge" + here, cli.ExitUsage, "from which handler to which? say --from NAME --to NAME\nsee 'tidings dlq reassign --help'"},
		{"reassign --from charge --to charge" + here, cli.ExitUsage, "--from charge and --to charge are the same handler; name another one\nsee 'tidings dlq reassign --help'"},
		{"reassign --from chrge --to charge" + here, cli.ExitFailed, `--from: handler "chrge" of group "billing" not found; did you mean "charge"?`},
		{"reassign --from charge@7 --to charge" + here, cli.ExitFailed, "--from charge@7: epoch 7 of the handler was not found"},
		{"requests end 7" + here, cli.ExitFailed, `request 7 was not found in group "billing": there are none`},
		{"requests foo" + here, cli.ExitUsage, ""},
		{"import no.ndjson" + here, cli.ExitUsage, "open no.ndjson: no such file or directory\nsee 'tidings dlq import --help'"},
	} {
		r := run(t, "", append([]string{"dlq"}, shellFields(c.line)...)...)
		require.Equal(t, c.code, r.code, "%s: %s", c.line, r.stderr)
		require.Empty(t, r.stdout, c.line)
		if c.stderr != "" {
			require.Equal(t, "tidings: "+c.stderr+"\n", r.stderr, c.line)
		}
	}
}

// Names that are not there are met with near ones, as far as something is parked.
func TestAnUnknownKeyIsMetWithNearOnes(t *testing.T) {
	b := newBilling(t)
	b.breaks("o-17", true)
	b.breaks("17", true)
	b.member()
	b.pays("17", 1, 1)
	b.awaitParked(1)
	for i := range 17 {
		b.pays("17", 2+i, 1)
	}
	b.pays("o-17", 1, 1)
	b.awaitParked(19)
	for _, args := range [][]string{{"show", "o-71"}, {"retry", "--key", "o-71"}, {"discard", "--key", "o-71", "--reason", "r", "--yes"}} {
		r := b.dlq(args...)
		require.Equal(t, cli.ExitFailed, r.code)
		require.Equal(t, "tidings: a parked key \"o-71\" was not found in group \"billing\"; did you mean \"o-17\"?\n", r.stderr, args)
	}
	// 17 is a key, and the ID of one of its events.
	r := b.dlq("show", "17")
	require.Equal(t, cli.ExitUsage, r.code)
	require.Contains(t, r.stderr, "17 is a key as well as an event's ID: say --key 17 or --id 17\n")
	require.Contains(t, b.dlqOK("show", "--key", "17"), "behind it 17 events\n")
	require.Contains(t, b.dlqOK("show", "--id", "17"), "place     not first of its key: event 1 is, and has to leave before\n")
	r = b.dlq("discard", "o-17", "--reason", "r", "--yes")
	require.Equal(t, cli.ExitUsage, r.code)
	require.Contains(t, r.stderr, `"o-17" is a key: discarding all of its parked events needs --key o-17`)
	require.Contains(t, b.dlqOK("discard", "--key", "17", "--reason", "r", "--yes", "--json"), `"behind": 0`)
	require.Equal(t, "discarded 1 event of key o-17, handler charge\n", b.dlqOK("discard", "--key", "o-17", "--reason", "r", "--yes"))
	require.Empty(t, b.keys())
	require.Empty(t, b.booked("17"))
}
