package sqlinbox

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// commitTimeout bounds COMMIT, which goes on when the caller's context has ended.
const commitTimeout = 10 * time.Second

// transaction is a *sql.Tx whose context is ours: with the caller's,
// database/sql would roll back when that ends, beside a COMMIT under way.
type transaction struct {
	*sql.Tx

	conn   *sql.Conn
	cancel context.CancelFunc
}

func begin(ctx context.Context, db *sql.DB, options *sql.TxOptions) (*transaction, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	tx, err := conn.BeginTx(own, options)
	if !stop() && err == nil {
		err = errors.Join(context.Cause(ctx), tx.Rollback())
	}
	if err != nil {
		cancel()
		return nil, errors.Join(err, conn.Close())
	}
	return &transaction{Tx: tx, conn: conn, cancel: cancel}, nil
}

func (t *transaction) commit() error {
	timer := time.AfterFunc(commitTimeout, t.cancel)
	defer timer.Stop()
	return t.Commit()
}

// end rolls back what is not committed and gives the connection back.
func (t *transaction) end() {
	_ = t.Rollback() // fails when it is committed, or the connection is gone
	t.cancel()
	_ = t.conn.Close()
}
