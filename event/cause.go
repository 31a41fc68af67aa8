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

// longestID bounds what another producer's event can make ours carry, in bytes.
const longestID = 1024

// causation is the ID that events which follow from o's cause carry.
func (o origin) causation() string {
	if o.cause.IsZero() {
		return ""
	}
	if id := o.cause.CloudEventID(); len(id) <= longestID {
		return id
	}
	return o.cause.id.String()
}

// WithCause returns a context in which new events follow from e: its ID becomes
// their causation, its correlation theirs (its ID where it has none), and its
// trace context, where valid, replaces what ctx had. Of IDs over 1,024 bytes,
// which only other producers send, the causation is e.ID() instead.
func WithCause(ctx context.Context, e Event) context.Context {
	o := originOf(ctx)
	o.cause = e
	o.correlation = e.correlation
	if o.correlation == "" || len(o.correlation) > longestID {
		o.correlation = o.causation()
	}
	if validTraceParent(e.traceParent) {
		o.traceParent, o.traceState = level1(e.traceParent), knownTraceState(e.traceState)
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
	o.traceParent, o.traceState = level1(traceParent), knownTraceState(traceState)
	return o.in(ctx)
}

// TraceFrom returns the trace context that new events in ctx carry, or "", "".
func TraceFrom(ctx context.Context) (traceParent, traceState string) {
	o := originOf(ctx)
	return o.traceParent, o.traceState
}

// level1 writes a valid traceparent of any version as version 00, as section
// 4.3 of W3C Trace Context has participants do that know no later one.
func level1(traceParent string) string {
	if traceParent[:2] == "00" {
		return traceParent
	}
	return "00" + traceParent[2:traceParentSize]
}

// knownTraceState drops what is invalid or longer than the 512 characters that
// W3C Trace Context asks participants to pass on.
func knownTraceState(s string) string {
	const most = 512
	if len(s) > most || !validTraceState(s) {
		return ""
	}
	return s
}
