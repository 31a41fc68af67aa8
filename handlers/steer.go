package handlers

import (
	"fmt"
	"time"
)

// MaxRetryAfter is the longest delay that RetryAfter grants.
const MaxRetryAfter = 30 * 24 * time.Hour

// RetryAfterError is what RetryAfter returns.
type RetryAfterError struct {
	After time.Duration // MaxRetryAfter at most
	Asked time.Duration // what RetryAfter was given
	Cause error         // may be nil
}

// RetryAfter returns an error with which a handler asks to be tried again after
// d. It is not counted as a failed try. Up to MaxHold the key is held in its
// lane; for longer, up to MaxRetryAfter, the event is parked with the time when
// it is tried again, and what follows under its key goes behind it. Where a
// handler has no dead letters, its lane holds the key all the while. With a d of
// 0 or less the handler's backoff says when.
//
//	return handlers.RetryAfter(10 * time.Second).Because(err)
func RetryAfter(d time.Duration) *RetryAfterError {
	return &RetryAfterError{After: min(max(d, 0), MaxRetryAfter), Asked: d}
}

// Because returns the error with its cause, which it wraps.
func (e *RetryAfterError) Because(cause error) *RetryAfterError {
	return &RetryAfterError{After: e.After, Asked: e.Asked, Cause: cause}
}

func (e *RetryAfterError) Error() string {
	text := fmt.Sprintf("retry after %v", e.After)
	if e.Asked > e.After {
		text += fmt.Sprintf(" (asked for %v; the most is %v: reject the event, or give its handler a Deadline, where it may never be taken)", e.Asked, e.After)
	}
	if e.Cause == nil {
		return text
	}
	return fmt.Sprintf("%s: %v", text, e.Cause)
}

// Unwrap returns the cause.
func (e *RetryAfterError) Unwrap() error { return e.Cause }

// RejectError is what Reject returns.
type RejectError struct {
	Cause error // may be nil
}

// Reject returns an error with which a handler gives an event up at once: it is
// parked without another try. The error wraps err.
func Reject(err error) *RejectError { return &RejectError{Cause: err} }

func (e *RejectError) Error() string {
	if e.Cause == nil {
		return "rejected without a reason"
	}
	return fmt.Sprintf("rejected: %v", e.Cause)
}

// Unwrap returns the reason.
func (e *RejectError) Unwrap() error { return e.Cause }
