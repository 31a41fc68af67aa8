package demo

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOnATerminalBarsAreRedrawnInPlaceAndNeverWrap(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(&out, func() int { return 50 })
	bars := []bar{{"order", 1234, 5000, strings.Repeat("long ", 20)}, {"mail", 0, 0, ""}}
	s.draw(bars)
	require.Equal(t, "  order     █████░░░░░░░░░░░░░░░░░░░ 1,234 / 5,00\n  mail      ████████████████████████ 0 / 0  \n", out.String())
	out.Reset()
	s.sayf("killed %s", "billing-2")
	require.Equal(t, "\x1b[2A\r\x1b[J  0.0 s  killed billing-2\n", out.String())
	out.Reset()
	s.draw(bars[1:])
	s.draw(bars[1:])
	s.end()
	s.sayf("done")
	require.Equal(t, 1, strings.Count(out.String(), "\x1b[1A\r\x1b[J"), "the first and the last have nothing to clear")
}

func TestElsewhereProgressIsPlainLinesOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		s := newScreen(&out, nil)
		for done := range 25 {
			s.draw([]bar{{"order", done, 25, ""}, {"mail", 0, 3, ""}})
			time.Sleep(100 * time.Millisecond)
		}
		require.Equal(t, "  0.0 s  order 0/25  mail 0/3\n  1.0 s  order 10/25  mail 0/3\n  2.0 s  order 20/25  mail 0/3\n", out.String())
	})
}

func TestWithoutAnOutputNothingIsShown(t *testing.T) {
	s := newScreen(nil, nil)
	s.sayf("x")
	s.draw([]bar{{"order", 1, 2, ""}})
	s.end()
}

func TestNumbersAreGrouped(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -4500: "-4,500"} {
		require.Equal(t, want, thousands(n))
	}
}
