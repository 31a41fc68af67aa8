package postgres

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Refused reports that err is the server's own answer to COMMIT, and that the
// transaction is not committed. SQLSTATE classes 57 (shutdown) and 08 say
// nothing of the sort: the server may cut a connection after it committed.
func Refused(err error) bool {
	if errors.Is(err, pgx.ErrTxCommitRollback) {
		return true // a statement of the transaction had failed: COMMIT ends it by a rollback
	}
	var state interface{ SQLState() string }
	if !errors.As(err, &state) {
		return false
	}
	code := state.SQLState()
	return code != "" && !strings.HasPrefix(code, "57") && !strings.HasPrefix(code, "08")
}
