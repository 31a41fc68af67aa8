package inboxtest

import (
	"context"
	"encoding/binary"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// Member is one member's inbox, as every driver's is.
type Member[Tx any] interface {
	inbox.BatchInbox[Tx]
	inbox.Ledger
	inbox.Parker

	// Letters is the store of the same database.
	Letters() deadletter.Store
}

// Retention is what every member of a suite is made with.
const Retention = time.Hour

// Database is a fresh, migrated database, and what the suite needs to do in it.
// Its table "effect" has the columns id (ascending), key and event.
type Database[Tx any] struct {
	// Member opens the database as a further process would, with connections of
	// its own, and closes it at the end of the test.
	Member func(t *testing.T) Member[Tx]
	// LossyMember is a member whose connections can be cut. Nil: its commits
	// cannot be lost.
	LossyMember func(t *testing.T) (Member[Tx], *Line)
	// Put writes an effect by the handler's transaction.
	Put func(ctx context.Context, tx Tx, key, event string) error
	// Commit ends the handler's transaction, as a handler should not.
	Commit func(ctx context.Context, tx Tx) error
	// Fail runs a statement that fails. Aborts: later ones then do too.
	Fail   func(ctx context.Context, tx Tx) error
	Aborts bool
	// Effects returns the events of all effects, in order of id.
	Effects func(t *testing.T) []string
	// Rows returns the number of attempts in the inbox rows of an event.
	Rows func(t *testing.T, event uuid.UUID) []int
	// Park sets the number of parked events of every key row.
	Park func(t *testing.T, parked int)
	// Letters returns what is parked: PostgresLetters or SQLiteLetters.
	Letters func(t *testing.T) []ParkedKey
	// Nth returns the parked event of a key that has n before it; 0: none.
	Nth func(ctx context.Context, key string, n int) (letter int64, event uuid.UUID, err error)
	// Schedules is how many random ones there are.
	Schedules int
	// Forget deletes all inbox rows, as retention would, and makes the key rows
	// older by twice the retention.
	Forget func(t *testing.T)
	// Retention returns the one that the database knows of.
	Retention func(t *testing.T) time.Duration
	// Races is how many events the race has.
	Races int
	// Invalid is an aggregate ID that the database refuses; empty: it takes all.
	Invalid string
	// Age makes what is parked older.
	Age func(t *testing.T, by time.Duration)
	// OneWriter: keys wait for each other, as in SQLite.
	OneWriter bool
}

// Run runs the suite; open makes a database for each part of it.
func Run[Tx any](t *testing.T, open func(t *testing.T) Database[Tx]) {
	t.Helper()
	for _, part := range []struct {
		name string
		test func(t *testing.T, db Database[Tx])
	}{
		{"answers", testAnswers[Tx]},
		{"answers by several streams of one key", testStreams[Tx]},
		{"answers separately per group, handler and epoch", testIsolation[Tx]},
		{"a key without bytes orders nothing", testKeyless[Tx]},
		{"parked keys", testParked[Tx]},
		{"IDs past retention", testPastRetention[Tx]},
		{"I4 I5 an unknown place judges nothing", testUnknownPlace[Tx]},
		{"I5 a topic made anew", testTopicMadeAnew[Tx]},
		{"IDs that tell no time", testNoTime[Tx]},
		{"keys and names of any length", testLongKeys[Tx]},
		{"an event that the database refuses", testRefused[Tx]},
		{"a failed effect leaves nothing", testFailure[Tx]},
		{"a panic of the effect leaves nothing", testPanic[Tx]},
		{"an effect that ends the transaction", testEndedByEffect[Tx]},
		{"an error that the effect dropped", testDroppedError[Tx]},
		{"a context that ends", testContext[Tx]},
		{"a member waits for the key", testWaiting[Tx]},
		{"a commit in doubt", testCommitInDoubt[Tx]},
		{"the ledger", testLedger[Tx]},
		{"I6 parking keeps the order of a key", testPark[Tx]},
		{"I7 what is parked is whole", testParkedRecord[Tx]},
		{"I6 parking what another member applied", testParkRace[Tx]},
		{"I6 parked events without a key", testParkedKeyless[Tx]},
		{"I7 parked messages that cannot be decoded", testUndecodable[Tx]},
		{"I6 parked keys of any length", testLongParkedKeys[Tx]},
		{"I6 dead letters are separate per group, handler and epoch", testIndependentLetters[Tx]},
		{"I6 parked events are retried in order", testRetry[Tx]},
		{"I6 a late event is retried", testRetryLate[Tx]},
		{"I4 parked keys past retention", testParkedOffset[Tx]},
		{"I6 a retry that fails", testFailedRetry[Tx]},
		{"I6 a due key goes on by itself", testDueBehind[Tx]},
		{"I4 a parked event that was applied elsewhere", testLetterAppliedElsewhere[Tx]},
		{"I4 a parked event that is applied elsewhere just now", testLetterAppliedNow[Tx]},
		{"I4 a retry whose effect ends the transaction", testRetryEndedByEffect[Tx]},
		{"I4 the ledger's retries", testLedgerRetry[Tx]},
		{"I4 I6 parking and retries in doubt", testParkingInDoubt[Tx]},
		{"I6 the store of what is parked", testStore[Tx]},
		{"I6 bounds", testBounds[Tx]},
		{"I6 an old event fills the dead letters", testBoundOfAge[Tx]},
		{"I3 I4 I6 random schedules of parking and retries", testSchedules[Tx]},
		{"I3 I4 members race for every event", testRace[Tx]},
		{"a batch's answers", testBatchAnswers[Tx]},
		{"a batch is answered as its events one by one", testBatchLikeOneByOne[Tx]},
		{"I6 a batch behind parked events", testBatchBehindParked[Tx]},
		{"I4 a failed batch leaves nothing", testBatchFailures[Tx]},
		{"a batch's commit in doubt", testBatchInDoubt[Tx]},
		{"I3 I4 members race for batches", testBatchRace[Tx]},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(t, open(t)) })
	}
}

