package postgres

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/tidings-bus/tidings/handlers/inbox"
)

// Literals returns args with slices as PostgreSQL writes arrays, which every
// driver can send.
func Literals(args []any) []any {
	out := make([]any, len(args))
	for i, arg := range args {
		switch v := arg.(type) {
		case []string:
			out[i] = literal(v, quote)
		case []*string:
			out[i] = literal(v, func(to *strings.Builder, s *string) {
				if s == nil {
					to.WriteString("NULL")
					return
				}
				quote(to, *s)
			})
		case [][]byte:
			out[i] = literal(v, func(to *strings.Builder, b []byte) {
				to.WriteString(`"\\x`)
				to.WriteString(hex.EncodeToString(b))
				to.WriteByte('"')
			})
		case [][16]byte:
			out[i] = literal(v, func(to *strings.Builder, id [16]byte) { to.WriteString(uuid.UUID(id).String()) })
		case []bool:
			out[i] = literal(v, func(to *strings.Builder, b bool) { to.WriteString(strconv.FormatBool(b)) })
		case []int32:
			out[i] = literal(v, func(to *strings.Builder, n int32) { to.WriteString(strconv.FormatInt(int64(n), 10)) })
		case []int64:
			out[i] = literal(v, func(to *strings.Builder, n int64) { to.WriteString(strconv.FormatInt(n, 10)) })
		case []*int64:
			out[i] = literal(v, func(to *strings.Builder, n *int64) {
				if n == nil {
					to.WriteString("NULL")
					return
				}
				to.WriteString(strconv.FormatInt(*n, 10))
			})
		default:
			out[i] = arg
		}
	}
	return out
}

func literal[E any](elements []E, write func(to *strings.Builder, e E)) string {
	var to strings.Builder
	to.WriteByte('{')
	for i, e := range elements {
		if i > 0 {
			to.WriteByte(',')
		}
		write(&to, e)
	}
	to.WriteByte('}')
	return to.String()
}

func quote(to *strings.Builder, s string) {
	to.WriteByte('"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			to.WriteByte('\\')
		}
		to.WriteByte(s[i])
	}
	to.WriteByte('"')
}

// NotAdmittedBatch returns the error of a batch's admission that failed by err.
func NotAdmittedBatch(as []inbox.Admission, err error, hopeless bool) error {
	h := as[0].Handler
	switch {
	case errors.Is(err, inbox.ErrFull):
		return err
	case hopeless:
		return fmt.Errorf("ask the inbox for %d events, handler %q of group %q: the database refuses them: %w", len(as), h.Name, h.Group, err)
	}
	return fmt.Errorf("ask the inbox for %d events, handler %q of group %q: %w: %w", len(as), h.Name, h.Group, inbox.ErrNotAdmitted, err)
}
