package event

import (
	"encoding/json"
	"testing"
)

type order struct {
	Recorder

	Total int
}

var _ Recording = (*order)(nil)

func TestRecordedEventsGoOnFromTheLastSequence(t *testing.T) {
	agg := Aggregate{"order", "1"}
	for _, tc := range []struct {
		name string
		last int64
		want []int64
	}{
		{"new aggregate", 0, []int64{1, 2}},
		{"loaded aggregate", 41, []int64{42, 43}},
		{"unsequenced aggregate", Unsequenced, []int64{0, 0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var o order
			o.Identify(agg, tc.last)
			o.Record(orderPlaced{3}, Header{"tenant", "blue"})
			o.Record(orderCanceled{})
			got := o.Recorded()
			for i, r := range got {
				if r.Sequence != tc.want[i] || r.Aggregate != agg || r.Time.IsZero() || r.ID.Version() != 7 {
					t.Errorf("event %d: %+v, want sequence %d", i, r, tc.want[i])
				}
			}
			if len(got) != 2 || got[0].Payload != (orderPlaced{3}) || got[0].Headers[0].Value != "blue" || got[0].ID == got[1].ID {
				t.Errorf("recorded %+v", got)
			}
			o.ClearRecorded()
			if len(o.Recorded()) != 0 {
				t.Error("ClearRecorded left some")
			}
			o.Record(orderPlaced{})
			want := int64(0)
			if tc.last >= 0 {
				want = tc.last + 3
			}
			if r := o.Recorded()[0]; r.Sequence != want || o.LastSequence() != want {
				t.Errorf("after ClearRecorded: sequence %d, last %d, want %d", r.Sequence, o.LastSequence(), want)
			}
		})
	}
}

func TestWhatWasRecordedBeforeTheIdentityGetsIt(t *testing.T) {
	var o order
	o.Record(orderPlaced{1})
	o.Record(orderPlaced{2})
	if r := o.Recorded()[0]; r.Sequence != 0 || r.Aggregate != (Aggregate{}) {
		t.Errorf("before: %+v", r)
	}
	o.Identify(Aggregate{"order", "9"}, 0)
	o.Record(orderPlaced{3})
	for i, r := range o.Recorded() {
		if r.Sequence != int64(i)+1 || r.Aggregate.ID != "9" {
			t.Errorf("event %d: %+v", i, r)
		}
	}
}

func TestTheCallerMayChangeWhatItGotFromARecorder(t *testing.T) {
	var o order
	o.Identify(Aggregate{"order", "9"}, 0)
	headers := []Header{{"a", "1"}}
	o.Record(orderPlaced{}, headers...)
	headers[0].Value = "changed"
	o.Recorded()[0].Sequence = 99
	if r := o.Recorded()[0]; r.Sequence != 1 || r.Headers[0].Value != "1" {
		t.Errorf("changed: %+v", r)
	}
}

func TestARecorderLeavesTheAggregatesJSONAlone(t *testing.T) {
	o := order{Total: 3}
	o.Record(orderPlaced{})
	if b, err := json.Marshal(&o); err != nil || string(b) != `{"Total":3}` {
		t.Errorf("%s, %v", b, err)
	}
}
