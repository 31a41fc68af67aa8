package postgres

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/internal/parking"
)

// The statements about parked events; each file says what it does.
var (
	//go:embed park.sql
	parkQuery string
	//go:embed turn.sql
	Turn string
	//go:embed fail.sql
	failQuery string
	//go:embed leave.sql
	leaveQuery string
	//go:embed totals.sql
	totalsQuery string
)

// Two answers that only the drivers see.
const (
	NoRoom inbox.Answer = 6 // it would be parked, but a bound is reached
	Added  inbox.Answer = 7 // parked by this call, not before
)

// Query runs a statement that returns one row, in a transaction of any driver.
type Query func(ctx context.Context, query string, args ...any) interface{ Scan(dest ...any) error }

// Letter is an event as the dead letters keep it.
type Letter struct {
	Key     []byte // as the key row has it; nil: orders nothing
	Whole   []byte // the raw key
	Record  event.KafkaRecord
	Time    time.Time
	Headers string // as JSON
	Bytes   int64

	Type, Source, AggregateType, AggregateID string
}

// NewLetter returns a's. What only serves people who look is cleaned of what a
// text column refuses: the record has it as it was.
func NewLetter(a *inbox.Admission) (Letter, error) {
	if a.Message == nil {
		return Letter{}, noMessage(a)
	}
	m := a.Message
	l := Letter{
		Key: parking.Key(a.Place.Key), Record: m.Record, Time: m.Time,
		Headers: parking.Headers(m.Record.Headers), Bytes: parking.Size(m.Record),
		Type: parking.Text(a.Type), Source: parking.Text(a.Source), AggregateType: parking.Text(a.AggregateType), AggregateID: parking.Text(a.AggregateID),
	}
	if l.Key != nil {
		l.Whole = a.Place.Key
	}
	return l, nil
}

// CheckPark returns an error when a Park has nothing to write, or no reason.
func CheckPark(a *inbox.Admission, f *inbox.Failure) error {
	switch {
	case f.Cause == "":
		return fmt.Errorf("park event %s of handler %q of group %q: Failure.Cause is empty; say why, as by inbox.CauseError", a.EventID, a.Handler.Name, a.Handler.Group)
	case a.Message == nil && a.Letter == 0:
		return noMessage(a)
	}
	return nil
}

func noMessage(a *inbox.Admission) error {
	return fmt.Errorf("park event %s of handler %q of group %q: Admission.Message is nil; give the message as it was read", a.EventID, a.Handler.Name, a.Handler.Group)
}

// Failure returns f in what the columns take.
func Failure(f *inbox.Failure) inbox.Failure {
	c := *f
	c.Error, c.Stack = parking.Text(f.Error), parking.Text(f.Stack)
	return c
}

// Park parks a in the caller's transaction, which holds the lock.
func Park(ctx context.Context, ask Query, handler int32, a *inbox.Admission, f *inbox.Failure, room bool) (answer inbox.Answer, err error) {
	l, err := NewLetter(a)
	if err != nil {
		return 0, err
	}
	c := Failure(f)
	err = ask(ctx, parkQuery,
		handler, a.Place.Topic, l.Key, a.EventID.String(), room,
		l.Whole, l.Type, l.Source, l.AggregateType, l.AggregateID, a.Sequence,
		a.Place.Partition, a.Place.Offset, l.Time,
		l.Record.Key, l.Record.Value, l.Headers, l.Bytes,
		string(c.Cause), c.Error, c.Stack, int32(c.Attempts), //nolint:gosec // counts tries
		moment(c.First), moment(c.Last), moment(c.Due)).Scan(&answer)
	return answer, err
}

// Fail books a failed retry in the caller's transaction, which holds the lock.
func Fail(ctx context.Context, ask Query, handler int32, a *inbox.Admission, f *inbox.Failure) (answer inbox.Answer, err error) {
	b, c := Bounded(a), Failure(f)
	err = ask(ctx, failQuery,
		a.Letter, handler, a.Place.Topic, b.Place.Key, a.EventID.String(),
		string(c.Cause), c.Error, c.Stack, int32(c.Attempts), //nolint:gosec // counts tries
		moment(c.First), moment(c.Last), moment(c.Due)).Scan(&answer)
	return answer, err
}

// TurnArgs returns the arguments of Turn; a is Bounded.
func TurnArgs(handler int32, a *inbox.Admission, take bool) []any {
	return []any{a.Letter, handler, a.Place.Topic, a.Place.Key, a.EventID.String(), take}
}

// Leave takes a letter out in the caller's transaction, which holds the lock and
// has the effect.
func Leave(ctx context.Context, ask Query, letter int64) error {
	var there bool
	err := ask(ctx, leaveQuery, letter).Scan(&there)
	switch {
	case state(err) == inFailedTransaction:
		return fmt.Errorf("rolled back: a statement of the handler failed and its error was not returned: %w", err)
	case err != nil:
		return fmt.Errorf("take it out of the dead letters: rolled back: %w", err)
	}
	return nil
}

// inFailedTransaction is the SQLSTATE of statements after one that failed.
const inFailedTransaction = "25P02"

// Totals looks up what a handler has parked.
func Totals(ctx context.Context, ask Query, handler int32) (t Total, err error) {
	var ms int64
	err = ask(ctx, totalsQuery, handler).Scan(&t.Events, &t.Bytes, &ms)
	t.Age = time.Duration(ms) * time.Millisecond
	return t, err
}

// moment returns t, or null for the zero time.
func moment(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t
}

// NotParked returns the error of a parking that failed by err.
func NotParked(a *inbox.Admission, err error, hopeless bool) error {
	if hopeless {
		return fmt.Errorf("park event %s of handler %q of group %q: the database refuses it: %w", a.EventID, a.Handler.Name, a.Handler.Group, err)
	}
	return fmt.Errorf("park event %s of handler %q of group %q: %w: %w", a.EventID, a.Handler.Name, a.Handler.Group, inbox.ErrNotAdmitted, err)
}
