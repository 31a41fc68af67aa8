package kafkastore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

const letters = "tidings.parked." + group

// raw is a client without a store.
func raw(t *testing.T, c *kfake.Cluster, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return client
}

// records reads the topic of the letters from its start: n of them.
func records(t *testing.T, c *kfake.Cluster, n int) []*kgo.Record {
	t.Helper()
	client := raw(t, c, kgo.ConsumeTopics(letters), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	var all []*kgo.Record
	for len(all) < n {
		all = append(all, client.PollFetches(t.Context()).Records()...)
	}
	return all
}

// again appends copies of records.
func again(t *testing.T, c *kfake.Cluster, records ...*kgo.Record) {
	t.Helper()
	client := raw(t, c)
	for _, r := range records {
		require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: letters, Key: r.Key, Value: r.Value, Headers: r.Headers}).FirstErr())
	}
}

// compacted demands that a member that starts on what a compaction left of the
// topic has what the others have.
func compacted(t *testing.T, c *kfake.Cluster, m *member) *member {
	t.Helper()
	c.Compact()
	fresh := newMember(t, c)
	want, got := m.all(), fresh.all()
	require.Equal(t, want, got)
	wantKeys, err := m.Letters().Keys(t.Context(), deadletter.Filter{}, 0, deadletter.MaxPage)
	require.NoError(t, err)
	gotKeys, err := fresh.Letters().Keys(t.Context(), deadletter.Filter{}, 0, deadletter.MaxPage)
	require.NoError(t, err)
	require.Equal(t, wantKeys, gotKeys)
	return fresh
}

func TestAMemberThatStartsOnACompactedTopicHasWhatTheOthersHave(t *testing.T) {
	c := newCluster(t)
	a := newMember(t, c)
	a.line("o-1", "1", "2", "3", "4")
	a.line("o-2", "5", "6")
	a.line("o-3", "7")
	for _, l := range a.all() {
		switch string(l.Record.Value) {
		case "1", "5", "6":
			require.NoError(t, a.Record(t.Context(), retry(&l)))
		case "2": // it fails again, and is the head since the first has left
			_, err := a.Park(t.Context(), retry(&l), inbox.Failure{Cause: inbox.CauseTimeout, Attempts: 9, Error: "late"})
			require.NoError(t, err)
		case "3":
			require.NoError(t, a.Letters().Edit(t.Context(), l.ID, deadletter.Edited{Value: []byte("three")}, ann))
		case "7":
			require.NoError(t, a.Letters().Discard(t.Context(), l.ID, ann))
		}
	}
	require.Equal(t, map[string][]string{"o-1": {"2", "three", "4"}}, a.parked())
	before := len(records(t, c, 7+3+1+1+1))
	b := compacted(t, c, a)
	require.Less(t, len(records(t, c, 1)), before)
	keys, err := b.Letters().Keys(t.Context(), deadletter.Filter{}, 0, 9)
	require.NoError(t, err)
	require.Equal(t, inbox.CauseTimeout, keys[0].Cause)
	b.look(admission("o-1", "8"), inbox.Parked)
	b.look(admission("o-2", "9"), inbox.Fresh)
}

// A member that had lost its partition parks an event that the next owner has
// parked too: the first record counts, also after a compaction, which keeps the
// last one.
func TestAnEventParkedTwiceKeepsItsPlace(t *testing.T) {
	c := newCluster(t)
	a := newMember(t, c)
	a.line("o-1", "1", "2")
	first := records(t, c, 2)[0]
	again(t, c, first)
	require.Equal(t, map[string][]string{"o-1": {"1", "2"}}, a.parked())
	records(t, c, 4) // a member has put it right
	compacted(t, c, a)
}

// A record that was on its way when its letter left does not bring it back.
func TestALateRecordDoesNotBringALetterBack(t *testing.T) {
	c := newCluster(t)
	a := newMember(t, c)
	a.line("o-1", "1", "2")
	l := a.all()[0]
	_, err := a.Park(t.Context(), retry(&l), inbox.Failure{Cause: inbox.CauseTimeout})
	require.NoError(t, err)
	booked := records(t, c, 3)[2]
	require.NoError(t, a.Record(t.Context(), retry(&l)))
	again(t, c, booked)
	require.Equal(t, map[string][]string{"o-1": {"2"}}, a.parked())
	records(t, c, 6)
	compacted(t, c, a)
}

func TestForeignRecordsAreLeftOut(t *testing.T) {
	c := newCluster(t)
	a := newMember(t, c)
	a.line("o-1", "1")
	good := records(t, c, 1)[0]
	bad := *good
	bad.Key = []byte("another")
	again(t, c, &kgo.Record{Key: []byte("x"), Value: []byte("hello")}, &kgo.Record{Value: nil}, &bad,
		&kgo.Record{Key: good.Key, Value: good.Value, Headers: []kgo.RecordHeader{{Key: "tidings-letter", Value: []byte(`{"v":99}`)}}})
	client := raw(t, c)
	require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: letters + ".log", Value: []byte("{")}, &kgo.Record{Topic: letters + ".log", Value: []byte(`{"later":1}`)}).FirstErr())
	require.Equal(t, map[string][]string{"o-1": {"1"}}, a.parked())
	require.Equal(t, map[string][]string{"o-1": {"1"}}, newMember(t, c).parked())
}

// Requests and claims are known to members that start later, and a log whose
// beginning is gone is read from where it begins.
func TestALogWhoseBeginningIsGoneIsReadFromWhereItBegins(t *testing.T) {
	c := newCluster(t)
	a := newMember(t, c)
	a.line("o-1", "1")
	ask := func(s deadletter.Store) (deadletter.Request, error) {
		return s.Ask(t.Context(), deadletter.Request{Group: group, Kind: deadletter.RequestRetry}, ann)
	}
	q, err := ask(a.Letters())
	require.NoError(t, err)
	claimed, err := a.Letters().Claim(t.Context(), group, []string{charge}, "m1", time.Minute, 9)
	require.NoError(t, err)
	require.Len(t, claimed, 1)
	b := newMember(t, c)
	claimed, err = b.Letters().Claim(t.Context(), group, []string{charge}, "m2", time.Minute, 9)
	require.NoError(t, err)
	require.Empty(t, claimed)
	_, err = ask(b.Letters())
	require.ErrorIs(t, err, deadletter.ErrBusy)

	require.NoError(t, c.DeleteRecords(letters+".log", 0, -1))
	d := newMember(t, c)
	_, err = d.Letters().Request(t.Context(), q.ID)
	require.ErrorIs(t, err, deadletter.ErrNotFound)
	require.Equal(t, map[string][]string{"o-1": {"1"}}, d.parked())
	q2, err := ask(d.Letters())
	require.NoError(t, err)
	require.Greater(t, q2.ID, q.ID)
}
