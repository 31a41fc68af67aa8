package schema_test

import (
	"database/sql"
	"fmt"
	"os"
	"testing"

	"github.com/tidings-bus/tidings/internal/testenv"
	"github.com/tidings-bus/tidings/schema"
)

// childEnv makes the test binary a process that migrates a SQLite file.
const childEnv = "TIDINGS_TEST_MIGRATE_SQLITE"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		os.Exit(migrateChild(path))
	}
	testenv.Main(m)
}

func migrateChild(path string) int {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)")
	if err == nil {
		_, _ = os.Stdout.WriteString("ready\n")
		_, _ = fmt.Scanln() // all start at once
		err = schema.MigrateSQLite(testContext(), db)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
