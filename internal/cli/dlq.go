package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/user"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/deadletter/sqlstore"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/internal/near"
)

// dlq is where the dead letters are, by the flags that all its commands have.
type dlq struct {
	kafka    kafkaFlags
	postgres string
	sqlite   string
	group    string
}

func dlqCommand() *cobra.Command {
	d := &dlq{}
	cmd := &cobra.Command{
		Use:   "dlq",
		Short: "List, retry, edit and discard parked events",
		Long: `Shows and changes the dead letters of a consumer group: events that handlers could
not apply, with the later events of their keys behind them, in order.

They are in the database of the handlers' inbox: name it by --postgres or --sqlite.
A group without a database parks in Kafka: name it by --brokers and --group. Of a
database with one group, --group can be left out.

What needs the handlers (retry, edit) is recorded as a request, and the members of
the group carry it out, also when this command has ended. Everything that is done
is in the audit log.`,
		Args: noArgs,
		RunE: showHelp,
	}
	f := cmd.PersistentFlags()
	f.StringVar(&d.postgres, "postgres", "", "URL of the handlers' PostgreSQL database")
	f.StringVar(&d.sqlite, "sqlite", "", "path of the handlers' SQLite database")
	f.StringVar(&d.group, "group", "", "consumer group (default: the only one of the database)")
	d.kafka.registerOn(f, "brokers", nil, "bootstrap brokers, host:port, of a group that parks in Kafka")
	cmd.AddCommand(d.listCommand(), d.showCommand(), d.retryCommand(), d.editCommand(), d.discardCommand(), d.exportCommand(), d.importCommand(),
		d.reassignCommand(), d.requestsCommand(), d.auditCommand())
	return cmd
}

// desk is an open store of dead letters.
type desk struct {
	deadletter.Store

	group    string          // whose letters
	place    string          // for people
	handlers []inbox.Handler // of the group, that the store has seen
	flags    string          // by which another command gets here
	close    func()
}

// open connects to what the flags name, and finds the group. Close the desk.
func (d *dlq) open(cmd *cobra.Command) (*desk, error) {
	kind, err := d.kind(cmd)
	if err != nil {
		return nil, usageError{err}
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), d.kafka.timeout)
	defer cancel()
	if kind == "brokers" {
		return d.openKafka(ctx, cmd)
	}
	return d.openDatabase(ctx, cmd, kind)
}

// kind says which of the flags is meant. What is on the command line wins over
// the environment and the file, and there a database over brokers: those serve
// other commands too.
func (d *dlq) kind(cmd *cobra.Command) (string, error) {
	var here, elsewhere []string
	for _, name := range []string{"postgres", "sqlite", "brokers"} {
		f := cmd.Flags().Lookup(name)
		switch {
		case onCommandLine(f):
			here = append(here, name)
		case f.Changed:
			elsewhere = append(elsewhere, name)
		}
	}
	given := here
	if len(given) == 0 {
		given = elsewhere
		if i := slices.Index(given, "brokers"); i > 0 {
			given = given[:i]
		}
	}
	switch len(given) {
	case 0:
		return "", errors.New("where are the dead letters? say --postgres URL or --sqlite PATH of the handlers' database, or --brokers of a group that parks in Kafka")
	case 1:
		return given[0], nil
	}
	return "", fmt.Errorf("--%s are all set (flag, environment or file); leave one", strings.Join(given, " and --"))
}

func (d *dlq) openDatabase(ctx context.Context, cmd *cobra.Command, kind string) (*desk, error) {
	var (
		db  database
		err error
	)
	if kind == "postgres" {
		db, err = openPostgres(ctx, d.postgres)
	} else {
		db, err = openSQLite(ctx, d.sqlite, true)
	}
	if err != nil {
		return nil, err
	}
	if err := db.check(ctx, db.db); err != nil {
		_ = db.db.Close()
		return nil, fmt.Errorf("%s: %w", db.name, err)
	}
	s := sqlstore.SQLite(db.db)
	if kind == "postgres" {
		s = sqlstore.Postgres(db.db)
	}
	k := &desk{Store: s, place: db.name, flags: d.again(cmd), close: func() { _ = db.db.Close() }}
	known, err := s.Known(ctx, "")
	if err == nil {
		err = k.choose(d.group, known)
	}
	if err != nil {
		k.close()
		return nil, err
	}
	return k, nil
}

// choose finds the group among the handlers of the database.
func (k *desk) choose(group string, known []inbox.Handler) error {
	var groups []string
	for _, h := range known {
		if !slices.Contains(groups, h.Group) {
			groups = append(groups, h.Group)
		}
	}
	switch {
	case len(groups) == 0:
		return fmt.Errorf("%s: no handler of any group has used this database yet; is it the one that the handlers' inbox is in?", k.place)
	case group == "" && len(groups) > 1:
		return usageError{fmt.Errorf("which group? %s has several: say --group %s", k.place, strings.Join(groups, " or --group "))}
	case group == "":
		group = groups[0]
	case !slices.Contains(groups, group):
		return fmt.Errorf("group %q %w in %s%s", group, deadletter.ErrNotFound, k.place, near.Suggest(group, groups))
	}
	k.group = group
	for _, h := range known {
		if h.Group == group {
			k.handlers = append(k.handlers, h)
		}
	}
	return nil
}

// again are the flags of the command line by which another command gets to the
// same place. A password is not shown.
func (d *dlq) again(cmd *cobra.Command) string {
	var words strings.Builder
	for _, name := range []string{"postgres", "sqlite", "brokers", "group", "config"} {
		f := cmd.Flags().Lookup(name)
		if f == nil || !onCommandLine(f) {
			continue
		}
		value := f.Value.String()
		switch name {
		case "postgres":
			if u, err := url.Parse(value); err == nil {
				value = u.Redacted()
			}
		case "brokers":
			value = strings.Join(d.kafka.brokers, ",")
		}
		words.WriteString(" --" + name + " " + shellWord(value))
	}
	return words.String()
}

// shellWord quotes s for a shell where it must be.
func shellWord(s string) string {
	plain := s != "" && strings.IndexFunc(s, func(r rune) bool {
		return r > 'z' || !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-", r)
	}) < 0
	if plain {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// actor is who does it, and why.
type actor struct {
	who    string
	reason string
}

func (a *actor) register(cmd *cobra.Command, reason string) {
	cmd.Flags().StringVar(&a.who, "as", "", "who does it, for the audit log (default: user@host)")
	cmd.Flags().StringVar(&a.reason, "reason", "", reason)
}

func (a *actor) act() deadletter.Act {
	who := a.who
	if who == "" {
		who = me()
	}
	return deadletter.Act{Who: who, Reason: a.reason}
}

// me is user@host.
func me() string {
	name, host := "unknown", "unknown"
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	} else if env := os.Getenv("USER"); env != "" {
		name = env
	}
	if h, err := os.Hostname(); err == nil && h != "" {
		host = h
	}
	return name + "@" + host
}
