package sqlinbox

import (
	"context"
	"database/sql"

	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/handlers/inbox/internal/postgres"
)

type postgresDialect struct {
	db     *sql.DB
	upkeep postgres.Upkeep
}

func (d *postgresDialect) options() *sql.TxOptions {
	// Each statement must see what was committed while it waited for the lock.
	return &sql.TxOptions{Isolation: sql.LevelReadCommitted}
}

func (d *postgresDialect) register(ctx context.Context, h inbox.Handler) (int32, error) {
	return postgres.Register(ctx, d.db, h, d.upkeep.Retention)
}

func (d *postgresDialect) lock(ctx context.Context, tx *sql.Tx, handler int32, a *inbox.Admission) error {
	query, args := postgres.LockArgs(handler, a)
	_, err := tx.ExecContext(ctx, query, args...)
	return err
}

func (d *postgresDialect) admit(ctx context.Context, tx querier, handler int32, a *inbox.Admission, mode postgres.Mode) (answer inbox.Answer, err error) {
	var ignored bool
	err = tx.QueryRowContext(ctx, postgres.Admit, postgres.AdmitArgs(handler, a, mode)...).Scan(&answer, &ignored)
	return answer, err
}

// busy: PostgreSQL waits by itself.
func (d *postgresDialect) busy(error) bool { return false }

func (d *postgresDialect) hopeless(err error) bool { return postgres.Hopeless(err) }

func (d *postgresDialect) refused(err error) bool { return postgres.Refused(err) }

func (d *postgresDialect) check(ctx context.Context) error { return d.upkeep.Check(ctx, d.db) }

func (d *postgresDialect) keep(ctx context.Context) error { return d.upkeep.Keep(ctx, d.db) }
