package event

import (
	"errors"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonScanner walks JSON that is known to be valid. It only moves forward, so
// its work is bounded by the length of its input.
type jsonScanner struct {
	b []byte
	i int
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func (s *jsonScanner) skipSpace() {
	for s.i < len(s.b) && isSpace(s.b[s.i]) {
		s.i++
	}
}

// more moves to the next element and reports whether there is one before end.
func (s *jsonScanner) more(end byte) bool {
	s.skipSpace()
	if s.b[s.i] == ',' {
		s.i++
		s.skipSpace()
	}
	if s.b[s.i] == end {
		s.i++
		return false
	}
	return true
}

// value returns the value that begins here and moves behind it.
func (s *jsonScanner) value() []byte {
	from := s.i
	depth := 0
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case '"':
			s.skipString()
			if depth == 0 {
				return s.b[from:s.i]
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 { // the end of what this number or word stands in
				return s.b[from:s.i]
			}
			if depth--; depth == 0 {
				s.i++
				return s.b[from:s.i]
			}
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return s.b[from:s.i]
			}
		}
		s.i++
	}
	return s.b[from:s.i]
}

func (s *jsonScanner) skipString() {
	for s.i++; s.b[s.i] != '"'; s.i++ {
		if s.b[s.i] == '\\' {
			s.i++
		}
	}
	s.i++
}

var errLoneSurrogate = errors.New("has half a surrogate pair: no UTF-8 text can hold it")

// unquote returns the text of a valid JSON string. Unlike encoding/json it
// refuses lone surrogates instead of replacing them.
func unquote(q []byte) (string, error) {
	q = q[1 : len(q)-1]
	plain := !slices.Contains(q, '\\')
	if plain {
		return string(q), nil
	}
	b := make([]byte, 0, len(q))
	for i := 0; i < len(q); i++ {
		if q[i] != '\\' {
			b = append(b, q[i])
			continue
		}
		i++
		switch q[i] {
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			r := hex4(q[i+1:])
			i += 4
			if utf16.IsSurrogate(r) {
				if len(q) < i+7 || q[i+1] != '\\' || q[i+2] != 'u' {
					return "", errLoneSurrogate
				}
				if r = utf16.DecodeRune(r, hex4(q[i+3:])); r == utf8.RuneError {
					return "", errLoneSurrogate
				}
				i += 6
			}
			b = utf8.AppendRune(b, r)
		default: // quote, backslash, slash
			b = append(b, q[i])
		}
	}
	return string(b), nil
}

func hex4(q []byte) rune {
	n, _ := strconv.ParseUint(string(q[:4]), 16, 32) // four hex digits, or it were no valid JSON
	return rune(n)                                   //nolint:gosec // 16 bits
}

// appendString writes s, valid UTF-8, as a JSON string.
func appendString(b []byte, s string) []byte {
	const hexDigits = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := range len(s) {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
		}
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}
