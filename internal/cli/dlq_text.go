package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/tidings-bus/tidings/deadletter"
)

// isTerminal tells whether r or w is one.
func isTerminal(rw any) bool {
	f, ok := rw.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// age is how long before now t was, to two units.
func age(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := max(0, now.Sub(t))
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// in is how long after now t is.
func in(t, now time.Time) string {
	if !t.After(now) {
		return "now"
	}
	return "in " + age(now, t)
}

// size is n bytes for people.
func size(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000*1000:
		return fmt.Sprintf("%.1f kB", float64(n)/1000)
	case n < 1000*1000*1000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

// counted is "1 key", "2 keys".
func counted(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func stamp(t time.Time) string { return t.UTC().Format(timeLayout) + " UTC" }

// bytesJSON is b as exports write bytes: null, a text, or {"base64": "..."}.
func bytesJSON(b []byte) json.RawMessage {
	var object struct {
		Bytes json.RawMessage `json:"bytes"`
	}
	raw, err := deadletter.MarshalBytes("bytes", b)
	if err == nil {
		err = json.Unmarshal(raw, &object)
	}
	if err != nil {
		return json.RawMessage("null")
	}
	return object.Bytes
}

// instant is t in JSON, or nil for the zero time.
func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// printLine writes v as one line of JSON.
func printLine(w io.Writer, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(raw, '\n'))
	return err
}
