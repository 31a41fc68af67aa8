package sqlstore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/handlers/inbox/inboxtest"
	"github.com/tidings-bus/tidings/handlers/inbox/sqlinbox"
)

var (
	charge = inbox.Handler{Group: "billing", Name: "charge"}
	remind = inbox.Handler{Group: "billing", Name: "remind"}
	ann    = deadletter.Act{Who: "ann", Reason: "fixed"}
)

// read is an event as it is read.
func read(h inbox.Handler, id uuid.UUID, key string, offset, sequence int64) inbox.Admission {
	a := inbox.Admission{
		Handler: h, Place: inbox.Place{Topic: "orders", Partition: 1, Offset: offset}, Attempt: 3,
		EventID: id, Type: "order.placed", Source: "/shop", AggregateType: "order", AggregateID: key, Sequence: sequence,
		Message: &inbox.Message{Record: event.KafkaRecord{Value: []byte("{}")}, Time: time.UnixMilli(1_750_000_000_123)},
	}
	if key != "" {
		a.Place.Key = []byte(key)
		a.Message.Record.Key = a.Place.Key
	}
	return a
}

// A discarded event leaves the same rows as an applied one: here each event is
// applied by one handler, and parked and discarded by another.
func TestADiscardedEventIsRememberedAsAnAppliedOneIs(t *testing.T) {
	each(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		store, box := d.store(), d.box(t)
		rows := `SELECT lower(hex(event_id)), 'one table', topic, partition, "offset", attempts FROM tidings_inbox WHERE handler_id = $1 ORDER BY 1`
		keys := `SELECT hex(key), offsets, coalesce(source, ''), coalesce(aggregate_type, ''), coalesce(aggregate_id, ''), coalesce(sequence, 0)
			FROM tidings_key_row WHERE handler_id = $1 ORDER BY 1`
		streams := `SELECT hex(key), '', source, aggregate_type, aggregate_id, sequence FROM tidings_key_stream WHERE handler_id = $1 ORDER BY 1, 3, 4, 5`
		if d.dialect == sqlinbox.PostgreSQL {
			_, err := d.ExecContext(ctx, `SELECT tidings.inbox_extend(3600000, 900000, 1800000)`)
			require.NoError(t, err)
			rows = `SELECT event_id::text, 'partition', topic, partition, "offset", attempts FROM tidings.inbox WHERE handler_id = $1
				UNION ALL SELECT event_id::text, 'other', topic, partition, "offset", attempts FROM tidings.inbox_other WHERE handler_id = $1 ORDER BY 1`
			keys = `SELECT encode(key, 'hex'), offsets::text, coalesce(source, ''), coalesce(aggregate_type, ''), coalesce(aggregate_id, ''), coalesce(sequence, 0)
				FROM tidings.key_row WHERE handler_id = $1 ORDER BY 1`
			streams = `SELECT encode(key, 'hex'), '', source, aggregate_type, aggregate_id, sequence FROM tidings.key_stream WHERE handler_id = $1 ORDER BY 1, 3, 4, 5`
		}
		now := time.Now()
		long := strings.Repeat("k", 2000)
		for i, a := range []inbox.Admission{
			read(charge, inboxtest.IDOf(now), "o-1", 5, 3),
			read(charge, inboxtest.IDOf(now), "o-1", 6, 4),
			read(charge, inboxtest.IDOf(now.Add(-50*time.Minute)), "o-1", 7, 5), // older than half the retention
			read(charge, inboxtest.IDOf(now.Add(48*time.Hour)), "o-2", 8, 0),    // from the future, without a sequence
			read(charge, inbox.MessageID("orders", 1, 9), "o-2", 9, 0),          // tells no time
			read(charge, inboxtest.IDOf(now), "", 10, 1),
			read(charge, inbox.MessageID("orders", 1, 11), "", 11, 0),
			read(charge, inboxtest.IDOf(now), long, 12, 1),
			read(charge, inboxtest.IDOf(now), "o-3", -1, 1), // of no known place
		} {
			further := a // a second stream of the same key
			further.EventID, further.AggregateType, further.Place.Offset = uuid.New(), strings.Repeat("t", 500), a.Place.Offset+100
			for _, a := range []inbox.Admission{a, further} {
				require.NoError(t, box.Record(ctx, a))
				a.Handler = remind
				answer, err := box.Park(ctx, a, inbox.Failure{Cause: inbox.CauseError, Attempts: 3})
				require.NoError(t, err)
				require.Equal(t, inbox.Parked, answer)
				list, err := store.Keys(ctx, deadletter.Filter{}, 0, 10)
				require.NoError(t, err)
				require.Len(t, list, 1)
				require.NoError(t, store.Discard(ctx, list[0].Head, ann), "case %d", i)
			}
		}
		for name, query := range map[string]string{"inbox": rows, "key rows": keys, "streams": streams} {
			applied, discarded := table(t, d, query, 1), table(t, d, query, 2)
			require.NotEmpty(t, applied, name)
			require.Equal(t, applied, discarded, name)
		}
		if d.dialect == sqlinbox.PostgreSQL {
			all := fmt.Sprint(table(t, d, rows, 2))
			require.Contains(t, all, "partition")
			require.Contains(t, all, "other")
		}
	})
}

