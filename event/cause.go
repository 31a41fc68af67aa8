package event

import "context"

type originKey struct{}

// origin is what new events of a context follow from.
type origin struct {
	cause       Event // zero: none
	correlation string
	traceParent string
	traceState  string
}

func originOf(ctx context.Context) origin {
	if o, ok := ctx.Value(originKey{}).(*origin); ok {
		return *o
	}
	return origin{}
}

func (o origin) in(ctx context.Context) context.Context {
	return context.WithValue(ctx, originKey{}, &o)
}

// WithCause returns a context in which new events follow from e: its ID becomes
// their causation, its correlation theirs (its ID where it has none), and its
// trace context, where valid, replaces what ctx had.
func WithCause(ctx context.Context, e Event) context.Context {
	o := originOf(ctx)
	o.cause = e
	o.correlation = e.correlation
	if o.correlation == "" {
		o.correlation = e.CloudEventID()
	}
	if validTraceParent(e.traceParent) {
		o.traceParent, o.traceState = e.traceParent, knownTraceState(e.traceState)
	}
	return o.in(ctx)
}

// CauseFrom returns the event that new events in ctx follow from, if any.
func CauseFrom(ctx context.Context) (Event, bool) {
	o, ok := ctx.Value(originKey{}).(*origin)
	if !ok || o.cause.IsZero() {
		return Event{}, false
	}
	return o.cause, true
}

// WithCorrelation returns a context whose new events carry correlation: for
// work that no event began, such as an HTTP request. Empty changes nothing.
func WithCorrelation(ctx context.Context, correlation string) context.Context {
	if correlation == "" {
		return ctx
	}
	o := originOf(ctx)
	o.correlation = correlation
	return o.in(ctx)
}

// CorrelationFrom returns the correlation that new events in ctx carry, or "".
func CorrelationFrom(ctx context.Context) string { return originOf(ctx).correlation }

// WithTrace returns a context whose new events carry the W3C trace context
// given: that of the current span, or of a request's headers. As W3C Trace
// Context, section 4.2, demands, an invalid traceparent changes nothing, and an
// invalid tracestate is left out.
func WithTrace(ctx context.Context, traceParent, traceState string) context.Context {
	if !validTraceParent(traceParent) {
		return ctx
	}
	o := originOf(ctx)
	o.traceParent, o.traceState = traceParent, knownTraceState(traceState)
	return o.in(ctx)
}

// TraceFrom returns the trace context that new events in ctx carry, or "", "".
func TraceFrom(ctx context.Context) (traceParent, traceState string) {
	o := originOf(ctx)
	return o.traceParent, o.traceState
}

func knownTraceState(s string) string {
	if !validTraceState(s) {
		return ""
	}
	return s
}
