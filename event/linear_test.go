package event

import (
	"runtime"
	"strings"
	"testing"
)

// The hostile inputs are so large that work quadratic in their length would not
// end within the test's deadline: 10^12 steps. What can be counted, memory, is.
func TestHostileInputCostsWorkLinearInItsLength(t *testing.T) {
	const size = 1 << 20
	repeat := func(s string, n int) string { return strings.Repeat(s, n/len(s)) }
	distinct := func(n int, each func(b *strings.Builder, name string)) string {
		var b strings.Builder
		for i := 0; b.Len() < n; i++ {
			name := []byte("xaaaaaa")
			for j, k := len(name)-1, i; k > 0; j, k = j-1, k/26 {
				name[j] = byte('a' + k%26)
			}
			each(&b, string(name))
		}
		return b.String()
	}
	asJSON := func(b []byte) { _, _ = UnmarshalCloudEvent(b) }
	asBatch := func(b []byte) { _, _ = UnmarshalCloudEventBatch(b) }
	asKafka := func(b []byte) {
		r := record("k", "", foreign()...)
		for len(b) > 0 {
			r.Headers = append(r.Headers, KafkaHeader{"ce_" + string(b[:7]), b[:7]})
			b = b[7:]
		}
		_, _ = FromKafka(r)
	}
	for _, c := range []struct {
		name string
		read func([]byte)
		make func(n int) string
	}{
		{"nested arrays", asJSON, func(n int) string { return repeat("[", n) }},
		{"nested objects in data", asJSON, func(n int) string { return least(`,"data":` + repeat(`{"a":`, n)) }},
		{"shallow arrays in data", asJSON, func(n int) string { return least(`,"data":[` + repeat("[],", n) + "0]") }},
		{"escapes in text", asJSON, func(n int) string {
			return least(`,"datacontenttype":"text/plain","data":"` + repeat(`\u00e4`, n) + `"`)
		}},
		{"backslashes", asJSON, func(n int) string { return least(`,"x":"` + repeat(`\\`, n) + `"`) }},
		{"quotes never closed", asJSON, func(n int) string { return least(`,"x":"` + repeat(`\"`, n)) }},
		{"spaces", asJSON, func(n int) string { return repeat(" ", n) + least("") }},
		{"one member many times", asJSON, func(n int) string { return least(repeat(`,"x":""`, n)) }},
		{"many members", asJSON, func(n int) string {
			return least(distinct(n, func(b *strings.Builder, name string) { b.WriteString(`,"` + name + `":1`) }))
		}},
		{"many members, the last a twin", asJSON, func(n int) string {
			return least(distinct(n, func(b *strings.Builder, name string) { b.WriteString(`,"` + name + `":1`) }) + `,"xaaaaab":2`)
		}},
		{"digits in sequence", asJSON, func(n int) string { return least(`,"sequence":"` + repeat("0", n) + `1"`) }},
		{"tracestate of commas", asJSON, func(n int) string { return least(`,"tracestate":"` + repeat(",", n) + `"`) }},
		{"batch of empty objects", asBatch, func(n int) string { return "[" + repeat("{},", n) + "{}]" }},
		{"batch of events", asBatch, func(n int) string { return "[" + repeat(least("")+",", n) + least("") + "]" }},
		{"batch in a batch", asBatch, func(n int) string { return "[[" + repeat("[],", n) + "[]]]" }},
		{"many headers", asKafka, func(n int) string {
			return distinct(n, func(b *strings.Builder, name string) { b.WriteString(name) })
		}},
		{"one header many times", asKafka, func(n int) string { return repeat("samesam", n) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			small, large := []byte(c.make(size/8)), []byte(c.make(size))
			one, eight := allocated(func() { c.read(small) }), allocated(func() { c.read(large) })
			// Slices that double may be up to twice as large as they need.
			if limit := 8*2*one + 1<<16; eight > limit {
				t.Errorf("%d bytes of input take %d bytes, %d take %d", len(small), one, len(large), eight)
			}
		})
	}
}

// allocated counts the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// The budgets of the hot path: one message each, and one spare for race builds.
func TestTheHotPathAllocatesLittle(t *testing.T) {
	e := mustNew(t, fullDraft())
	typical := fullDraft()
	typical.Headers = typical.Headers[:1]
	few := mustNew(t, typical)
	r, catalog := ToKafka(few), orders(t)
	placed := encoded(t, "order.placed", 1, "application/json", `{"total":3}`)
	for _, c := range []struct {
		name string
		most float64
		run  func()
	}{
		{"FromKafka", 3, func() { _, _ = FromKafka(r) }},
		{"ToKafka", 4, func() { ToKafka(e) }},
		{"Decode", 8, func() { _, _ = catalog.Decode(placed) }},
		{"Header", 0, func() { e.Header("tenant") }},
		{"MarshalCloudEvent", 5, func() { _, _ = MarshalCloudEvent(e) }},
	} {
		if got := testing.AllocsPerRun(100, c.run); got > c.most {
			t.Errorf("%s allocates %v times, want at most %v", c.name, got, c.most)
		} else {
			t.Logf("%s allocates %v times", c.name, got)
		}
	}
}
