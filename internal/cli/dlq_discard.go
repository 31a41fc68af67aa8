package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tidings-bus/tidings/deadletter"
)

// dlqDiscard removes parked events without applying them.
type dlqDiscard struct {
	which
	actor

	yes  bool
	json bool
}

func (d *dlq) discardCommand() *cobra.Command {
	c := &dlqDiscard{}
	cmd := &cobra.Command{
		Use:   "discard [ID]",
		Short: "Give up a parked event, or all of a key, with a reason",
		Long: `Takes a parked event out without applying it, or with --key all parked events of a
key: it never has its effect. The inbox knows it as settled, so that it is not
applied when it is read again; the audit log keeps the event and the reason.

What waits behind a discarded event stays parked until somebody retries the key.

In a terminal it asks; elsewhere it needs --yes.`,
		Example: `  tidings dlq discard 41 --reason "customer was deleted" --sqlite ./orders.db
  tidings dlq discard --key o-17 --handler charge --reason "test order" --yes --sqlite ./orders.db`,
		Args: oneOrFlags("the ID of an event, or --key: tidings dlq discard 41 --reason ..."),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd, d, args) },
	}
	c.which.register(cmd)
	c.actor.register(cmd, "why, for the audit log (needed)")
	f := cmd.Flags()
	f.BoolVar(&c.yes, "yes", false, "do not ask")
	f.BoolVar(&c.json, "json", false, "print JSON")
	return cmd
}

func (c *dlqDiscard) run(cmd *cobra.Command, d *dlq, args []string) error {
	if strings.TrimSpace(c.reason) == "" {
		return usageError{errors.New("why? say --reason: the audit log keeps it, and the event never has its effect")}
	}
	asks := isTerminal(cmd.InOrStdin())
	if !asks && !c.yes {
		return usageError{errors.New("nobody can be asked here, where the input is no terminal: say --yes")}
	}
	k, err := d.open(cmd)
	if err != nil {
		return err
	}
	defer k.close()
	ctx := cmd.Context()
	list, byID, err := c.find(ctx, cmd, k, args)
	if err != nil {
		return err
	}
	if !byID && len(args) > 0 {
		return usageError{fmt.Errorf("%q is a key: discarding all of its parked events needs --key %s", args[0], shellWord(args[0]))}
	}
	if len(list) > 1 && len(list[0].key.Key) > 0 {
		var names []string
		for i := range list {
			names = append(names, list[i].key.Handler.Name)
		}
		return usageError{fmt.Errorf("key %q is parked for several handlers: say --handler %s", c.key, strings.Join(names, " or --handler "))}
	}
	what := fmt.Sprintf("event %d (%s, key %s, handler %s)", list[0].letter.ID, typeText(list[0].letter.Type), keyText(list[0].key.Key), list[0].key.Handler.Name)
	if !byID {
		var events int64
		for i := range list {
			events += list[i].key.Events
		}
		what = fmt.Sprintf("%s of key %s, handler %s", counted(events, "event"), keyText(list[0].key.Key), list[0].key.Handler.Name)
	}
	if !c.yes {
		agreed, err := confirm(cmd, "discard "+what+"?")
		if err != nil {
			return err
		}
		if !agreed {
			return errors.New("nothing was discarded")
		}
	}
	var gone []int64
	if byID {
		if err = k.Discard(ctx, list[0].letter.ID, c.act()); err == nil {
			gone = append(gone, list[0].letter.ID)
		}
	} else {
		gone, err = c.keys(ctx, k, list)
	}
	if err != nil {
		if len(gone) > 0 {
			err = fmt.Errorf("after %s: %w", counted(int64(len(gone)), "discarded event"), err)
		}
		return err
	}
	return c.report(cmd, k, list[0], byID, what, gone)
}

// discardPage is how many events are read at once, whole.
const discardPage = 50

// keys discards all events of keys, as they are parked now, in order.
func (c *dlqDiscard) keys(ctx context.Context, k *desk, list []found) (gone []int64, err error) {
	for i := range list {
		for left := list[i].key.Events; left > 0; { // what comes meanwhile stays
			letters, err := k.Letters(ctx, list[i].key.ID, 0, int(min(left, discardPage)))
			if errors.Is(err, deadletter.ErrNotFound) || err == nil && len(letters) == 0 {
				break // all are gone
			}
			if err != nil {
				return gone, err
			}
			left -= int64(len(letters))
			for _, l := range letters {
				switch err := k.Discard(ctx, l.ID, c.act()); {
				case errors.Is(err, deadletter.ErrNotFound): // applied meanwhile
				case err != nil:
					return gone, err
				default:
					gone = append(gone, l.ID)
				}
			}
		}
	}
	return gone, nil
}

func (c *dlqDiscard) report(cmd *cobra.Command, k *desk, one found, byID bool, what string, gone []int64) error {
	out := cmd.OutOrStdout()
	var behind int64
	if byID {
		behind = one.key.Events - 1
	}
	if c.json {
		return printJSON(out, struct {
			Discarded []int64 `json:"discarded"`
			Behind    int64   `json:"behind"`
		}{gone, behind})
	}
	if !byID && int64(len(gone)) != one.key.Events && len(one.key.Key) > 0 {
		what = fmt.Sprintf("%s of key %s, handler %s", counted(int64(len(gone)), "event"), keyText(one.key.Key), one.key.Handler.Name)
	}
	sayf(out, "discarded %s\n", what)
	if behind > 0 {
		sayf(out, "%s of its key %s parked; retry: tidings dlq retry --key %s --handler %s%s\n",
			counted(behind, "event"), stayStays(behind), shellWord(orEmptyWord(one.key.Key)), shellWord(one.key.Handler.Name), k.flags)
	}
	return nil
}

func stayStays(n int64) string {
	if n == 1 {
		return "stays"
	}
	return "stay"
}

// confirm asks in the terminal. Anything but yes is no.
func confirm(cmd *cobra.Command, question string) (bool, error) {
	sayf(cmd.ErrOrStderr(), "%s [y/N] ", question)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
		answer <- line
	}()
	select {
	case line := <-answer:
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "y", "yes":
			return true, nil
		}
		return false, nil
	case <-cmd.Context().Done():
		return false, cmd.Context().Err()
	}
}
