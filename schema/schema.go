package schema

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

// Level is what this binary understands: it is raised by each release whose
// code no longer works on an older schema, or the reverse.
const Level = 1

// Version is the newest schema version that this binary brings, and the least
// that it needs.
const Version = 1

var (
	// ErrNotMigrated is wrapped by the error for a database that has no Tidings
	// tables, or not all that this binary needs.
	ErrNotMigrated = errors.New("database is not migrated")
	// ErrTooNew is wrapped by the error for a database whose schema this
	// binary must not use.
	ErrTooNew = errors.New("database is of a newer, incompatible schema")
)

//go:embed postgres/*.sql sqlite/*.sql
var files embed.FS

// Status is the state of a database's schema.
type Status struct {
	// Version is the database's; 0: not migrated.
	Version int
	// OldestBinary is the least Level that may use the database.
	OldestBinary int
	// OldestRelease is the first release of that level, such as "0.1.0".
	OldestRelease string
}

// check says whether this binary may use a database of that status.
func (s Status) check(dialect string) error {
	switch {
	case s.OldestBinary > Level:
		return fmt.Errorf("%w: it has version %d, for binaries of level %d and above, and this one has level %d; upgrade this binary to release %s or later",
			ErrTooNew, s.Version, s.OldestBinary, Level, s.OldestRelease)
	case s.Version < Version:
		return fmt.Errorf("%w: it has schema version %d and this binary needs %d; run `tidings migrate --%s ...`, or call schema.%s at start",
			ErrNotMigrated, s.Version, Version, dialect, migrateCall[dialect])
	}
	return nil
}

const (
	postgres = "postgres"
	sqlite   = "sqlite"
)

var migrateCall = map[string]string{postgres: "MigratePostgres", sqlite: "MigrateSQLite"}

// up applies what is missing.
func up(ctx context.Context, db *sql.DB, dialect goose.Dialect, dir string, options ...goose.ProviderOption) error {
	migrations, err := fs.Sub(files, dir)
	if err != nil {
		return err
	}
	options = append(options, goose.WithLogger(goose.NopLogger()))
	provider, err := goose.NewProvider(dialect, db, migrations, options...)
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}
