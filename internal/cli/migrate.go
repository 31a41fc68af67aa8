package cli

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/spf13/cobra"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/tidings-bus/tidings/schema"
)

type migrate struct {
	postgres string
	sqlite   string
	status   bool
	json     bool
	timeout  time.Duration
}

func migrateCommand() *cobra.Command {
	m := &migrate{}
	cmd := &cobra.Command{ //nolint:gosec // the password is an example
		Use:   "migrate",
		Short: "Make or upgrade the tables in a service's database",
		Long: `Brings the database to the schema this binary needs: the tables in which handlers
remember what they have applied. It goes forward only, does nothing when nothing
is missing, and may run in several places at once: one works, the others wait.

--status changes nothing: it prints where the database stands and exits 1 when
this binary cannot use it as it is.`,
		Example: `  tidings migrate --postgres postgres://orders:secret@127.0.0.1:5432/orders
  tidings migrate --sqlite ./orders.db
  tidings migrate --sqlite ./orders.db --status`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), m.timeout)
			defer cancel()
			return m.run(ctx, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&m.postgres, "postgres", "", "URL of a PostgreSQL database")
	f.StringVar(&m.sqlite, "sqlite", "", "path of an SQLite database; it is made when missing")
	f.BoolVar(&m.status, "status", false, "only report where the database stands")
	f.BoolVar(&m.json, "json", false, "print JSON")
	f.DurationVar(&m.timeout, "timeout", time.Minute, "how long to wait for the database, and for another process that migrates it")
	return cmd
}

// database is one of the two kinds, opened.
type database struct {
	name    string // for people, without the password
	db      *sql.DB
	migrate func(context.Context, *sql.DB) error
	status  func(context.Context, *sql.DB) (schema.Status, error)
	check   func(context.Context, *sql.DB) error
}

func (m *migrate) run(ctx context.Context, out io.Writer) error {
	d, err := m.open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = d.db.Close() }()
	before, err := d.status(ctx, d.db)
	if err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	if m.status {
		return m.report(out, d.name, before, before, d.check(ctx, d.db))
	}
	if err := d.migrate(ctx, d.db); err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	after, err := d.status(ctx, d.db)
	if err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	return m.report(out, d.name, before, after, nil)
}

func (m *migrate) report(out io.Writer, name string, before, after schema.Status, unusable error) error {
	if m.json {
		why := ""
		if unusable != nil {
			why = unusable.Error()
		}
		if err := printJSON(out, struct {
			Database string `json:"database"`
			Before   int    `json:"before"`
			Version  int    `json:"version"`
			Needed   int    `json:"needed"`
			Usable   bool   `json:"usable"`
			Why      string `json:"why,omitempty"`
		}{name, before.Version, after.Version, schema.Version, unusable == nil, why}); err != nil {
			return err
		}
		if unusable != nil {
			return &reportedError{unusable}
		}
		return nil
	}
	switch {
	case unusable != nil:
		return fmt.Errorf("%s: %w", name, unusable)
	case m.status, before.Version == after.Version:
		sayf(out, "%s: schema version %d, nothing to do\n", name, after.Version)
	default:
		sayf(out, "%s: migrated from version %d to %d\n", name, before.Version, after.Version)
	}
	return nil
}

func (m *migrate) open(ctx context.Context) (database, error) {
	switch {
	case m.postgres != "" && m.sqlite != "":
		return database{}, usageError{errors.New("--postgres and --sqlite are both set (flag, environment or file); leave one out")}
	case m.postgres != "":
		return openPostgres(ctx, m.postgres)
	case m.sqlite != "":
		return openSQLite(ctx, m.sqlite, m.status)
	}
	return database{}, usageError{errors.New("which database? say --postgres URL or --sqlite PATH")}
}

func openPostgres(ctx context.Context, raw string) (database, error) {
	d := database{migrate: schema.MigratePostgres, status: schema.StatusPostgres, check: schema.CheckPostgres}
	cfg, err := parsePostgres(raw)
	if err != nil {
		return d, usageError{err}
	}
	d.name = fmt.Sprintf("postgres %s:%d/%s", cfg.Host, cfg.Port, cfg.Database)
	d.db = stdlib.OpenDB(*cfg)
	if err := d.db.PingContext(ctx); err != nil {
		_ = d.db.Close()
		return d, explainPostgres(d.name, cfg, err)
	}
	return d, nil
}

// parsePostgres reads a URL; its errors never hold the password.
func parsePostgres(raw string) (*pgx.ConnConfig, error) {
	const form = "use postgres://user:password@host:5432/database" //nolint:gosec // an example
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("--postgres is not a URL (a password with special characters must be percent-encoded); " + form)
	}
	if u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, fmt.Errorf("--postgres %q is not a PostgreSQL URL; %s", u.Redacted(), form)
	}
	cfg, err := pgx.ParseConfig(raw)
	if err != nil {
		return nil, fmt.Errorf("--postgres %q cannot be used: %s; %s", u.Redacted(), reason(err), form)
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	return cfg, nil
}

// reason is the last of a chain of errors: what pgconn says without the URL it repeats.
func reason(err error) string {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err.Error()
		}
		err = next
	}
}

func explainPostgres(name string, cfg *pgx.ConnConfig, err error) error {
	var pg *pgconn.PgError
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &pg) && strings.HasPrefix(pg.Code, "28"):
		return fmt.Errorf("%s refused user %q: %w; check the user and password in the URL", name, cfg.User, pg)
	case errors.As(err, &pg) && pg.Code == "3D000":
		return fmt.Errorf("%s: %w; create the database first, or correct the URL", name, pg)
	case errors.As(err, &pg):
		return fmt.Errorf("%s: %w", name, pg)
	}
	var op *net.OpError
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		err = dns
	case errors.As(err, &op):
		err = op
	}
	// What is left repeats itself, once for each address that was tried.
	why, _, _ := strings.Cut(err.Error(), "\n")
	return unreachableError{fmt.Errorf("%s cannot be reached: %s; check the host and port in the URL, and that it runs", name, why)}
}

func openSQLite(ctx context.Context, path string, mustExist bool) (database, error) {
	d := database{name: "sqlite " + path, migrate: schema.MigrateSQLite, status: schema.StatusSQLite, check: schema.CheckSQLite}
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return d, usageError{fmt.Errorf("--sqlite %s is a directory; name the database's file", path)}
	case errors.Is(err, os.ErrNotExist) && mustExist:
		return d, fmt.Errorf("sqlite %s does not exist; 'tidings migrate --sqlite %s' makes it", path, path)
	case errors.Is(err, os.ErrNotExist):
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			return d, usageError{fmt.Errorf("--sqlite %s: its directory does not exist; make %s first", path, filepath.Dir(path))}
		}
	}
	// WAL stays with the file: readers and the one writer do not block each other.
	dsn := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath()}).String() +
		"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
	if d.db, err = sql.Open("sqlite", dsn); err != nil {
		return d, fmt.Errorf("opening sqlite %s: %w", path, err)
	}
	if err := d.db.PingContext(ctx); err != nil {
		_ = d.db.Close()
		return d, fmt.Errorf("opening sqlite %s: %w; is it an SQLite database, and may this user write it?", path, err)
	}
	return d, nil
}
