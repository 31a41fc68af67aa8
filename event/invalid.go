package event

import (
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// InvalidError says which field of an event cannot be accepted, by New or by a
// decoder, and what would do.
type InvalidError struct {
	// Field is the field of Draft in lower case, such as "aggregate.id", or
	// "header " and a name; from a decoder it is the attribute's wire name.
	Field string
	// Value is what was given, as text.
	Value string
	// Reason says what is wrong with it and what would do.
	Reason string
}

// Error names the field, its value, shortened, and the reason.
func (e *InvalidError) Error() string {
	return fmt.Sprintf("invalid event: %s %s: %s", e.Field, quoteShort(e.Value), e.Reason)
}

// quoteShort keeps a hostile value from filling the log.
func quoteShort(s string) string {
	const limit = 80
	if len(s) <= limit {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%q... (%d bytes)", strings.ToValidUTF8(s[:limit], ""), len(s))
}

// checkString holds s to the String type of CloudEvents 1.0.2, section 3.1:
// valid UTF-8 without control characters and noncharacters.
func checkString(field, s string) error {
	if plainASCII(s) {
		return nil
	}
	for i, r := range s {
		switch {
		case r == utf8.RuneError:
			if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
				return &InvalidError{field, s, fmt.Sprintf("is not valid UTF-8 at byte %d: send text, or put bytes into the data", i)}
			}
		case r < 0x20, r >= 0x7f && r < 0xa0:
			return &InvalidError{field, s, fmt.Sprintf("has the control character %U at byte %d: CloudEvents forbids them in attributes", r, i)}
		case r >= 0xfdd0 && r <= 0xfdef, r&0xfffe == 0xfffe:
			return &InvalidError{field, s, fmt.Sprintf("has the noncharacter %U at byte %d: CloudEvents forbids them in attributes", r, i)}
		}
	}
	return nil
}

func plainASCII(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// checkHeaderName holds name to what Kafka, HTTP and JSON can all carry: the
// naming of attributes in CloudEvents 1.0.2, section 3.1.
func checkHeaderName(name string) error {
	if !validAttributeName(name) {
		return &InvalidError{"header name", name, "must be made of a-z and 0-9 only: CloudEvents allows no other attribute names, so that Kafka and HTTP can carry them"}
	}
	if name == "data" || lookUp(name) != attrNone {
		return &InvalidError{"header name", name, "is an attribute of its own: set the field of Draft, or take another name"}
	}
	return nil
}

func validAttributeName(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// checkURI refuses what RFC 3986 does not allow in a URI reference.
func checkURI(field, s string, absolute bool) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil {
		return &InvalidError{field, s, "is no URI reference (" + err.Error() + ")"}
	}
	if i := strings.IndexAny(s, " \"<>\\^`{|}"); i >= 0 {
		return &InvalidError{field, s, fmt.Sprintf("is no URI reference: %q must be percent-encoded", s[i])}
	}
	if absolute && !u.IsAbs() {
		return &InvalidError{field, s, `is no absolute URI: give one with a scheme, such as "https://schemas.example/order.json"`}
	}
	return nil
}

// checkTime keeps t within what RFC 3339 can write, and refuses Go's zero time,
// which is some producer's field that nobody set.
func checkTime(field string, t time.Time) error {
	switch {
	case t.IsZero():
		return &InvalidError{field, t.Format(time.RFC3339), "is the zero time: send when it happened, or leave the attribute out"}
	case t.Year() < 0 || t.Year() > 9999:
		return &InvalidError{field, t.String(), "is outside the years 0 to 9999 in UTC: RFC 3339 cannot write it"}
	}
	return nil
}
