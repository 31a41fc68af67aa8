package kafkastore

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/deadletter/internal/line"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

const (
	// letterHeader has what is known about a parked event, as JSON. The other
	// headers, and the value, are the event's own.
	letterHeader = "tidings-letter"
	// writeHeader tells the writer its own record.
	writeHeader = "tidings-write"
	wireVersion = 1
)

// letter is the header of a parked event.
type letter struct {
	Version       int             `json:"v"`
	ID            int64           `json:"id,omitempty"`   // none: its offset + 1
	Line          int64           `json:"line,omitempty"` // of its key; none: it opened one
	Group         string          `json:"group"`
	Handler       string          `json:"handler"`
	Epoch         int             `json:"epoch,omitempty"`
	Topic         string          `json:"topic"`
	Partition     int32           `json:"partition"`
	Offset        int64           `json:"offset"`
	Key           []byte          `json:"key"`
	EventID       uuid.UUID       `json:"event_id"`
	Type          string          `json:"type,omitempty"`
	Source        string          `json:"source,omitempty"`
	AggregateType string          `json:"aggregate_type,omitempty"`
	AggregateID   string          `json:"aggregate_id,omitempty"`
	Sequence      int64           `json:"sequence,omitempty"`
	Time          time.Time       `json:"time"`
	Null          bool            `json:"null,omitempty"` // the event's value is null
	RecordKey     []byte          `json:"record_key,omitempty"`
	Original      *originalRecord `json:"original,omitempty"`
	Cause         inbox.Cause     `json:"cause"`
	Error         string          `json:"error,omitempty"`
	Stack         string          `json:"stack,omitempty"`
	Attempts      int             `json:"attempts,omitempty"`
	First         time.Time       `json:"first,omitzero"`
	Last          time.Time       `json:"last,omitzero"`
	Due           time.Time       `json:"due,omitzero"`
	Parked        time.Time       `json:"parked,omitzero"`
	Since         time.Time       `json:"since,omitzero"`
	Restored      bool            `json:"restored,omitempty"`
}

type originalRecord struct {
	Value   []byte           `json:"value"`
	Headers []originalHeader `json:"headers,omitempty"`
}

type originalHeader struct {
	Key   []byte `json:"key"` // need not be text
	Value []byte `json:"value"`
}

// encode makes the record of a change.
func encode(c *line.Change) (*kgo.Record, error) {
	r := &kgo.Record{Key: []byte(c.Name)}
	if c.Letter == nil {
		return r, nil
	}
	l := c.Letter
	w := letter{
		Version: wireVersion, ID: l.ID, Line: c.Line, Group: l.Handler.Group,
		Handler: l.Handler.Name, Epoch: l.Handler.Epoch,
		Topic: l.Place.Topic, Partition: l.Place.Partition, Offset: l.Place.Offset, Key: l.Place.Key,
		EventID: l.EventID, Type: l.Type, Source: l.Source,
		AggregateType: l.AggregateType, AggregateID: l.AggregateID, Sequence: l.Sequence,
		Time: l.Time, Null: l.Record.Value == nil,
		Cause: l.Cause, Error: l.Error, Stack: l.Stack, Attempts: l.Attempts,
		First: l.First, Last: l.Last, Due: l.Due, Parked: l.Parked, Since: c.Since, Restored: c.Restored,
	}
	if !bytes.Equal(l.Record.Key, l.Place.Key) {
		w.RecordKey = l.Record.Key
	}
	if o := l.Original; o != nil {
		w.Original = &originalRecord{Value: o.Value}
		for _, h := range o.Headers {
			w.Original.Headers = append(w.Original.Headers, originalHeader{Key: []byte(h.Key), Value: h.Value})
		}
	}
	header, err := json.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("encode letter %q: %w", c.Name, err)
	}
	r.Value = l.Record.Value
	if r.Value == nil {
		r.Value = []byte{} // null is a tombstone
	}
	r.Headers = append(make([]kgo.RecordHeader, 0, 2+len(l.Record.Headers)), kgo.RecordHeader{Key: letterHeader, Value: header})
	for _, h := range l.Record.Headers {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	return r, nil
}

// decode reads what encode made. The letter shares no memory with the record,
// whose bytes are part of all that was fetched with it.
func decode(r *kgo.Record) (line.Change, error) {
	c := line.Change{Name: string(r.Key)}
	if r.Value == nil {
		return c, nil
	}
	if len(r.Headers) == 0 || r.Headers[0].Key != letterHeader {
		return c, fmt.Errorf("its first header is not %s: it was not written by this store", letterHeader)
	}
	var w letter
	if err := json.Unmarshal(r.Headers[0].Value, &w); err != nil {
		return c, fmt.Errorf("its header %s: %w", letterHeader, err)
	}
	if w.Version != wireVersion {
		return c, fmt.Errorf("its version is %d: a newer program wrote it", w.Version)
	}
	l := &deadletter.Letter{
		ID: w.ID, Handler: inbox.Handler{Group: w.Group, Name: w.Handler, Epoch: w.Epoch},
		Place:   inbox.Place{Topic: w.Topic, Partition: w.Partition, Offset: w.Offset, Key: w.Key},
		EventID: w.EventID, Type: w.Type, Source: w.Source,
		AggregateType: w.AggregateType, AggregateID: w.AggregateID, Sequence: w.Sequence,
		Record: event.KafkaRecord{Key: w.Key, Value: bytes.Clone(r.Value)}, Time: w.Time,
		Failure: inbox.Failure{
			Cause: w.Cause, Error: w.Error, Stack: w.Stack, Attempts: w.Attempts,
			First: w.First, Last: w.Last, Due: w.Due,
		},
		Parked: w.Parked,
	}
	if w.RecordKey != nil {
		l.Record.Key = w.RecordKey
	}
	if w.Null {
		l.Record.Value = nil
	}
	for _, h := range r.Headers[1:] {
		if h.Key != writeHeader {
			l.Record.Headers = append(l.Record.Headers, event.KafkaHeader{Key: strings.Clone(h.Key), Value: bytes.Clone(h.Value)})
		}
	}
	if o := w.Original; o != nil {
		l.Original = &event.KafkaRecord{Key: l.Record.Key, Value: o.Value}
		for _, h := range o.Headers {
			l.Original.Headers = append(l.Original.Headers, event.KafkaHeader{Key: string(h.Key), Value: h.Value})
		}
	}
	if want := line.Name(l.Handler, l.Place.Topic, l.Place.Key, l.EventID); want != c.Name {
		return c, fmt.Errorf("its key is not %q, as its header says", strings.ToValidUTF8(want, "?"))
	}
	c.Letter, c.Line, c.Since, c.Restored = l, w.Line, w.Since, w.Restored
	return c, nil
}

// writeOf is the value of the header by which a writer knows its record.
func writeOf(r *kgo.Record) string {
	for _, h := range slices.Backward(r.Headers) { // it is the last
		if h.Key == writeHeader {
			return string(h.Value)
		}
	}
	return ""
}
