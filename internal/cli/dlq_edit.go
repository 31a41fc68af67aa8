package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/spf13/cobra"

	"github.com/tidings-bus/tidings/deadletter"
)

// dlqEdit asks the members to replace the content of a parked event.
type dlqEdit struct {
	actor

	set    string
	patch  string
	noWait bool
	json   bool
}

func (d *dlq) editCommand() *cobra.Command {
	e := &dlqEdit{}
	cmd := &cobra.Command{
		Use:   "edit ID",
		Short: "Replace the content of a parked event, for its next retry",
		Long: `Replaces the content of a parked event: by --set with a file (- for stdin), by --patch
with a JSON Patch (RFC 6902; a file, or the patch itself when it begins with [), or
in $VISUAL or $EDITOR. ID, key, type and sequence cannot be changed. The original is
kept, and shown by 'tidings dlq show'. Nothing is retried by it.

A member of the group checks that the new content decodes, and refuses it (exit code
5) with the line that is wrong. When no member answers in 10 s the request stays.`,
		Example: `  tidings dlq edit 41 --sqlite ./orders.db
  tidings dlq edit 41 --patch fix.json --reason "amount was in cents" --sqlite ./orders.db
  tidings dlq edit 41 --set event.json --sqlite ./orders.db`,
		Args: exactArgs("the ID of an event: tidings dlq edit 41"),
		RunE: func(cmd *cobra.Command, args []string) error { return e.run(cmd, d, args[0]) },
	}
	e.register(cmd, "why, for the audit log")
	f := cmd.Flags()
	f.StringVar(&e.set, "set", "", "file with the new content; - for stdin")
	f.StringVar(&e.patch, "patch", "", "JSON Patch (RFC 6902): a file, - for stdin, or the patch itself")
	f.BoolVar(&e.noWait, "no-wait", false, "do not wait for a member's answer")
	f.BoolVar(&e.json, "json", false, "print the request in JSON")
	return cmd
}

func (e *dlqEdit) run(cmd *cobra.Command, d *dlq, text string) error {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id < 1 {
		return usageError{fmt.Errorf("%q is no event's ID: use a number that 'tidings dlq list --by key' lists", text)}
	}
	if e.set != "" && e.patch != "" {
		return usageError{errors.New("--set and --patch are both set; leave one out")}
	}
	edit, err := e.editor(cmd)
	if err != nil {
		return err
	}
	k, err := d.open(cmd)
	if err != nil {
		return err
	}
	defer k.close()
	ctx := cmd.Context()
	one, err := k.event(ctx, id)
	if err != nil {
		return err
	}
	if q := one.key.Request; q != 0 {
		return fmt.Errorf("event %d: its key %w by request %d: wait for it by 'tidings dlq requests follow %d%s', or end it", id, deadletter.ErrBusy, q, q, k.flags)
	}
	old := one.letter.Record.Value
	value, keep, err := edit(ctx, id, old)
	if err != nil {
		return err
	}
	if bytes.Equal(value, old) {
		keep.remove()
		sayf(cmd.OutOrStdout(), "event %d is as it was: nothing to do\n", id)
		return nil
	}
	q, err := k.Ask(ctx, deadletter.Request{Group: k.group, Kind: deadletter.RequestEdit, Letter: id, Value: value}, e.act())
	if err != nil {
		return keep.tell(err)
	}
	if e.noWait {
		keep.remove()
		if e.json {
			return printJSON(cmd.OutOrStdout(), requestAsJSON(&q))
		}
		sayf(cmd.OutOrStdout(), "request %d: asked the members of group %s to edit event %d; follow it by: tidings dlq requests follow %d%s\n", q.ID, k.group, id, q.ID, k.flags)
		return nil
	}
	err = k.awaitEdit(cmd, q, e.json)
	if _, refused := errors.AsType[inputError](err); refused {
		return keep.tell(err)
	}
	keep.remove() // the request has it
	return err
}

// awaitEdit waits for what a member answers.
func (k *desk) awaitEdit(cmd *cobra.Command, q deadletter.Request, asJSON bool) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	id := q.ID
	for until := time.Now().Add(answerWithin); q.State == deadletter.Open; {
		if time.Now().After(until) {
			return fmt.Errorf("no member of group %s has answered in %s; request %d to edit event %d stays: follow it by 'tidings dlq requests follow %d%s', end it by 'tidings dlq requests end %d%s'",
				k.group, answerWithin, id, q.Letter, id, k.flags, id, k.flags)
		}
		select {
		case <-ctx.Done():
		case <-time.After(followEvery):
		}
		now, err := k.Request(ctx, id)
		if ctx.Err() != nil {
			sayf(cmd.ErrOrStderr(), "request %d goes on: follow it by 'tidings dlq requests follow %d%s', end it by 'tidings dlq requests end %d%s'\n", id, id, k.flags, id, k.flags)
			return &reportedError{context.Canceled}
		}
		if err != nil {
			return fmt.Errorf("waiting for request %d, which goes on: %w", id, err)
		}
		q = now
	}
	if asJSON {
		if err := printJSON(out, requestAsJSON(&q)); err != nil {
			return err
		}
	}
	switch q.State {
	case deadletter.Refused:
		return inputError{fmt.Errorf("event %d was not edited: %s", q.Letter, q.Error)}
	case deadletter.Ended:
		return fmt.Errorf("event %d was not edited: somebody ended request %d", q.Letter, id)
	case deadletter.Open, deadletter.Done:
	}
	if !asJSON {
		sayf(out, "edited event %d; its original is kept. Retry its key by 'tidings dlq retry'\n", q.Letter)
	}
	return nil
}