func table(t *testing.T, d *database, query string, handler int) (list []string) {
	t.Helper()
	rows, err := d.QueryContext(t.Context(), query, handler)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var a, b, c, e, f, g string
		require.NoError(t, rows.Scan(&a, &b, &c, &e, &f, &g))
		list = append(list, fmt.Sprint(a, " ", b, " ", c, " ", e, " ", f, " ", g))
	}
	require.NoError(t, rows.Err())
	return list
}

func TestWhatIsNotThereIsNamedWithWhatIsNear(t *testing.T) {
	each(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		store, box := d.store(), d.box(t)
		for _, h := range []inbox.Handler{charge, remind, {Group: "shipping", Name: "pack"}, {Group: "billing", Name: "charge-back"}} {
			_, err := box.Park(ctx, read(h, uuid.New(), "o-1", 1, 1), inbox.Failure{Cause: inbox.CauseError})
			require.NoError(t, err)
		}
		retry := func(group string, handlers ...string) error {
			_, err := store.Ask(ctx, deadletter.Request{Group: group, Kind: deadletter.RequestRetry, Filter: deadletter.Filter{Handlers: handlers}}, ann)
			return err
		}
		for name, c := range map[string]struct {
			err  error
			says string
		}{
			"handler":  {retry("billing", "charg"), `handler "charg" of group "billing" not found; did you mean "charge", "charge-back"?`},
			"case":     {retry("billing", "Remind"), `did you mean "remind"?`},
			"far off":  {retry("billing", "zzzzzzzz"), `handler "zzzzzzzz" of group "billing" not found; there are "charge", "charge-back", "remind"`},
			"group":    {retry("biling"), `group "biling" not found in this database; did you mean "billing"?`},
			"no epoch": {second(store.Reassign(ctx, inbox.Handler{Group: "billing", Name: "charge", Epoch: 4}, remind, ann)), `handler "charge" of group "billing" has no epoch 4`},
			"target":   {second(store.Reassign(ctx, charge, inbox.Handler{Group: "billing", Name: "remnd"}, ann)), `did you mean "remind"?`},
			"import": {second(store.Import(ctx, []deadletter.Letter{{
				Handler: inbox.Handler{Group: "billing", Name: "charges"}, EventID: uuid.New(),
				Place: inbox.Place{Topic: "orders"}, Failure: inbox.Failure{Cause: inbox.CauseError},
			}}, ann)), `import letter 1 of 1: handler "charges" of group "billing" not found; did you mean "charge"`},
		} {
			t.Run(name, func(t *testing.T) {
				require.ErrorIs(t, c.err, deadletter.ErrNotFound)
				require.ErrorContains(t, c.err, c.says)
			})
		}
	})
}

func second[T any](_ T, err error) error { return err }
