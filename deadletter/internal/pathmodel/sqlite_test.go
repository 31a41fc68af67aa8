package pathmodel

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // the driver

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/handlers/inbox/sqlinbox"
	"github.com/tidings-bus/tidings/schema"
)

// sqlite is the base of handlers with a database: their effects, inbox rows and
// dead letters are in one file. Who waits for it waits in the pool of its one
// connection, where the clock of a schedule sees it.
type sqlite struct {
	world *world
	db    *sql.DB
}

// template is a migrated database, of which each schedule has a copy.
func template(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "template.db")
	db, err := sql.Open("sqlite", "file:"+path)
	require.NoError(t, err)
	require.NoError(t, schema.MigrateSQLite(t.Context(), db))
	_, err = db.ExecContext(t.Context(), `CREATE TABLE effect (handler TEXT, event_id TEXT)`)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return content
}

func newSQLite(w *world, content []byte) *sqlite {
	path := filepath.Join(w.t.TempDir(), "billing.db")
	require.NoError(w.t, os.WriteFile(path, content, 0o600))
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)")
	require.NoError(w.t, err)
	db.SetMaxOpenConns(1)
	w.atEnd = append(w.atEnd, func() { require.NoError(w.t, db.Close()) })
	w.pace = 10
	return &sqlite{world: w, db: db}
}

func (b *sqlite) exactly() bool { return true }

func (b *sqlite) inbox() *sqlinbox.Inbox {
	box, err := sqlinbox.New(sqlinbox.Config{DB: b.db, Dialect: sqlinbox.SQLite, AcceptPowerLoss: true, Logger: quiet})
	require.NoError(b.world.t, err)
	return box
}

func (b *sqlite) letters() deadletter.Store { return b.inbox().Letters() }

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func (b *sqlite) applied() map[fact]int {
	n, err := b.read(b.world.t.Context(), b.db)
	require.NoError(b.world.t, err)
	return n
}

func (b *sqlite) read(ctx context.Context, db querier) (map[fact]int, error) {
	rows, err := db.QueryContext(ctx, `SELECT handler, event_id, count(*) FROM effect GROUP BY 1, 2`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	n := map[fact]int{}
	ids := map[string]*item{}
	for id, it := range b.world.byID {
		ids[id.String()] = it
	}
	for rows.Next() {
		var handler, id string
		var times int
		if err := rows.Scan(&handler, &id, &times); err != nil {
			return nil, err
		}
		n[fact{handler, ids[id]}] = times
	}
	return n, rows.Err()
}

func (b *sqlite) handler(m *member, name string, s handlers.Settings) handlers.Handler {
	return handlers.InTx(name, &mortal{Inbox: b.inbox(), member: m}, func(ctx context.Context, tx *sql.Tx, e event.Of[stepped]) error {
		return m.try(ctx, name, e.Event, func(it *item) error {
			applied, err := b.read(ctx, tx)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO effect (handler, event_id) VALUES (?, ?)`, name, e.ID().String()); err != nil {
				return err
			}
			w := b.world
			w.mu.Lock()
			defer w.mu.Unlock()
			if m.isDead() {
				return errDead
			}
			w.notef("%s: %s applies %v", m.name, name, it)
			w.judge(fact{name, it}, func(o fact) bool { return applied[o] > 0 })
			return nil
		})
	}).With(s)
}

// mortal is the inbox as one member has it: the database is away now and then, a
// reply to a commit is lost, and nothing comes of what the dead begin.
type mortal struct {
	*sqlinbox.Inbox

	member *member
}

// fault is what befalls a request before it arrives.
func (b *mortal) fault() error {
	w := b.member.world
	time.Sleep(w.lag())
	if b.member.isDead() {
		return fmt.Errorf("%w: %w", inbox.ErrNotAdmitted, errDead)
	}
	if w.falters() {
		return errors.Join(inbox.ErrNotAdmitted, errors.New("no database"))
	}
	return nil
}

// doubt is what befalls its answer.
func (b *mortal) doubt() error {
	time.Sleep(b.member.world.lag())
	if b.member.isDead() || b.member.world.falters() {
		return fmt.Errorf("%w: no answer", inbox.ErrCommitUnknown)
	}
	return nil
}

// Apply implements inbox.Inbox.
func (b *mortal) Apply(ctx context.Context, a inbox.Admission, effect func(context.Context, *sql.Tx) error) (inbox.Answer, error) {
	if err := b.fault(); err != nil {
		return 0, err
	}
	answer, err := b.Inbox.Apply(ctx, a, effect)
	if err == nil {
		err = b.doubt()
	}
	return answer, err
}

// Park implements inbox.Parker.
func (b *mortal) Park(ctx context.Context, a inbox.Admission, f inbox.Failure) (inbox.Answer, error) {
	if err := b.fault(); err != nil {
		return 0, err
	}
	answer, err := b.Inbox.Park(ctx, a, f)
	if err == nil {
		err = b.doubt()
	}
	return answer, err
}

// Letters returns the dead letters for the member's own retries.
func (b *mortal) Letters() deadletter.Store {
	return &mortalStore{Store: b.Inbox.Letters(), box: b}
}

type mortalStore struct {
	deadletter.Store

	box *mortal
}

// Claim implements deadletter.Worker.
func (s *mortalStore) Claim(ctx context.Context, group string, handlers []string, member string, lease time.Duration, limit int) ([]deadletter.Key, error) {
	if err := s.box.fault(); err != nil {
		return nil, err
	}
	return s.Store.Claim(ctx, group, handlers, member, lease, limit)
}

// Renew implements deadletter.Worker.
func (s *mortalStore) Renew(ctx context.Context, member string, keys []int64, lease time.Duration) ([]int64, error) {
	if err := s.box.fault(); err != nil {
		return nil, err
	}
	return s.Store.Renew(ctx, member, keys, lease)
}

// Release implements deadletter.Worker.
func (s *mortalStore) Release(ctx context.Context, member string, key deadletter.Key, done bool, p deadletter.Progress) error {
	if err := s.box.fault(); err != nil {
		return err
	}
	return s.Store.Release(ctx, member, key, done, p)
}

// Letters implements deadletter.Store.
func (s *mortalStore) Letters(ctx context.Context, key, after int64, limit int) ([]deadletter.Letter, error) {
	if err := s.box.fault(); err != nil {
		return nil, err
	}
	return s.Store.Letters(ctx, key, after, limit)
}

func TestI3I4I5I6AnyScheduleOfTransactionalHandlersAppliesEverythingOnceInOrder(t *testing.T) {
	content := template(t)
	told := play(t, databaseSchedules, func(w *world) base { return newSQLite(w, content) })
	requireTold(t, told, "parked", "discarded", "killed", "moved", "lost", "asked", "stopped", "faults")
}