// edit makes the new content of an event; kept is a file of it that is kept when
// the event is not edited.
type edit func(ctx context.Context, id int64, old []byte) (value []byte, keep kept, err error)

// editor returns the way of editing that the flags ask for. Input is read before
// anything else.
func (e *dlqEdit) editor(cmd *cobra.Command) (edit, error) {
	switch {
	case e.set != "":
		value, err := readInput(cmd, e.set)
		if err != nil {
			return nil, usageError{fmt.Errorf("--set: %w", err)}
		}
		return func(context.Context, int64, []byte) ([]byte, kept, error) { return value, "", nil }, nil
	case e.patch != "":
		return e.patcher(cmd)
	case !isTerminal(cmd.InOrStdin()):
		return nil, usageError{errors.New("how? there is no terminal for an editor here: say --set FILE or --patch FILE")}
	}
	return func(ctx context.Context, id int64, old []byte) ([]byte, kept, error) {
		return inEditor(ctx, cmd, id, old)
	}, nil
}

func readInput(cmd *cobra.Command, name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(cmd.InOrStdin())
	}
	return os.ReadFile(name) //nolint:gosec // the user says which file
}

func (e *dlqEdit) patcher(cmd *cobra.Command) (edit, error) {
	text := []byte(e.patch)
	if !strings.HasPrefix(strings.TrimSpace(e.patch), "[") {
		var err error
		if text, err = readInput(cmd, e.patch); err != nil {
			return nil, usageError{fmt.Errorf("--patch: %w", err)}
		}
	}
	patch, err := jsonpatch.DecodePatch(text)
	if err == nil {
		err = complete(patch)
	}
	if err != nil {
		return nil, inputError{fmt.Errorf(`--patch is no JSON Patch (RFC 6902): %w; write for example [{"op": "replace", "path": "/amount", "value": 12}]`, err)}
	}
	return func(_ context.Context, id int64, old []byte) ([]byte, kept, error) {
		value, err := patch.Apply(old)
		if err != nil {
			return nil, "", inputError{fmt.Errorf("the patch does not fit event %d: %w; see its content by 'tidings dlq show %d'", id, err, id)}
		}
		return value, "", nil
	}, nil
}

// complete checks what the library leaves to the application of a patch.
func complete(patch jsonpatch.Patch) error {
	if len(patch) == 0 {
		return errors.New("it has no operations")
	}
	for i, op := range patch {
		path, err := op.Path()
		if err != nil {
			return fmt.Errorf("operation %d has no path", i+1)
		}
		if path != "" && !strings.HasPrefix(path, "/") {
			return fmt.Errorf("operation %d: path %q does not begin with /", i+1, path)
		}
	}
	return nil
}

// kept is the name of a file with what somebody wrote; empty: none.
type kept string

func (k kept) remove() {
	if k != "" {
		_ = os.Remove(string(k))
	}
}

// tell adds to an error where the text is.
func (k kept) tell(err error) error {
	if k == "" {
		return err
	}
	return fmt.Errorf("%w\nwhat you wrote is in %s: correct it there and use --set", err, k)
}

// inEditor lets somebody edit the content. JSON is put on lines; what is not
// touched stays as it was.
func inEditor(ctx context.Context, cmd *cobra.Command, id int64, old []byte) ([]byte, kept, error) {
	program := os.Getenv("VISUAL")
	if program == "" {
		program = os.Getenv("EDITOR")
	}
	words := strings.Fields(program)
	if len(words) == 0 {
		return nil, "", usageError{errors.New("how? neither VISUAL nor EDITOR is set: set one, or say --set FILE or --patch FILE")}
	}
	f, err := os.CreateTemp("", fmt.Sprintf("tidings-event-%d-*.json", id))
	if err != nil {
		return nil, "", fmt.Errorf("a file for the editor: %w", err)
	}
	name := kept(f.Name())
	shown := contentText(old)
	if _, err := f.WriteString(shown); err != nil {
		_ = f.Close()
		name.remove()
		return nil, "", fmt.Errorf("a file for the editor: %w", err)
	}
	if err := f.Close(); err != nil {
		name.remove()
		return nil, "", fmt.Errorf("a file for the editor: %w", err)
	}
	run := exec.CommandContext(ctx, words[0], append(words[1:], string(name))...) //nolint:gosec // the user's editor
	run.Stdin, run.Stdout, run.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	if err := run.Run(); err != nil {
		return nil, "", name.tell(fmt.Errorf("the editor %q ended: %w; nothing was changed", program, err))
	}
	written, err := os.ReadFile(string(name))
	if err != nil {
		return nil, "", fmt.Errorf("reading what was written: %w", err)
	}
	if string(written) == shown {
		return old, name, nil
	}
	// Editors end the last line, which the content did not have.
	if !bytes.HasSuffix(old, []byte("\n")) {
		written = bytes.TrimSuffix(written, []byte("\n"))
	}
	return written, name, nil
}
