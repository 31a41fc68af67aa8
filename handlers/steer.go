package handlers

import (
	"fmt"
	"time"
)

// RetryAfterError is what RetryAfter returns.
type RetryAfterError struct {
	After time.Duration
	Cause error // may be nil
}

// RetryAfter returns an error with which a handler asks to be tried again after
// d, holding its key that long. It is not counted as a failed try.
//
//	return handlers.RetryAfter(10 * time.Second).Because(err)
func RetryAfter(d time.Duration) *RetryAfterError {
	return &RetryAfterError{After: max(d, 0)}
}

// Because returns the error with its cause, which it wraps.
func (e *RetryAfterError) Because(cause error) *RetryAfterError {
	return &RetryAfterError{After: e.After, Cause: cause}
}

func (e *RetryAfterError) Error() string {
	if e.Cause == nil {
		return fmt.Sprintf("retry after %v", e.After)
	}
	return fmt.Sprintf("retry after %v: %v", e.After, e.Cause)
}

// Unwrap returns the cause.
func (e *RetryAfterError) Unwrap() error { return e.Cause }

// RejectError is what Reject returns.
type RejectError struct {
	Cause error // may be nil
}

// Reject returns an error with which a handler gives an event up at once: it is
// not tried again as it is. The error wraps err.
func Reject(err error) *RejectError { return &RejectError{Cause: err} }

func (e *RejectError) Error() string {
	if e.Cause == nil {
		return "rejected without a reason"
	}
	return fmt.Sprintf("rejected: %v", e.Cause)
}

// Unwrap returns the reason.
func (e *RejectError) Unwrap() error { return e.Cause }
