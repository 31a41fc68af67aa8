package parking

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/tidings-bus/tidings/event"
)

// Headers returns headers as their column has them, a JSON array in their order
// of [name, value in base64 or null]; a name that is no text for a database
// (not UTF-8, or with a NUL) is in base64 too, and "base64" stands third.
func Headers(headers []event.KafkaHeader) string {
	rows := make([][]any, len(headers))
	for i, h := range headers {
		var value any
		if h.Value != nil {
			value = base64.StdEncoding.EncodeToString(h.Value)
		}
		rows[i] = []any{Text(h.Key), value}
		if !isText(h.Key) {
			rows[i] = append(rows[i], base64.StdEncoding.EncodeToString([]byte(h.Key)))
		}
	}
	text, _ := json.Marshal(rows) //nolint:errchkjson // strings and nulls
	return string(text)
}

// ParseHeaders reads what Headers wrote; none are nil.
func ParseHeaders(text string) ([]event.KafkaHeader, error) {
	var rows [][]*string
	if err := json.Unmarshal([]byte(text), &rows); err != nil {
		return nil, fmt.Errorf("read headers: %w", err)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	headers := make([]event.KafkaHeader, len(rows))
	for i, row := range rows {
		if len(row) < 2 || len(row) > 3 || row[0] == nil {
			return nil, fmt.Errorf("read headers: number %d is not [name, value]", i+1)
		}
		h := event.KafkaHeader{Key: *row[0]}
		var err error
		if len(row) == 3 {
			whole, err := parseBytes(row[2])
			if err != nil {
				return nil, fmt.Errorf("read headers: the whole name of number %d: %w", i+1, err)
			}
			h.Key = string(whole)
		}
		if h.Value, err = parseBytes(row[1]); err != nil {
			return nil, fmt.Errorf("read headers: the value of %q: %w", h.Key, err)
		}
		headers[i] = h
	}
	return headers, nil
}

// original is the column of that name.
type original struct {
	Value   *string         `json:"value"`
	Headers json.RawMessage `json:"headers"`
}

// Original returns what an edit replaces, value and headers, as its column has it.
func Original(r event.KafkaRecord) string {
	o := original{Headers: json.RawMessage(Headers(r.Headers))}
	if r.Value != nil {
		value := base64.StdEncoding.EncodeToString(r.Value)
		o.Value = &value
	}
	text, _ := json.Marshal(o) //nolint:errchkjson // strings and what Headers made
	return string(text)
}

// ParseOriginal reads what Original wrote. The key is not in it: it cannot change.
func ParseOriginal(text string) (r event.KafkaRecord, err error) {
	var o original
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return r, fmt.Errorf("read the original: %w", err)
	}
	if r.Value, err = parseBytes(o.Value); err != nil {
		return r, fmt.Errorf("read the original value: %w", err)
	}
	r.Headers, err = ParseHeaders(string(o.Headers))
	return r, err
}

func parseBytes(text *string) ([]byte, error) {
	if text == nil {
		return nil, nil
	}
	b, err := base64.StdEncoding.DecodeString(*text)
	if b == nil {
		b = []byte{}
	}
	return b, err
}

// Size is what a record counts for in a bound of bytes: key, value and headers.
func Size(r event.KafkaRecord) int64 {
	n := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return int64(n)
}

// Text returns s as a database can store it: what is not UTF-8, and NULs, are
// replaced by U+FFFD. For what people read; never for what identifies.
func Text(s string) string {
	if isText(s) {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

func isText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }
