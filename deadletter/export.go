package deadletter

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// exportVersion is the form's: it changes when an older reader would misread it.
const exportVersion = 1

// exported is a Letter in JSON.
type exported struct {
	Version       int               `json:"v"`
	ID            int64             `json:"id,omitempty"`
	Group         string            `json:"group"`
	Handler       string            `json:"handler"`
	Epoch         int               `json:"epoch,omitempty"`
	Topic         string            `json:"topic"`
	Partition     int32             `json:"partition"`
	Offset        int64             `json:"offset"`
	EventID       uuid.UUID         `json:"event_id"`
	Type          string            `json:"type,omitempty"`
	Source        string            `json:"source,omitempty"`
	AggregateType string            `json:"aggregate_type,omitempty"`
	AggregateID   string            `json:"aggregate_id,omitempty"`
	Sequence      int64             `json:"sequence,omitempty"`
	Time          *time.Time        `json:"time,omitempty"`
	Key           raw               `json:"key"`
	Value         raw               `json:"value"`
	Headers       []exportedHeader  `json:"headers,omitempty"`
	Original      *exportedOriginal `json:"original,omitempty"`
	Cause         inbox.Cause       `json:"cause"`
	Error         string            `json:"error,omitempty"`
	Stack         string            `json:"stack,omitempty"`
	Attempts      int               `json:"attempts,omitempty"`
	First         *time.Time        `json:"first_failed,omitempty"`
	Last          *time.Time        `json:"last_failed,omitempty"`
	Due           *time.Time        `json:"due,omitempty"`
	Parked        *time.Time        `json:"parked,omitempty"`
}

type exportedHeader struct {
	Name  raw `json:"name"`
	Value raw `json:"value"`
}

type exportedOriginal struct {
	Value   raw              `json:"value"`
	Headers []exportedHeader `json:"headers,omitempty"`
}

// raw is bytes in JSON: null, text where they are text, or {"base64": "..."}.
type raw []byte

