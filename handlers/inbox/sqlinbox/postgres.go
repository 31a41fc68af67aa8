package sqlinbox

import (
	"context"
	"database/sql"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/deadletter/sqlstore"
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

func (d *postgresDialect) park(ctx context.Context, tx querier, handler int32, a *inbox.Admission, f *inbox.Failure, room bool) (inbox.Answer, error) {
	return postgres.Park(ctx, in(tx), handler, a, f, room)
}

func (d *postgresDialect) fail(ctx context.Context, tx querier, handler int32, a *inbox.Admission, f *inbox.Failure) (inbox.Answer, error) {
	return postgres.Fail(ctx, in(tx), handler, a, f)
}

func (d *postgresDialect) turn(ctx context.Context, tx querier, handler int32, a *inbox.Admission, take bool) (answer inbox.Answer, err error) {
	err = tx.QueryRowContext(ctx, postgres.Turn, postgres.TurnArgs(handler, a, take)...).Scan(&answer)
	return answer, err
}

func (d *postgresDialect) leave(ctx context.Context, tx querier, letter int64) error {
	return postgres.Leave(ctx, in(tx), letter)
}

func (d *postgresDialect) totals(ctx context.Context, tx querier, handler int32) (postgres.Total, error) {
	return postgres.Totals(ctx, in(tx), handler)
}

func (d *postgresDialect) letters() deadletter.Store { return sqlstore.Postgres(d.db) }

// in runs statements in tx.
func in(tx querier) postgres.Query {
	return func(ctx context.Context, query string, args ...any) interface{ Scan(dest ...any) error } {
		return tx.QueryRowContext(ctx, query, args...)
	}
}

// busy: PostgreSQL waits by itself.
func (d *postgresDialect) busy(error) bool { return false }

func (d *postgresDialect) hopeless(err error) bool { return postgres.Hopeless(err) }

func (d *postgresDialect) refused(err error) bool { return postgres.Refused(err) }

func (d *postgresDialect) check(ctx context.Context) error { return d.upkeep.Check(ctx, d.db) }

func (d *postgresDialect) keep(ctx context.Context) error { return d.upkeep.Keep(ctx, d.db) }
