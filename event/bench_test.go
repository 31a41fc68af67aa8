package event

import "testing"

func BenchmarkFromKafka(b *testing.B) {
	r := ToKafka(mustNew(b, fullDraft()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := FromKafka(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFromKafkaOfAnotherProducer(b *testing.B) {
	r := record("k", `{"a":1}`, foreign("content-type", "application/json", "ce_time", "2018-04-05T17:31:00Z")...)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := FromKafka(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkToKafka(b *testing.B) {
	e := mustNew(b, fullDraft())
	b.ReportAllocs()
	for b.Loop() {
		ToKafka(e)
	}
}

func BenchmarkDecode(b *testing.B) {
	c := orders(b)
	for name, e := range map[string]Event{
		"newest":           encoded(b, "order.placed", 1, "application/json", `{"total":3}`),
		"two versions old": encoded(b, "order.canceled", 1, "application/json", `{"why":"late"}`),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Decode(e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEvent(b *testing.B) {
	c := orders(b)
	r := Raised{Aggregate: Aggregate{"order", "1"}, Payload: orderPlaced{3}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Event(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMarshalCloudEvent(b *testing.B) {
	e := mustNew(b, fullDraft())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := MarshalCloudEvent(e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnmarshalCloudEvent(b *testing.B) {
	data, err := MarshalCloudEvent(mustNew(b, fullDraft()))
	must(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := UnmarshalCloudEvent(data); err != nil {
			b.Fatal(err)
		}
	}
}
