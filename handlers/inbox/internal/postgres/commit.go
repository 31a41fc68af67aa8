package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tidings-bus/tidings/handlers/inbox"
)

// Refused reports that err is the server's own answer to COMMIT, and that the
// transaction is not committed. SQLSTATE classes 57 (shutdown) and 08 say
// nothing of the sort: the server may cut a connection after it committed.
func Refused(err error) bool {
	if errors.Is(err, pgx.ErrTxCommitRollback) {
		return true // a statement of the transaction had failed: COMMIT ends it by a rollback
	}
	code := state(err)
	return code != "" && !strings.HasPrefix(code, "57") && !strings.HasPrefix(code, "08")
}

// Hopeless reports that the server refused a statement for what it says, which
// waiting does not mend: SQLSTATE classes 22 (data), 23 (constraints), 42
// (rights, names) and 54 (limits).
func Hopeless(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	code := state(err)
	for _, class := range []string{"22", "23", "42", "54"} {
		if strings.HasPrefix(code, class) {
			return true
		}
	}
	return false
}

// NotAdmitted returns the error of an admission that failed by err: one that is
// hopeless is the event's failure, and others are no attempt.
func NotAdmitted(a *inbox.Admission, err error, hopeless bool) error {
	if hopeless {
		return fmt.Errorf("ask the inbox for event %s, handler %q of group %q: the database refuses it: %w", a.EventID, a.Handler.Name, a.Handler.Group, err)
	}
	return fmt.Errorf("ask the inbox for event %s, handler %q of group %q: %w: %w", a.EventID, a.Handler.Name, a.Handler.Group, inbox.ErrNotAdmitted, err)
}

// state returns the SQLSTATE in err, or nothing.
func state(err error) string {
	var coded interface{ SQLState() string }
	if !errors.As(err, &coded) {
		return ""
	}
	return coded.SQLState()
}
