package event

import (
	"context"
	"strings"
	"testing"
)

const otherTraceParent = "00-11111111111111111111111111111111-2222222222222222-00"

func follow(t *testing.T, ctx context.Context) Event {
	t.Helper()
	e, err := orders(t).Event(ctx, Raised{Aggregate: Aggregate{"order", "2"}, Payload: orderPlaced{}})
	must(t, err)
	return e
}

func TestANewEventFollowsFromTheOneBeingHandled(t *testing.T) {
	cause := mustNew(t, fullDraft())
	ctx := WithCause(t.Context(), cause)
	e := follow(t, ctx)
	if e.Causation() != cause.CloudEventID() || e.Correlation() != "c-1" ||
		e.TraceParent() != someTraceParent || e.TraceState() != someTraceState {
		t.Errorf("causation %q, correlation %q, trace %q %q", e.Causation(), e.Correlation(), e.TraceParent(), e.TraceState())
	}
	if got, ok := CauseFrom(ctx); !ok || !got.Equal(cause) {
		t.Errorf("CauseFrom = %v, %v", got, ok)
	}
	grandchild := follow(t, WithCause(ctx, e))
	if grandchild.Causation() != e.CloudEventID() || grandchild.Correlation() != "c-1" {
		t.Errorf("grandchild: causation %q, correlation %q", grandchild.Causation(), grandchild.Correlation())
	}
}

func TestACauseWithoutCorrelationBecomesTheCorrelation(t *testing.T) {
	cause, err := FromKafka(record("k", "", foreign()...))
	must(t, err)
	if e := follow(t, WithCause(t.Context(), cause)); e.Correlation() != "4711" || e.Causation() != "4711" {
		t.Errorf("correlation %q, causation %q", e.Correlation(), e.Causation())
	}
}

func TestACallerNamesCorrelationAndTraceWhereNoEventBegan(t *testing.T) {
	ctx := WithTrace(WithCorrelation(t.Context(), "request-1"), someTraceParent, someTraceState)
	e := follow(t, ctx)
	if e.Correlation() != "request-1" || e.Causation() != "" || e.TraceParent() != someTraceParent || e.TraceState() != someTraceState {
		t.Errorf("%#v", e)
	}
	if got := CorrelationFrom(ctx); got != "request-1" {
		t.Errorf("CorrelationFrom = %q", got)
	}
	if p, s := TraceFrom(ctx); p != someTraceParent || s != someTraceState {
		t.Errorf("TraceFrom = %q, %q", p, s)
	}
	if _, ok := CauseFrom(ctx); ok {
		t.Error("a correlation is no cause")
	}
	// The inner one wins: a span opened while an event is handled is its trace.
	inner := follow(t, WithTrace(WithCause(ctx, mustNew(t, fullDraft())), otherTraceParent, ""))
	if inner.TraceParent() != otherTraceParent || inner.TraceState() != "" || inner.Correlation() != "c-1" {
		t.Errorf("inner: trace %q %q, correlation %q", inner.TraceParent(), inner.TraceState(), inner.Correlation())
	}
	// A cause without a trace leaves the caller's.
	d := fullDraft()
	d.TraceParent, d.TraceState = "", ""
	if e := follow(t, WithCause(ctx, mustNew(t, d))); e.TraceParent() != someTraceParent {
		t.Errorf("trace %q", e.TraceParent())
	}
}

func TestNothingInTheContextChangesNothing(t *testing.T) {
	ctx := t.Context()
	if WithCorrelation(ctx, "") != ctx || WithTrace(ctx, "bad", "") != ctx {
		t.Error("an empty correlation or an invalid traceparent made a new context")
	}
	if p, s := TraceFrom(ctx); p != "" || s != "" || CorrelationFrom(ctx) != "" {
		t.Errorf("%q %q %q", p, s, CorrelationFrom(ctx))
	}
	if _, ok := CauseFrom(ctx); ok {
		t.Error("CauseFrom finds a cause")
	}
}

func TestATraceParentIsJudgedByW3C(t *testing.T) {
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for s, want := range map[string]string{
		someTraceParent:                                        someTraceParent,
		"00-" + trace + "-" + parent + "-00":                   "00-" + trace + "-" + parent + "-00",
		"cc-" + trace + "-" + parent + "-01":                   "00-" + trace + "-" + parent + "-01",
		"cc-" + trace + "-" + parent + "-01-xy":                "00-" + trace + "-" + parent + "-01",
		"cc-" + trace + "-" + parent + "-01xy":                 "",
		"00-" + trace + "-" + parent + "-01-xy":                "",
		"ff-" + trace + "-" + parent + "-01":                   "",
		"00-" + strings.Repeat("0", 32) + "-" + parent + "-01": "",
		"00-" + trace + "-0000000000000000-01":                 "",
		"00-" + strings.ToUpper(trace) + "-" + parent + "-01":  "",
		"00_" + trace + "-" + parent + "-01":                   "",
		"00-" + trace + "-" + parent + "-0":                    "",
		"00-" + trace + "-" + parent + "-0g":                   "",
		"00-" + trace[:31] + "g-" + parent + "-01":             "",
		"": "",
	} {
		if got, _ := TraceFrom(WithTrace(t.Context(), s, "")); got != want {
			t.Errorf("%q is carried as %q, want %q", s, got, want)
		}
	}
}

func TestATraceStateIsJudgedByW3C(t *testing.T) {
	many := strings.TrimSuffix(strings.Repeat("k=v,", 33), ",")
	for s, ok := range map[string]bool{
		someTraceState:                  true,
		"a=1":                           true,
		"a=1, b=2 ,,\tc=3":              true,
		"t61@acme=x/y*-_ z":             true,
		"1a=b":                          true,
		"":                              true,
		"a":                             false,
		"a=":                            false,
		"=b":                            false,
		"A=b":                           false,
		"-a=b":                          false,
		"a=1,a=2":                       false,
		"a=b=c":                         false,
		"a=\x7f":                        false,
		many:                            false,
		strings.Repeat("a", 257) + "=b": false,
		"b=" + strings.Repeat("a", 257): false,
	} {
		if validTraceState(s) != ok {
			t.Errorf("%q: valid = %v, want %v", s, !ok, ok)
		}
	}
	if _, s := TraceFrom(WithTrace(t.Context(), someTraceParent, "a=1,a=2")); s != "" {
		t.Errorf("an invalid tracestate is carried on: %q", s)
	}
}

// Our events stay within their limits, whatever another producer sends.
func TestAnOversizedCauseDoesNotStopItsEffects(t *testing.T) {
	long := strings.Repeat("x", MaxAttributeBytes)
	cause, err := FromKafka(record("k", "", "ce_specversion", "1.0", "ce_type", "t", "ce_source", "/s", "ce_id", long,
		"ce_correlationid", long, "ce_traceparent", "cc"+someTraceParent[2:]+"-"+long, "ce_tracestate", "a="+long))
	must(t, err)
	e := follow(t, WithCause(t.Context(), cause))
	if id := cause.ID().String(); e.Causation() != id || e.Correlation() != id || e.TraceParent() != someTraceParent || e.TraceState() != "" {
		t.Errorf("%#v", e)
	}
}
