package router

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tidings-bus/tidings/deadletter"
)

// Check implements deadletter.Retrier: it says why the handler could not take
// the letter with another value, with line and column where it is JSON.
func (r *retrier) Check(l deadletter.Letter, to deadletter.Edited) error {
	record := l.Record
	record.Value = to.Value
	m := &delivered{sub: r.sub, record: record, place: l.Place}
	_, skip, why, err := r.read(m)
	e := m.event
	switch {
	case err != nil && why == causeUnknownType:
		return err
	case err != nil:
		return located(to.Value, e.Data(), err)
	case skip && l.Type != "" || l.Type != "" && e.Type() != l.Type:
		return fmt.Errorf("it would be an event of type %q, not %q: the type of a parked event cannot be changed", e.Type(), l.Type)
	}
	if l.Type == "" { // it could not be read: nothing to compare with
		return nil
	}
	agg := e.Aggregate()
	for _, f := range []struct {
		name    string
		was, is any
	}{
		{"ID", l.EventID, e.ID()},
		{"source", l.Source, e.Source()},
		{"aggregate type", l.AggregateType, agg.Type},
		{"aggregate ID", l.AggregateID, agg.ID},
		{"sequence", l.Sequence, e.Sequence()},
	} {
		if f.was != f.is {
			return fmt.Errorf("its %s would be %v, not %v: what identifies a parked event cannot be changed", f.name, f.is, f.was)
		}
	}
	return nil
}

// located adds line and column of a JSON error to it, counted in value. Data is
// the part of value that was being decoded, or nil for all of it.
func located(value, data []byte, err error) error {
	var (
		syntax *json.SyntaxError
		typ    *json.UnmarshalTypeError
		offset int64
	)
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &typ):
		offset = typ.Offset
	default:
		return err
	}
	if i := bytes.Index(value, data); len(data) > 0 && i > 0 {
		offset += int64(i) // an event in structured mode: data is a part of it
	}
	before := value[:min(max(offset-1, 0), int64(len(value)))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := len(before) - bytes.LastIndexByte(before, '\n')
	return fmt.Errorf("line %d, column %d: %w", line, column, err)
}

var _ deadletter.Retrier = (*retrier)(nil)
