package event

import (
	"slices"
	"strings"
)

// traceParentSize is the length of a traceparent of version 00.
const traceParentSize = 55

// validTraceParent tells whether s is a traceparent by W3C Trace Context,
// section 3.2: version 00 exactly, later versions as far as their first 55
// characters go.
func validTraceParent(s string) bool {
	const size = traceParentSize
	if len(s) < size || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return false
	}
	version, trace, parent, flags := s[:2], s[3:35], s[36:52], s[53:55]
	if !lowerHex(version) || !lowerHex(trace) || !lowerHex(parent) || !lowerHex(flags) {
		return false
	}
	if version == "ff" || strings.Trim(trace, "0") == "" || strings.Trim(parent, "0") == "" {
		return false
	}
	if version == "00" {
		return len(s) == size
	}
	return len(s) == size || s[size] == '-'
}

func lowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// validTraceState tells whether s is a tracestate by W3C Trace Context, section
// 3.3: up to 32 key=value members, empty ones allowed, keys unique.
func validTraceState(s string) bool {
	const most = 32
	var keys [most]string
	n := 0
	for rest, more := s, true; more; {
		var member string
		member, rest, more = strings.Cut(rest, ",")
		member = strings.Trim(member, " \t")
		if member == "" {
			continue
		}
		key, value, ok := strings.Cut(member, "=")
		if !ok || n == most || !validTraceKey(key) || !validTraceValue(value) {
			return false
		}
		if slices.Contains(keys[:n], key) {
			return false
		}
		keys[n] = key
		n++
	}
	return true
}

func validTraceKey(key string) bool {
	if key == "" || len(key) > 256 {
		return false
	}
	for i := range len(key) {
		c := key[i]
		alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || !strings.ContainsRune("_-*/@", rune(c))) {
			return false
		}
	}
	return true
}

func validTraceValue(value string) bool {
	if value == "" || len(value) > 256 || value[len(value)-1] == ' ' {
		return false
	}
	for i := range len(value) {
		if c := value[i]; c < 0x20 || c > 0x7e || c == ',' || c == '=' {
			return false
		}
	}
	return true
}
