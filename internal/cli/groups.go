package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/groups"
	"github.com/tidings-bus/tidings/internal/near"
)

func groupsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "groups",
		Short: "Pause and resume consumer groups",
		Args:  noArgs,
		RunE:  showHelp,
	}
	cmd.AddCommand(groupsChangeCommand(true), groupsChangeCommand(false), groupsListCommand())
	return cmd
}

func groupsChangeCommand(pause bool) *cobra.Command {
	var (
		kafka kafkaFlags
		a     actor
		force bool
	)
	cmd := &cobra.Command{
		Use:   "pause GROUP",
		Short: "Let the members of a group begin nothing new, until it is resumed",
		Long: `Pauses a consumer group: within seconds all members finish what they have started
and begin nothing new. They stay in the group and keep their partitions. A member
that starts finds the group paused. Who and why are shown by 'tidings groups list'.

A group that no member has joined yet needs --force.`,
		Example: `  tidings groups pause billing --reason "the bank is closed"`,
		Args:    exactArgs("a group: tidings groups pause billing"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeGroup(cmd, &kafka, &a, args[0], pause, force)
		},
	}
	if pause {
		cmd.Flags().BoolVar(&force, "force", false, "also a group that the brokers do not know")
	} else {
		cmd.Use = "resume GROUP"
		cmd.Short = "Let the members of a paused group go on"
		cmd.Long = `Resumes a paused consumer group: within seconds its members go on where they
stopped.`
		cmd.Example = `  tidings groups resume billing --reason "the bank is open"`
		cmd.Args = exactArgs("a group: tidings groups resume billing")
	}
	kafka.register(cmd)
	a.register(cmd, "why, for whoever lists the groups")
	return cmd
}

func changeGroup(cmd *cobra.Command, kafka *kafkaFlags, a *actor, group string, pause, force bool) error {
	if group == "" {
		return usageError{errors.New("the group has no name: tidings groups pause billing")}
	}
	return kafka.groups(cmd.Context(), func(ctx context.Context, conn connection.Config, known []string) error {
		if pause && !force && !slices.Contains(known, group) {
			return fmt.Errorf("group %q is not known to the brokers (to pause it before its first member comes, say --force)%s", group, near.Suggest(group, known))
		}
		act, out := a.act(), cmd.OutOrStdout()
		if pause {
			c, err := groups.Pause(ctx, conn, group, act.Who, act.Reason)
			switch {
			case err != nil:
				return err
			case !c.Changed():
				sayf(out, "group %s is paused already, since %s by %s%s\n", group, stamp(c.After.Since), c.After.By, because(c.After.Reason))
			default:
				sayf(out, "group %s is paused; its members follow within seconds. Resume it by: tidings groups resume %s\n", group, shellWord(group))
			}
			return nil
		}
		c, err := groups.Resume(ctx, conn, group, act.Who, act.Reason)
		switch {
		case err != nil:
			return err
		case !c.Changed():
			paused, err := pausedGroups(ctx, conn)
			if err != nil {
				return err
			}
			sayf(out, "group %s is not paused%s\n", group, near.Suggest(group, paused))
		default:
			sayf(out, "group %s goes on; it was paused %s by %s%s\n", group, age(c.Before.Since, time.Now()), c.Before.By, because(c.Before.Reason))
		}
		return nil
	})
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + oneLine(reason)
}

func pausedGroups(ctx context.Context, conn connection.Config) (names []string, err error) {
	list, err := groups.List(ctx, conn)
	for _, s := range list {
		if s.Paused {
			names = append(names, s.Group)
		}
	}
	return names, err
}

func groupsListCommand() *cobra.Command {
	var (
		kafka  kafkaFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List consumer groups, and which are paused, by whom and why",
		Long: `Lists the consumer groups that the brokers know, and those that were ever paused:
running or paused, since when, by whom and why.`,
		Example: `  tidings groups list
  tidings groups list --json`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return kafka.groups(cmd.Context(), func(ctx context.Context, conn connection.Config, known []string) error {
				list, err := groups.List(ctx, conn)
				if err != nil {
					return err
				}
				for _, name := range known {
					if !slices.ContainsFunc(list, func(s groups.State) bool { return s.Group == name }) {
						list = append(list, groups.State{Group: name})
					}
				}
				slices.SortFunc(list, func(a, b groups.State) int {
					switch {
					case a.Paused != b.Paused && a.Paused:
						return -1
					case a.Paused != b.Paused:
						return 1
					case a.Group < b.Group:
						return -1
					}
					return 1
				})
				return printGroups(cmd.OutOrStdout(), list, asJSON)
			})
		},
	}
	kafka.register(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printGroups(out io.Writer, list []groups.State, asJSON bool) error {
	if asJSON {
		type groupJSON struct {
			Group  string     `json:"group"`
			Paused bool       `json:"paused"`
			Since  *time.Time `json:"since,omitempty"`
			By     string     `json:"by,omitempty"`
			Reason string     `json:"reason,omitempty"`
		}
		rows := make([]groupJSON, 0, len(list))
		for _, s := range list {
			rows = append(rows, groupJSON{s.Group, s.Paused, instant(s.Since), s.By, s.Reason})
		}
		return printJSON(out, rows)
	}
	if len(list) == 0 {
		sayf(out, "no groups\n")
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	sayf(w, "GROUP\tSTATE\tSINCE\tBY\tREASON\n")
	for _, s := range list {
		state, since := "running", "-"
		if s.Paused {
			state = "paused"
		}
		if !s.Since.IsZero() {
			since = age(s.Since, time.Now()) + " ago"
		}
		sayf(w, "%s\t%s\t%s\t%s\t%s\n", s.Group, state, since, dash(s.By), dash(oneLine(s.Reason)))
	}
	return w.Flush()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// groups runs do with the groups that the brokers know, once one has answered.
func (k *kafkaFlags) groups(ctx context.Context, do func(context.Context, connection.Config, []string) error) error {
	cl, conn, err := k.client(ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	listed, err := kadm.NewClient(cl).ListGroups(ctx)
	if err != nil {
		return fmt.Errorf("asking for the groups: %w", err)
	}
	return do(ctx, conn, listed.Groups())
}
