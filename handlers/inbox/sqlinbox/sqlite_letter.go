package sqlinbox

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"time"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/deadletter/sqlstore"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/handlers/inbox/internal/postgres"
)

// The statements about parked events, which PostgreSQL has as functions; each
// file says what it does.
var (
	//go:embed sqlite/parked.sql
	sqliteParked string
	//go:embed sqlite/parked_key.sql
	sqliteParkedKey string
	//go:embed sqlite/parked_more.sql
	sqliteParkedMore string
	//go:embed sqlite/letter.sql
	sqliteLetter string
	//go:embed sqlite/turn.sql
	sqliteTurn string
	//go:embed sqlite/leave.sql
	sqliteLeave string
	//go:embed sqlite/next.sql
	sqliteNext string
	//go:embed sqlite/drained.sql
	sqliteDrained string
	//go:embed sqlite/fail.sql
	sqliteFail string
	//go:embed sqlite/fail_head.sql
	sqliteFailHead string
	//go:embed sqlite/totals.sql
	sqliteTotals string
)

func (d *sqliteDialect) park(ctx context.Context, tx querier, handler int32, a *inbox.Admission, f *inbox.Failure, room bool) (inbox.Answer, error) {
	l, err := postgres.NewLetter(a)
	if err != nil {
		return 0, err
	}
	var (
		c            = postgres.Failure(f)
		now          = time.Now().UnixMilli()
		known, there bool
		parked       int64
	)
	if err := tx.QueryRowContext(ctx, sqliteParked, handler, a.Place.Topic, blob(l.Key), a.EventID[:]).Scan(&known, &there, &parked); err != nil {
		return 0, err
	}
	switch {
	case known:
		return inbox.Duplicate, nil
	case there:
		return inbox.Parked, nil
	case c.Cause == inbox.CauseBehind && parked == 0:
		return inbox.Fresh, nil
	case !room:
		return postgres.NoRoom, nil
	}
	key := l.Key
	if key == nil {
		key = a.EventID[:]
	}
	var parent, letters, letter int64
	err = tx.QueryRowContext(ctx, sqliteParkedKey, handler, a.Place.Topic, l.Key == nil, key, blob(l.Whole), now, l.Bytes,
		l.Type, string(c.Cause), c.Error, c.Attempts, milliseconds(c.Due)).Scan(&parent, &letters)
	if err != nil {
		return 0, err
	}
	err = tx.QueryRowContext(ctx, sqliteLetter, parent, handler, a.EventID[:], l.Type, l.Source, l.AggregateType, l.AggregateID, a.Sequence,
		a.Place.Partition, a.Place.Offset, l.Time.UnixMilli(), blob(l.Record.Key), blob(l.Record.Value), l.Headers, l.Bytes,
		string(c.Cause), c.Error, c.Stack, c.Attempts, milliseconds(c.First), milliseconds(c.Last), milliseconds(c.Due), now).Scan(&letter)
	if err != nil {
		return 0, err
	}
	if letters == 1 {
		const head = `UPDATE main.tidings_parked_key SET head = ?2 WHERE id = ?1`
		if _, err := tx.ExecContext(ctx, head, parent, letter); err != nil {
			return 0, err
		}
	}
	if l.Key != nil {
		if _, err := tx.ExecContext(ctx, sqliteParkedMore, handler, a.Place.Topic, l.Key, 1, now); err != nil {
			return 0, err
		}
	}
	return postgres.Added, nil
}

func (d *sqliteDialect) turn(ctx context.Context, tx querier, handler int32, a *inbox.Admission, take bool) (inbox.Answer, error) {
	var there, ofKey, first, known bool
	err := tx.QueryRowContext(ctx, sqliteTurn, a.Letter, handler, a.Place.Topic, blob(a.Place.Key), a.EventID[:]).Scan(&there, &ofKey, &first, &known)
	switch {
	case err != nil:
		return 0, err
	case there && !ofKey:
		return inbox.Gone, nil
	case known:
		if there && take {
			err = d.leave(ctx, tx, a.Letter)
		}
		return inbox.Duplicate, err
	case first:
		return inbox.Fresh, nil
	}
	return inbox.Gone, nil
}

func (d *sqliteDialect) leave(ctx context.Context, tx querier, letter int64) error {
	var parent, size int64
	err := tx.QueryRowContext(ctx, sqliteLeave, letter).Scan(&parent, &size)
	if errors.Is(err, sql.ErrNoRows) {
		return nil // it has left before
	}
	if err != nil {
		return err
	}
	var (
		handler int32
		topic   string
		keyless bool
		key     []byte
	)
	err = tx.QueryRowContext(ctx, sqliteNext, parent, size).Scan(&handler, &topic, &keyless, &key)
	if errors.Is(err, sql.ErrNoRows) {
		err = tx.QueryRowContext(ctx, sqliteDrained, parent).Scan(&handler, &topic, &keyless, &key)
	}
	if err != nil || keyless {
		return err
	}
	_, err = tx.ExecContext(ctx, sqliteParkedMore, handler, topic, key, -1, time.Now().UnixMilli())
	return err
}

func (d *sqliteDialect) fail(ctx context.Context, tx querier, handler int32, a *inbox.Admission, f *inbox.Failure) (inbox.Answer, error) {
	b, c := postgres.Bounded(a), postgres.Failure(f)
	if answer, err := d.turn(ctx, tx, handler, &b, true); err != nil || answer == inbox.Duplicate {
		return answer, err
	}
	var parent, attempts int64
	err := tx.QueryRowContext(ctx, sqliteFail, a.Letter, handler, a.EventID[:], string(c.Cause), c.Error, c.Stack, c.Attempts,
		milliseconds(c.First), milliseconds(c.Last), milliseconds(c.Due), time.Now().UnixMilli(), b.Place.Topic, blob(b.Place.Key)).Scan(&parent, &attempts)
	if errors.Is(err, sql.ErrNoRows) {
		return inbox.Gone, nil
	}
	if err == nil {
		_, err = tx.ExecContext(ctx, sqliteFailHead, parent, a.Letter, string(c.Cause), c.Error, attempts, milliseconds(c.Due))
	}
	return inbox.Parked, err
}

func (d *sqliteDialect) totals(ctx context.Context, tx querier, handler int32) (t postgres.Total, err error) {
	var ms int64
	err = tx.QueryRowContext(ctx, sqliteTotals, handler, time.Now().UnixMilli()).Scan(&t.Events, &t.Bytes, &ms)
	t.Age = time.Duration(ms) * time.Millisecond
	return t, err
}

func (d *sqliteDialect) letters() deadletter.Store { return sqlstore.SQLite(d.db) }

// milliseconds returns t as this schema keeps times; the zero time is null.
func milliseconds(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMilli()
}

// blob returns b, or null for nil.
func blob(b []byte) any {
	if b == nil {
		return nil
	}
	return b
}
