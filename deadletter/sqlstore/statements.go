package sqlstore

import (
	"embed"
	"regexp"
	"strings"
)

// statement is the name of a file in sql, without its ending. The text is
// PostgreSQL's; each says what its parameters are.
type statement string

//go:embed sql/*.sql
var files embed.FS

// The statements.
const (
	keys           statement = "keys"
	count          statement = "count"
	letters        statement = "letters"
	letter         statement = "letter"
	handlers       statement = "handlers"
	names          statement = "names"
	known          statement = "known"
	groups         statement = "groups"
	handlerID      statement = "handler"
	lockKey        statement = "lock_key"
	lockEvent      statement = "lock_event"
	lockFile       statement = "lock_file"
	lockParked     statement = "lock_parked"
	countKey       statement = "count_key"
	removeLetter   statement = "remove_letter"
	removeLetters  statement = "remove_letters"
	removeKey      statement = "remove_key"
	nextHead       statement = "next_head"
	settle         statement = "settle"
	settleEvent    statement = "settle_event"
	settleKey      statement = "settle_key"
	settleStream   statement = "settle_stream"
	knows          statement = "knows"
	addKey         statement = "add_key"
	addLetter      statement = "add_letter"
	editLetter     statement = "edit"
	resizeKey      statement = "resize_key"
	auditLine      statement = "audit"
	audited        statement = "audited"
	moveKeys       statement = "move_keys"
	moveLetters    statement = "move_letters"
	movedSize      statement = "moved_size"
	busyKey        statement = "busy_key"
	ask            statement = "ask"
	selectable     statement = "selectable"
	selectKeys     statement = "select_keys"
	leftKeys       statement = "left_keys"
	addSelected    statement = "selected"
	request        statement = "request"
	lockRequest    statement = "lock_request"
	requests       statement = "requests"
	openRetries    statement = "open_retries"
	endRequest     statement = "end_request"
	freeKeys       statement = "free_keys"
	finishRequest  statement = "finish_request"
	claimRequested statement = "claim_requested"
	claimDue       statement = "claim_due"
	renew          statement = "renew"
	release        statement = "release"
	hasKey         statement = "has_key"
	progress       statement = "progress"
	rate           statement = "rate"
)

// included are the texts that stand in others, as a comment with their name.
var included = []string{"filter", "letter_columns", "request_columns"}

// load reads the statements for a dialect.
func load(d *dialect) map[statement]string {
	all, err := files.ReadDir("sql")
	if err != nil {
		panic(err) // the files are in the binary
	}
	texts := map[statement]string{}
	for _, f := range all {
		text, err := files.ReadFile("sql/" + f.Name())
		if err != nil {
			panic(err)
		}
		texts[statement(strings.TrimSuffix(f.Name(), ".sql"))] = string(text)
	}
	texts["applied"] = texts["applied_"+statement(d.name)]
	loaded := map[statement]string{}
	for name, text := range texts {
		for _, part := range append(included, "applied") {
			text = strings.ReplaceAll(text, "/*"+part+"*/", texts[statement(part)])
		}
		loaded[name] = d.translate(text)
	}
	return loaded
}

var (
	casts      = regexp.MustCompile(`::[a-z]+( precision)?`)
	parameters = regexp.MustCompile(`\$(\d+)`)
	// ours are the words of PostgreSQL that the statements use, and SQLite's for
	// them. SQLite has one writer at a time, which needs no row locks.
	ours = strings.NewReplacer(
		"tidings.", "main.tidings_",
		"clock_timestamp()", "CAST(round(unixepoch('subsec') * 1000) AS INTEGER)",
		"statement_timestamp()", "CAST(round(unixepoch('subsec') * 1000) AS INTEGER)",
		" * interval '1 millisecond'", "",
		"jsonb_array_elements_text(", "json_each(",
		"decode(value, 'hex')", "unhex(value)",
		"FOR UPDATE OF p SKIP LOCKED", "",
		"FOR UPDATE OF p", "",
		"FOR UPDATE", "",
	)
)

// inSQLite is a statement of ours in SQLite's words.
func inSQLite(text string) string {
	return parameters.ReplaceAllString(casts.ReplaceAllString(ours.Replace(text), ""), "?$1")
}
