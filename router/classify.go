package router

import (
	"context"
	"errors"

	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// cause is the class of a try's failure: a metric's label and a log's word.
type cause int

const (
	causeError cause = iota
	causeTimeout
	causePanic
	causeRetryAfter
	causeCommitUnknown
	causeNotAdmitted
	causeFull
	causeCanceled
	causeRejected
	causeLate
	causeBehind
	causeUndecodable
	causeUnknownType
	causeDeadline
	causes // their number
)

var causeNames = [causes]string{
	"error", "timeout", "panic", "retry_after", "commit_unknown", "not_admitted", "dead_letters_full", "canceled",
	"rejected", "late", "parked", "undecodable", "unknown_type", "deadline",
}

func (c cause) String() string { return causeNames[c] }

// hopeless tells causes that the same event will meet again at every soon retry.
func (c cause) hopeless() bool { return c >= causeRejected }

// counts tells failures of the handler's function, or of the event, from what
// befell them: the database is away or full.
func (c cause) counts() bool { return c != causeNotAdmitted && c != causeFull }

// parked is the cause's word among the dead letters.
func (c cause) parked() inbox.Cause {
	switch c {
	case causeTimeout:
		return inbox.CauseTimeout
	case causePanic:
		return inbox.CausePanic
	case causeRetryAfter:
		return inbox.CauseLater
	case causeRejected:
		return inbox.CauseRejected
	case causeLate:
		return inbox.CauseLate
	case causeUndecodable:
		return inbox.CauseUndecodable
	case causeUnknownType:
		return inbox.CauseUnknownType
	case causeDeadline:
		return inbox.CauseDeadline
	case causeError, causeCommitUnknown, causeNotAdmitted, causeFull, causeCanceled, causeBehind, causes:
	}
	return inbox.CauseError
}

// classify says what kind of failure it was, and gives an answer its error. All
// tries pass it: those of messages and those of parked events.
func classify(answer inbox.Answer, err error) (cause, error) {
	var (
		p        *PanicError
		rejected *handlers.RejectError
		later    *handlers.RetryAfterError
	)
	switch {
	case err == nil && answer == inbox.Late:
		return causeLate, errLate
	case err == nil:
		return causeError, errNoAnswer
	case errors.As(err, &p):
		return causePanic, err
	case errors.As(err, &rejected):
		return causeRejected, err
	case errors.As(err, &later):
		return causeRetryAfter, err
	case errors.Is(err, inbox.ErrCommitUnknown):
		return causeCommitUnknown, err
	case errors.Is(err, inbox.ErrFull):
		return causeFull, err
	case errors.Is(err, inbox.ErrNotAdmitted):
		return causeNotAdmitted, err
	case errors.Is(err, handlers.ErrNoParking):
		return causeBehind, err
	case errors.Is(err, context.DeadlineExceeded):
		return causeTimeout, err
	default:
		return causeError, err
	}
}

var (
	errLate     = errors.New("its ID is unknown, but its sequence is not above the last one applied for the aggregate: two producers, or a topic that grew, broke the order")
	errNoAnswer = errors.New("the handler returned neither an answer nor an error")
)
