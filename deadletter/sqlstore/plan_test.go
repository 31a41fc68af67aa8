package sqlstore

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/tidings-bus/tidings/schema"
)

// Members ask every second: what is due, and what is asked for, is found by
// indexes that have nothing else.
func TestKeysToClaimAreFoundByTheirIndexes(t *testing.T) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "billing.db"))
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, schema.MigrateSQLite(t.Context(), db))
	for name, index := range map[statement]string{claimDue: "tidings_parked_key_due", claimRequested: "tidings_parked_key_request"} {
		var plan []string
		rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+sqlite.statements[name], "billing", "[]", "m", 1, 1)
		require.NoError(t, err, name)
		defer rows.Close()
		for rows.Next() {
			var id, parent, unused int
			var detail string
			require.NoError(t, rows.Scan(&id, &parent, &unused, &detail))
			plan = append(plan, detail)
		}
		require.NoError(t, rows.Err())
		require.Contains(t, strings.Join(plan, "\n"), "SEARCH p USING INDEX "+index)
	}
}
