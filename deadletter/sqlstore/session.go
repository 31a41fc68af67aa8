package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"
)

// session runs statements, in a transaction or outside of any.
type session struct {
	querier

	*dialect
}

type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// exec returns how many rows it changed.
func (s session) exec(ctx context.Context, name statement, args ...any) (int64, error) {
	result, err := s.ExecContext(ctx, s.statements[name], s.arguments(args)...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (s session) row(ctx context.Context, name statement, args ...any) *sql.Row {
	return s.QueryRowContext(ctx, s.statements[name], s.arguments(args)...)
}

// scan reads the columns of a row.
type scan func(dest ...any) error

// each reads all rows.
func each[T any](ctx context.Context, s session, read func(scan) (T, error), name statement, args ...any) (list []T, err error) {
	rows, err := s.QueryContext(ctx, s.statements[name], s.arguments(args)...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		one, err := read(rows.Scan)
		if err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	return list, rows.Err()
}

// one reads a row of one column.
func one[T any](read scan) (v T, err error) {
	err = read(&v)
	return v, err
}

// arguments are args as the driver takes them. The zero time, nil bytes and nil
// JSON are null; empty bytes are not.
func (s session) arguments(args []any) []any {
	list := make([]any, len(args))
	for i, v := range args {
		switch v := v.(type) {
		case []byte:
			if v != nil {
				list[i] = v
			}
		case json.RawMessage:
			if v != nil {
				list[i] = string(v)
			}
		case time.Time:
			if !v.IsZero() {
				list[i] = s.argument(v.UTC())
			}
		default:
			list[i] = s.argument(v)
		}
	}
	return list
}

// or0 is n, or null where it is 0.
func or0(n int64) any {
	if n == 0 {
		return nil
	}
	return n
}

// orEmpty tells empty bytes from null, which not every driver does.
func orEmpty(b []byte, null bool) []byte {
	if b == nil && !null {
		return []byte{}
	}
	return b
}

// instant scans a time of any dialect into T: null is the zero time.
type instant struct{ T *time.Time }

// Scan implements sql.Scanner.
func (i instant) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*i.T = time.Time{}
	case time.Time:
		*i.T = v.UTC()
	case int64:
		*i.T = time.UnixMilli(v).UTC()
	default:
		return fmt.Errorf("a time is %T", v)
	}
	return nil
}

// document scans JSON of any dialect.
type document struct{ Text *json.RawMessage }

// Scan implements sql.Scanner.
func (d document) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*d.Text = nil
	case []byte:
		*d.Text = append(json.RawMessage{}, v...)
	case string:
		*d.Text = json.RawMessage(v)
	default:
		return fmt.Errorf("JSON is %T", v)
	}
	return nil
}
