package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/internal/near"
)

func (d *dlq) exportCommand() *cobra.Command {
	s := &selection{}
	var file string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write parked events as lines of JSON",
		Long: `Writes the parked events of the keys that the flags select, all without flags: one line
of JSON for each event, key by key, each key in order. 'tidings dlq import' reads
them. Nothing is changed by it. The form is described by
'go doc github.com/tidings-bus/tidings/deadletter'.`,
		Example: `  tidings dlq export --sqlite ./orders.db
  tidings dlq export --handler charge --out parked.ndjson --sqlite ./orders.db`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error { return exportTo(cmd, d, s, file) },
	}
	s.register(cmd)
	cmd.Flags().StringVar(&file, "out", "", "write to this file, which must not exist (default: stdout)")
	return cmd
}

func exportTo(cmd *cobra.Command, d *dlq, s *selection, file string) (err error) {
	f, err := s.filter(cmd, time.Now())
	if err != nil {
		return err
	}
	k, err := d.open(cmd)
	if err != nil {
		return err
	}
	defer k.close()
	if err := k.known(f); err != nil {
		return err
	}
	f.Group = k.group
	out := cmd.OutOrStdout()
	if file != "" {
		to, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the user says which file
		if err != nil {
			return usageError{fmt.Errorf("--out: %w", err)}
		}
		defer func() { err = errors.Join(err, to.Close()) }()
		out = to
	}
	w := bufio.NewWriter(out)
	keys, events, err := k.export(cmd.Context(), w, f)
	if err = errors.Join(err, w.Flush()); err != nil {
		return err
	}
	if file != "" {
		sayf(cmd.OutOrStdout(), "wrote %s of %s to %s\n", counted(events, "event"), counted(keys, "key"), file)
	}
	return nil
}

// exportedAtOnce bounds the events in memory.
const exportedAtOnce = 200

func (k *desk) export(ctx context.Context, w io.Writer, f deadletter.Filter) (keys, events int64, err error) {
	for after := int64(0); ; {
		page, err := k.Keys(ctx, f, after, 1000)
		if err != nil || len(page) == 0 {
			return keys, events, err
		}
		for i := range page {
			after = page[i].ID
			n, err := k.exportKey(ctx, w, page[i].ID)
			events += n
			if err != nil {
				return keys, events, err
			}
			if n > 0 {
				keys++
			}
		}
	}
}

func (k *desk) exportKey(ctx context.Context, w io.Writer, key int64) (events int64, err error) {
	for after := int64(0); ; {
		list, err := k.Letters(ctx, key, after, exportedAtOnce)
		if errors.Is(err, deadletter.ErrNotFound) {
			return events, nil // it was drained meanwhile
		}
		if err != nil {
			return events, err
		}
		for i := range list {
			line, err := deadletter.MarshalLetter(list[i])
			if err != nil {
				return events, err
			}
			if _, err := w.Write(append(line, '\n')); err != nil {
				return events, fmt.Errorf("writing: %w", err)
			}
			after = list[i].ID
			events++
		}
		if len(list) < exportedAtOnce {
			return events, nil
		}
	}
}

func (d *dlq) importCommand() *cobra.Command {
	var (
		a      actor
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Park events that were exported",
		Long: `Parks the events of a file that 'tidings dlq export' wrote (- for stdin), in the
order of the file, each behind what its key has. Those that are parked already or
were applied are left out, so that importing twice does nothing. All lines are read
before anything is parked; a bad one is named (exit code 5), and nothing is.`,
		Example: `  tidings dlq import parked.ndjson --reason "restored after the move" --sqlite ./orders.db
  tidings dlq export --sqlite ./old.db | tidings dlq import - --sqlite ./orders.db`,
		Args: exactArgs("a file: tidings dlq import parked.ndjson"),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := openInput(args[0], cmd.InOrStdin(), formNDJSON)
			if err != nil {
				return usageError{err}
			}
			defer in.close()
			k, err := d.open(cmd)
			if err != nil {
				return err
			}
			defer k.close()
			read, added, err := k.importFrom(cmd.Context(), in, a.act())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), map[string]int64{"read": read, "parked": added})
			}
			sayf(cmd.OutOrStdout(), "parked %d of %s%s\n", added, counted(read, "event"), leftOut(read-added))
			return nil
		},
	}
	a.register(cmd, "why, for the audit log")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func leftOut(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("; %d are parked or applied already", n)
}

// importedAtOnce bounds the events in memory.
const importedAtOnce = 500

