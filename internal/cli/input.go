package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
)

// maxItem bounds one event of the input: what is longer is bad input, not memory.
const maxItem = 16 << 20

// The forms of input.
const (
	formAuto   = "auto"
	formEvent  = "event"
	formBatch  = "batch"
	formNDJSON = "ndjson"
)

// item is one event of the input, not yet decoded.
type item struct {
	number int // of the line in NDJSON, of the element in a batch; from 1
	raw    []byte
	err    error // it could not be read
}

// input is CloudEvents JSON that can be read several times with bounded memory.
type input struct {
	file *os.File
	form string
	name string
}

// openInput opens path, "-" being stdin, which is spooled to a temporary file:
// everything is checked before anything is sent.
func openInput(path string, stdin io.Reader, form string) (*input, error) {
	in := &input{form: form, name: path}
	var err error
	if path == "-" {
		in.name = "stdin"
		in.file, err = spool(stdin)
	} else {
		in.file, err = os.Open(path) //nolint:gosec // the user says which file
	}
	if err != nil {
		return nil, err
	}
	if form == formAuto {
		if in.form, err = in.guess(); err != nil {
			in.close()
			return nil, fmt.Errorf("reading %s: %w", in.name, err)
		}
	}
	return in, nil
}

func spool(r io.Reader) (*os.File, error) {
	f, err := os.CreateTemp("", "tidings-publish-*")
	if err != nil {
		return nil, fmt.Errorf("spooling stdin: %w", err)
	}
	// Unlinked at once: it disappears with the process, however that ends.
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("spooling stdin: %w", err)
	}
	if _, err := io.Copy(f, r); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("spooling stdin: %w", err)
	}
	return f, nil
}

func (in *input) close() { _ = in.file.Close() }

// unit is what a number counts.
func (in *input) unit() string {
	if in.form == formNDJSON {
		return "line"
	}
	return "event"
}

// guess tells the forms apart: a batch opens with a bracket; in NDJSON the first
// line is a whole object; a single event may run over many lines.
func (in *input) guess() (string, error) {
	if _, err := in.file.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	r := bufio.NewReaderSize(in.file, 64<<10)
	for {
		line, err := readLine(r)
		if err != nil && !errors.Is(err, errTooLong) {
			if errors.Is(err, io.EOF) {
				return formNDJSON, nil // empty
			}
			return "", err
		}
		line = bytes.TrimSpace(line)
		switch {
		case len(line) == 0 && err == nil:
			continue
		case bytes.HasPrefix(line, []byte("[")):
			return formBatch, nil
		case bytes.HasPrefix(line, []byte("{")) && !json.Valid(line) && in.oneObject():
			return formEvent, nil
		}
		return formNDJSON, nil
	}
}

func (in *input) oneObject() bool {
	if _, err := in.file.Seek(0, io.SeekStart); err != nil {
		return false
	}
	dec := json.NewDecoder(io.LimitReader(in.file, maxItem))
	var raw json.RawMessage
	if dec.Decode(&raw) != nil {
		return false
	}
	_, err := dec.Token()
	return errors.Is(err, io.EOF)
}

// items reads the input from its start.
func (in *input) items() iter.Seq[item] {
	return func(yield func(item) bool) {
		if _, err := in.file.Seek(0, io.SeekStart); err != nil {
			yield(item{number: 1, err: err})
			return
		}
		switch in.form {
		case formBatch:
			batchItems(in.file, yield)
		case formEvent:
			raw, err := io.ReadAll(io.LimitReader(in.file, maxItem+1))
			if err == nil && len(raw) > maxItem {
				err = errTooLong
			}
			yield(item{number: 1, raw: raw, err: err})
		default:
			lineItems(in.file, yield)
		}
	}
}

var errTooLong = fmt.Errorf("longer than %d MiB", maxItem>>20)

func lineItems(r io.Reader, yield func(item) bool) {
	br := bufio.NewReaderSize(r, 64<<10)
	for n := 1; ; n++ {
		line, err := readLine(br)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil && !errors.Is(err, errTooLong) {
			yield(item{number: n, err: err})
			return
		}
		if err == nil && len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if !yield(item{number: n, raw: line, err: err}) {
			return
		}
	}
}

// readLine returns the next line without its end, io.EOF after the last, or
// errTooLong with the line's beginning, having skipped the rest of it.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	tooLong := false
	for {
		part, err := r.ReadSlice('\n')
		if !tooLong {
			line = append(line, part...)
			tooLong = len(line) > maxItem
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && (!errors.Is(err, io.EOF) || len(line) == 0):
			return nil, err
		case tooLong:
			return line[:64], errTooLong
		}
		return bytes.TrimRight(line, "\r\n"), nil
	}
}

func batchItems(r io.Reader, yield func(item) bool) {
	budget := &budgetReader{r: r, left: maxItem}
	dec := json.NewDecoder(budget)
	tok, err := dec.Token()
	if err == nil && tok != json.Delim('[') {
		err = errors.New("a batch is a JSON array of events: it opens with [")
	}
	if err != nil {
		yield(item{number: 1, err: jsonError(err)})
		return
	}
	n := 1
	for ; dec.More(); n++ {
		budget.left = maxItem
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			yield(item{number: n, err: jsonError(err)})
			return // the rest of a broken array cannot be told apart
		}
		if !yield(item{number: n, raw: raw}) {
			return
		}
	}
	if _, err := dec.Token(); err != nil {
		yield(item{number: n, err: fmt.Errorf("the array is not closed: %w", jsonError(err))})
		return
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		yield(item{number: n, err: errors.New("there is something after the end of the array")})
	}
}

// invalidJSON says where raw stops being JSON.
func invalidJSON(raw []byte) error {
	var v any
	err := json.Unmarshal(raw, &v)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) && syntax.Offset >= int64(len(raw)) {
		return errors.New("invalid JSON: it ends in the middle")
	}
	if errors.As(err, &syntax) {
		return fmt.Errorf("invalid JSON at byte %d: %w", syntax.Offset, err)
	}
	return fmt.Errorf("invalid JSON: %w", err)
}

func jsonError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("invalid JSON: it ends in the middle")
	}
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		return fmt.Errorf("invalid JSON: %w", err)
	}
	return err
}

// budgetReader fails when more than the budget is read before it is renewed.
type budgetReader struct {
	r    io.Reader
	left int
}

func (b *budgetReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLong
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