// MarshalJSON implements json.Marshaler.
func (b raw) MarshalJSON() ([]byte, error) {
	switch {
	case b == nil:
		return []byte("null"), nil
	case utf8.Valid(b) && bytes.IndexByte(b, 0) < 0: // PostgreSQL's jsonb has no place for NUL
		return compact(string(b))
	}
	return compact(map[string]string{"base64": base64.StdEncoding.EncodeToString(b)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (b *raw) UnmarshalJSON(data []byte) error {
	var text string
	switch {
	case string(data) == "null":
		*b = nil
		return nil
	case data[0] == '"':
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
		*b = raw(text)
	default:
		var coded struct {
			Base64 *[]byte `json:"base64"`
		}
		if err := json.Unmarshal(data, &coded); err != nil {
			return err
		}
		if coded.Base64 == nil {
			return errors.New(`bytes are null, a text, or {"base64": "..."}`)
		}
		*b = *coded.Base64
	}
	if *b == nil {
		*b = raw{}
	}
	return nil
}

// compact is v in JSON on one line, with < and & as they are.
func compact(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// MarshalLetter writes l as one line of JSON, without a newline: the form of
// `tidings dlq export`. It is exact: bytes (key, value, names and values of
// headers) are null, or a text where they are one, or {"base64": "..."}. Times
// are RFC 3339 in UTC. The names of the fields are stable; "v" is the form's
// version.
func MarshalLetter(l Letter) ([]byte, error) {
	x := exported{
		Version: exportVersion, ID: l.ID,
		Group: l.Handler.Group, Handler: l.Handler.Name, Epoch: l.Handler.Epoch,
		Topic: l.Place.Topic, Partition: l.Place.Partition, Offset: l.Place.Offset,
		EventID: l.EventID, Type: l.Type, Source: l.Source, AggregateType: l.AggregateType, AggregateID: l.AggregateID, Sequence: l.Sequence,
		Time: utc(l.Time), Key: l.Record.Key, Value: l.Record.Value, Headers: exportHeaders(l.Record.Headers),
		Cause: l.Cause, Error: l.Error, Stack: l.Stack, Attempts: l.Attempts,
		First: utc(l.First), Last: utc(l.Last), Due: utc(l.Due), Parked: utc(l.Parked),
	}
	if l.Original != nil {
		x.Original = &exportedOriginal{Value: l.Original.Value, Headers: exportHeaders(l.Original.Headers)}
	}
	line, err := compact(x)
	if err != nil {
		return nil, fmt.Errorf("write letter %d as JSON: %w", l.ID, err)
	}
	return line, nil
}

// UnmarshalLetter reads what MarshalLetter wrote. Its errors name the field.
// Fields that it does not know are left out.
func UnmarshalLetter(line []byte) (Letter, error) {
	var x exported
	if err := json.Unmarshal(line, &x); err != nil {
		return Letter{}, fmt.Errorf("read a letter: %w", err)
	}
	if err := x.validate(); err != nil {
		return Letter{}, fmt.Errorf("read a letter: %w", err)
	}
	l := Letter{
		ID:      x.ID,
		Handler: inbox.Handler{Group: x.Group, Name: x.Handler, Epoch: x.Epoch},
		Place:   inbox.Place{Topic: x.Topic, Partition: x.Partition, Offset: x.Offset},
		EventID: x.EventID, Type: x.Type, Source: x.Source, AggregateType: x.AggregateType, AggregateID: x.AggregateID, Sequence: x.Sequence,
		Record: event.KafkaRecord{Key: x.Key, Value: x.Value, Headers: importHeaders(x.Headers)},
		Time:   moment(x.Time),
		Failure: inbox.Failure{
			Cause: x.Cause, Error: x.Error, Stack: x.Stack, Attempts: x.Attempts,
			First: moment(x.First), Last: moment(x.Last), Due: moment(x.Due),
		},
		Parked: moment(x.Parked),
	}
	if len(x.Key) > 0 {
		l.Place.Key = x.Key
	}
	if x.Original != nil {
		l.Original = &event.KafkaRecord{Key: x.Key, Value: x.Original.Value, Headers: importHeaders(x.Original.Headers)}
	}
	return l, nil
}

func (x *exported) validate() error {
	switch {
	case x.Version != exportVersion:
		return fmt.Errorf(`its form "v" is %d, and this release reads %d; use the release that wrote it, or a later one`, x.Version, exportVersion)
	case x.Group == "":
		return errors.New(`"group" is empty; name the handler's group`)
	case x.Handler == "":
		return errors.New(`"handler" is empty; name the handler`)
	case x.Topic == "":
		return errors.New(`"topic" is empty; name the topic that the message came from`)
	case x.EventID == uuid.Nil:
		return errors.New(`"event_id" is missing; without it nobody can tell whether the event was applied`)
	case x.Cause == "":
		return errors.New(`"cause" is empty; use one such as "error"`)
	case x.Epoch < 0, x.Sequence < 0, x.Attempts < 0:
		return fmt.Errorf(`"epoch" is %d, "sequence" %d and "attempts" %d; none of them is below 0`, x.Epoch, x.Sequence, x.Attempts)
	case x.Attempts > 1<<31-1, x.Epoch > 1<<31-1:
		return fmt.Errorf(`"epoch" is %d and "attempts" %d, which is more than a column has room for`, x.Epoch, x.Attempts)
	}
	for name, value := range map[string]string{
		"group": x.Group, "handler": x.Handler, "topic": x.Topic, "type": x.Type, "source": x.Source,
		"aggregate_type": x.AggregateType, "aggregate_id": x.AggregateID, "cause": string(x.Cause), "error": x.Error, "stack": x.Stack,
	} {
		if strings.Contains(value, "\x00") {
			return fmt.Errorf("%q has a NUL, which no text column takes", name)
		}
	}
	return nil
}

func exportHeaders(headers []event.KafkaHeader) []exportedHeader {
	if len(headers) == 0 {
		return nil
	}
	list := make([]exportedHeader, 0, len(headers))
	for _, h := range headers {
		list = append(list, exportedHeader{Name: []byte(h.Key), Value: h.Value})
	}
	return list
}

func importHeaders(list []exportedHeader) []event.KafkaHeader {
	if len(list) == 0 {
		return nil
	}
	headers := make([]event.KafkaHeader, 0, len(list))
	for _, h := range list {
		headers = append(headers, event.KafkaHeader{Key: string(h.Name), Value: h.Value})
	}
	return headers
}

func utc(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func moment(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// MarshalBytes writes an object of one field with bytes, in the form that
// MarshalLetter has for them: what Before and After of an audit line are made of.
func MarshalBytes(field string, b []byte) (json.RawMessage, error) {
	return compact(map[string]raw{field: b})
}
