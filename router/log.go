package router

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill"
)

// watermillLog brings the log of watermill's router to slog. Trace, which it
// calls for every message, does nothing.
type watermillLog struct {
	log *slog.Logger
}

var _ watermill.LoggerAdapter = watermillLog{}

func (l watermillLog) Error(msg string, err error, fields watermill.LogFields) {
	if errors.Is(err, errUnfinished) {
		return // said by the router, with the event's coordinates
	}
	l.at(slog.LevelError, msg, fields, slog.Any("cause", err))
}

// Info is of interest to who debugs: the router says what it does itself.
func (l watermillLog) Info(msg string, fields watermill.LogFields) {
	l.at(slog.LevelDebug, msg, fields)
}

func (l watermillLog) Debug(msg string, fields watermill.LogFields) {
	l.at(slog.LevelDebug, msg, fields)
}

func (watermillLog) Trace(string, watermill.LogFields) {}

func (l watermillLog) With(fields watermill.LogFields) watermill.LoggerAdapter {
	attrs := make([]any, 0, len(fields))
	for k, v := range fields {
		attrs = append(attrs, slog.Any(k, v))
	}
	return watermillLog{log: l.log.With(attrs...)}
}

func (l watermillLog) at(level slog.Level, msg string, fields watermill.LogFields, attrs ...slog.Attr) {
	ctx := context.Background()
	if !l.log.Enabled(ctx, level) {
		return
	}
	for k, v := range fields {
		attrs = append(attrs, slog.Any(k, v))
	}
	l.log.LogAttrs(ctx, level, "watermill: "+msg, attrs...)
}

// throttle lets ten lines a second pass and counts the rest.
type throttle struct {
	next     atomic.Int64 // nanoseconds since 1970
	unlogged atomic.Int64
}

// pass reports whether a line may be logged, and how many were not before it.
func (t *throttle) pass(now time.Time) (unlogged int64, ok bool) {
	next := t.next.Load()
	if now.UnixNano() < next || !t.next.CompareAndSwap(next, now.Add(100*time.Millisecond).UnixNano()) {
		t.unlogged.Add(1)
		return 0, false
	}
	return t.unlogged.Swap(0), true
}
