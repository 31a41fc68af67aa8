package demo

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
)

// bar is the progress of one service.
type bar struct {
	name  string
	done  int
	total int
	note  string
}

// screen shows progress: bars that are redrawn in place on a terminal, plain
// lines elsewhere. Nil shows nothing.
type screen struct {
	out   io.Writer
	width func() int // columns of the terminal; nil: it is none
	begun time.Time

	mu    sync.Mutex
	drawn int       // lines of the bars on the terminal
	plain time.Time // of the last plain line
	last  string    // plain line
}

// plainEvery is how often progress is printed without a terminal.
const plainEvery = time.Second

func newScreen(out io.Writer, width func() int) *screen {
	if out == nil {
		return nil
	}
	return &screen{out: out, width: width, begun: time.Now()}
}

// sayf prints a line that stays, above the bars.
func (s *screen) sayf(format string, args ...any) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	putf(s.out, "%5.1f s  %s\n", time.Since(s.begun).Seconds(), fmt.Sprintf(format, args...))
}

// draw shows the bars.
func (s *screen) draw(bars []bar) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.width == nil {
		s.drawPlain(bars)
		return
	}
	var b strings.Builder
	for _, r := range bars {
		line := fmt.Sprintf("  %-9s %s %*s / %s  %s", r.name, blocks(r.done, r.total, 24), len(thousands(r.total)), thousands(r.done), thousands(r.total), r.note)
		// A line that wraps would be two, and the next drawing one line off.
		if runes := []rune(line); len(runes) >= s.width() {
			line = string(runes[:max(0, s.width()-1)])
		}
		b.WriteString(line + "\n")
	}
	s.clear()
	putf(s.out, "%s", b.String())
	s.drawn = len(bars)
}

// clear removes the bars from the terminal; the mutex is held.
func (s *screen) clear() {
	if s.drawn > 0 {
		// ECMA-48: cursor up, erase to the end of the screen.
		putf(s.out, "\x1b[%dA\r\x1b[J", s.drawn)
		s.drawn = 0
	}
}

func (s *screen) drawPlain(bars []bar) {
	if time.Since(s.plain) < plainEvery {
		return
	}
	parts := make([]string, len(bars))
	for i, r := range bars {
		parts[i] = fmt.Sprintf("%s %d/%d", r.name, r.done, r.total)
	}
	line := strings.Join(parts, "  ")
	if line == s.last {
		return
	}
	s.plain, s.last = time.Now(), line
	putf(s.out, "%5.1f s  %s\n", time.Since(s.begun).Seconds(), line)
}

// end leaves the bars as they are and goes on below.
func (s *screen) end() {
	if s != nil {
		s.mu.Lock()
		s.drawn = 0
		s.mu.Unlock()
	}
}

func blocks(done, total, width int) string {
	n := width
	if total > 0 {
		n = min(width, done*width/total)
	}
	return strings.Repeat("█", n) + strings.Repeat("░", width-n)
}

// thousands writes 12345 as 12,345.
func thousands(n int) string {
	if n < 0 {
		return "-" + thousands(-n)
	}
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// putf writes to what people read. What cannot be written there can be told to
// nobody.
func putf(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
