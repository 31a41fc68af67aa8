package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"
)

// dialect is what differs between databases, besides the words of statements.
type dialect struct {
	name      string
	isolation sql.IsolationLevel
	lockFile  bool // a transaction begins by taking the file's write lock
	translate func(text string) string
	argument  func(v any) any
	busy      func(err error) bool // waiting mends it

	statements map[statement]string
}

var (
	postgres = dialect{
		name:      "postgres",
		isolation: sql.LevelReadCommitted,
		translate: func(text string) string { return text },
		argument: func(v any) any {
			if id, ok := v.(uuid.UUID); ok {
				return id.String()
			}
			return v
		},
		busy: func(error) bool { return false }, // it waits by itself
	}
	sqlite = dialect{
		name:      "sqlite",
		lockFile:  true,
		translate: inSQLite,
		argument: func(v any) any {
			switch v := v.(type) {
			case uuid.UUID:
				return v[:]
			case time.Time:
				return v.UnixMilli()
			}
			return v
		},
		busy: locked,
	}
)

func init() { //nolint:gochecknoinits // the texts are constants, but for the words
	postgres.statements = load(&postgres)
	sqlite.statements = load(&sqlite)
}

// SQLite's primary result codes for a lock that another has (https://sqlite.org/rescode.html).
const (
	codeBusy   = 5
	codeLocked = 6
)

func locked(err error) bool {
	var coded interface{ Code() int }
	if !errors.As(err, &coded) {
		return false
	}
	code := coded.Code() & 0xff
	return code == codeBusy || code == codeLocked
}

// longestPause bounds the time between two tries to get SQLite's write lock.
const longestPause = 50 * time.Millisecond

// patiently calls try until it has the locks it needs or ctx ends.
func (d *dialect) patiently(ctx context.Context, try func() error) error {
	for pause := time.Millisecond; ; pause = min(2*pause, longestPause) {
		err := try()
		if err == nil || !d.busy(err) {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(context.Cause(ctx), err)
		case <-timer.C:
		}
	}
}