// importFrom checks all lines, then parks them.
func (k *desk) importFrom(ctx context.Context, in *input, act deadletter.Act) (read, added int64, err error) {
	for it := range in.items() {
		if _, err := k.letterOf(&it); err != nil {
			return 0, 0, inputError{fmt.Errorf("%s, line %d: %w; nothing was parked", in.name, it.number, err)}
		}
		read++
	}
	var batch []deadletter.Letter
	park := func() error {
		n, err := k.Import(ctx, batch, act)
		added += n
		batch = batch[:0]
		if err != nil {
			return fmt.Errorf("%w (%s parked; import the file again when that is mended)", err, counted(added, "event"))
		}
		return nil
	}
	for it := range in.items() {
		l, err := k.letterOf(&it)
		if err != nil {
			return read, added, err
		}
		if batch = append(batch, l); len(batch) == importedAtOnce {
			if err := park(); err != nil {
				return read, added, err
			}
		}
	}
	if len(batch) > 0 {
		err = park()
	}
	return read, added, err
}

func (k *desk) letterOf(it *item) (deadletter.Letter, error) {
	if it.err != nil {
		return deadletter.Letter{}, it.err
	}
	l, err := deadletter.UnmarshalLetter(it.raw)
	if err == nil && l.Handler.Group != k.group {
		err = fmt.Errorf("it is of group %q, and these are the dead letters of %q", l.Handler.Group, k.group)
	}
	return l, err
}

func (d *dlq) reassignCommand() *cobra.Command {
	var (
		a        actor
		from, to string
	)
	cmd := &cobra.Command{
		Use:   "reassign",
		Short: "Hand the parked events of a handler to another one",
		Long: `Hands the parked keys of a handler to another one of the group, such as those of a
handler that was renamed: the group reports parked events of handlers that it has
no more. What the other one has parked of a key stays before.

NAME is a handler, NAME@EPOCH one of its epochs. Without an epoch --from means all
that have parked events, and --to the newest.`,
		Example: `  tidings dlq reassign --from charge --to charge-v2 --reason renamed --sqlite ./orders.db`,
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if from == "" || to == "" {
				return usageError{errors.New("from which handler to which? say --from NAME --to NAME")}
			}
			k, err := d.open(cmd)
			if err != nil {
				return err
			}
			defer k.close()
			sources, target, err := k.handover(from, to)
			if err != nil {
				return err
			}
			var moved int64
			for _, h := range sources {
				n, err := k.Reassign(cmd.Context(), h, target, a.act())
				moved += n
				if err != nil {
					return err
				}
			}
			sayf(cmd.OutOrStdout(), "handed %s from %s to %s\n", counted(moved, "event"), from, to)
			return nil
		},
	}
	a.register(cmd, "why, for the audit log")
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "handler whose parked events are handed on: NAME or NAME@EPOCH")
	f.StringVar(&to, "to", "", "handler that gets them: NAME or NAME@EPOCH")
	return cmd
}

// handover finds the handlers of a reassign.
func (k *desk) handover(from, to string) (sources []inbox.Handler, target inbox.Handler, err error) {
	targets, err := k.handlersNamed("--to", to)
	if err != nil {
		return nil, target, err
	}
	target = slices.MaxFunc(targets, func(a, b inbox.Handler) int { return a.Epoch - b.Epoch })
	if sources, err = k.handlersNamed("--from", from); err != nil {
		return nil, target, err
	}
	if sources = slices.DeleteFunc(sources, func(h inbox.Handler) bool { return h == target }); len(sources) == 0 {
		return nil, target, usageError{fmt.Errorf("--from %s and --to %s are the same handler; name another one", from, to)}
	}
	return sources, target, nil
}

func (k *desk) handlersNamed(flag, text string) ([]inbox.Handler, error) {
	name, suffix, hasEpoch := strings.Cut(text, "@")
	epoch, err := strconv.Atoi(suffix)
	if hasEpoch && err != nil {
		return nil, usageError{fmt.Errorf("%s %q: what follows @ is no number; write NAME or NAME@EPOCH", flag, text)}
	}
	var (
		list  []inbox.Handler
		names []string
	)
	for _, h := range k.handlers {
		names = append(names, h.Name)
		if h.Name == name && (!hasEpoch || h.Epoch == epoch) {
			list = append(list, h)
		}
	}
	switch {
	case len(list) > 0:
		return list, nil
	case slices.Contains(names, name):
		return nil, fmt.Errorf("%s %s: epoch %d of the handler was %w", flag, text, epoch, deadletter.ErrNotFound)
	}
	return nil, fmt.Errorf("%s: handler %q of group %q %w%s", flag, name, k.group, deadletter.ErrNotFound, near.Suggest(name, slices.Compact(names)))
}
