package demo

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/dispatch"
	"github.com/tidings-bus/tidings/event"
)

// cutOff is a store whose commits succeed while the shop is told to stop. Its
// answer is lost to a caller whose context has ended, as PostgreSQL's is.
type cutOff struct {
	store

	stop context.CancelFunc
}

func (c cutOff) inTx(ctx context.Context, fn func(context.Context, querier) error) error {
	if err := c.store.inTx(context.WithoutCancel(ctx), fn); err != nil {
		return err
	}
	c.stop()
	return ctx.Err()
}

// published is a sink.
type published []event.Event

func (p *published) Publish(_ context.Context, events ...event.Event) error {
	*p = append(*p, events...)
	return nil
}

func TestWhatIsCommittedDuringAStopIsPublished(t *testing.T) {
	db, err := openStore(t.Context(), StoreConfig{SQLite: filepath.Join(t.TempDir(), "order.db"), Migrate: true})
	require.NoError(t, err)
	defer db.close()
	cat, err := catalog()
	require.NoError(t, err)
	var sent published
	dispatcher, err := dispatch.New(dispatch.Config{Catalog: cat, Sink: &sent})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	d := &desk{db: cutOff{db, stop}, catalog: cat, dispatcher: dispatcher}
	require.NoError(t, d.do(ctx, plan{id: "o-1", customer: "Ada"}, step{do: typePlaced, amount: 100}))
	require.ErrorIs(t, ctx.Err(), context.Canceled)
	journal, err := readJournal(t.Context(), db)
	require.NoError(t, err)
	require.Len(t, journal, 1)
	require.Len(t, sent, 1)
	require.Equal(t, journal[0].ID, sent[0].ID().String())
}
