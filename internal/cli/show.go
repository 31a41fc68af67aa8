package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/event"
)

// show prints r when its type is wanted.
func (t *tail) show(out io.Writer, r *kgo.Record) (shown bool, err error) {
	e, decodeErr := event.FromKafka(kafkaRecord(r))
	switch {
	case decodeErr != nil && len(t.types) > 0:
		return false, nil
	case decodeErr != nil && t.json:
		err = showUndecodableJSON(out, r, decodeErr)
	case decodeErr != nil:
		_, err = fmt.Fprintf(out, "%d:%-6d %s  undecodable  key %q: %s; %d bytes: %q\n", r.Partition, r.Offset,
			r.Timestamp.UTC().Format(timeLayout), ellipsis(string(r.Key), 40), oneLine(decodeErr.Error()), len(r.Value), ellipsis(string(r.Value), 60))
	case len(t.types) > 0 && !slices.Contains(t.types, e.Type()):
		return false, nil
	case t.json:
		err = showJSON(out, e)
	default:
		at := e.Time()
		if at.IsZero() { // CloudEvents may leave it out
			at = r.Timestamp.UTC()
		}
		_, err = fmt.Fprintf(out, "%d:%-6d %s  %-16s  %-12s  %s\n", r.Partition, r.Offset,
			at.Format(timeLayout), typeOf(e), e.Aggregate().ID+number(e), data(e))
	}
	if err != nil {
		return false, fmt.Errorf("writing: %w", err)
	}
	return true, nil
}

const timeLayout = "2006-01-02 15:04:05.000"

func typeOf(e event.Event) string {
	if e.Version() > 1 {
		return fmt.Sprintf("%s v%d", e.Type(), e.Version())
	}
	return e.Type()
}

func number(e event.Event) string {
	if e.Sequence() == 0 {
		return ""
	}
	return fmt.Sprintf(" #%d", e.Sequence())
}

func data(e event.Event) string {
	var compact bytes.Buffer
	if json.Compact(&compact, e.Data()) == nil {
		return compact.String()
	}
	return fmt.Sprintf("%s, %d bytes: %q", e.ContentType(), len(e.Data()), ellipsis(string(e.Data()), 60))
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func showJSON(out io.Writer, e event.Event) error {
	raw, err := event.MarshalCloudEvent(e)
	if err != nil {
		return err
	}
	_, err = out.Write(append(raw, '\n'))
	return err
}

func showUndecodableJSON(out io.Writer, r *kgo.Record, why error) error {
	type header struct {
		Key   string `json:"key"`
		Value []byte `json:"value"`
	}
	headers := make([]header, len(r.Headers))
	for i, h := range r.Headers {
		headers[i] = header(h)
	}
	raw, err := json.Marshal(struct {
		Undecodable string    `json:"undecodable"`
		Topic       string    `json:"topic"`
		Partition   int32     `json:"partition"`
		Offset      int64     `json:"offset"`
		Time        time.Time `json:"time"`
		Key         []byte    `json:"key"`
		Value       []byte    `json:"value"`
		Headers     []header  `json:"headers"`
	}{why.Error(), r.Topic, r.Partition, r.Offset, r.Timestamp.UTC(), r.Key, r.Value, headers})
	if err != nil {
		return err
	}
	_, err = out.Write(append(raw, '\n'))
	return err
}

func kafkaRecord(r *kgo.Record) event.KafkaRecord {
	k := event.KafkaRecord{Key: r.Key, Value: r.Value}
	if len(r.Headers) > 0 {
		k.Headers = make([]event.KafkaHeader, len(r.Headers))
		for i, h := range r.Headers {
			k.Headers[i] = event.KafkaHeader(h)
		}
	}
	return k
}