// owner is the handler of most tests.
var owner = inbox.Handler{Group: billing, Name: charge}

const billing, charge, order = "billing", "charge", "order"

var offsets atomic.Int64

// admission returns one of a new event of a key, at the next offset.
func admission(key string, sequence int64) inbox.Admission {
	return inbox.Admission{
		Handler: owner,
		Place:   inbox.Place{Topic: order, Partition: 3, Offset: offsets.Add(1), Key: []byte(key)},
		Attempt: 1,
		EventID: newID(),
		Source:  "/orders", AggregateType: order, AggregateID: key, Sequence: sequence,
	}
}

func parseID(t *testing.T, s string) uuid.UUID {
	t.Helper()
	id, err := uuid.Parse(s)
	require.NoError(t, err)
	return id
}

func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

// IDOf returns a new UUIDv7 of a time.
func IDOf(at time.Time) uuid.UUID {
	id := newID()
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(at.UnixMilli())<<16)
	copy(id[:6], ms[:6])
	return id
}

// apply applies a with an effect row.
func (db *Database[Tx]) apply(ctx context.Context, m Member[Tx], a inbox.Admission) (inbox.Answer, error) {
	return m.Apply(ctx, a, func(ctx context.Context, tx Tx) error {
		return db.Put(ctx, tx, string(a.Place.Key), a.EventID.String())
	})
}

// expect applies a and demands an answer; only Fresh may leave an effect.
func (db *Database[Tx]) expect(t *testing.T, m Member[Tx], a inbox.Admission, want inbox.Answer) {
	t.Helper()
	before := len(db.Effects(t))
	got, err := db.apply(t.Context(), m, a)
	require.NoError(t, err)
	require.Equal(t, want.String(), got.String())
	after := len(db.Effects(t))
	if want == inbox.Fresh {
		before++
	}
	require.Equal(t, before, after, "effects after the answer %q", got)
}

// keep runs the member's upkeep until the database knows the retention.
func (db *Database[Tx]) keep(t *testing.T, m Member[Tx]) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Keep(ctx) }()
	require.Eventually(t, func() bool { return db.Retention(t) == Retention }, 20*time.Second, 5*time.Millisecond)
	cancel()
	require.NoError(t, <-done)
}
