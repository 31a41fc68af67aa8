package lanes

import (
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
)

func TestRandomSchedulesKeepOrderWatermarkAndBounds(t *testing.T) {
	seeds := 120
	if os.Getenv("TIDINGS_TEST_LONG") != "" {
		seeds = 20_000
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(seed), 7))
			m := newModel(t, r.IntN)
			m.logf("seed %d", seed)
			m.open()
			for range 600 {
				m.step()
			}
			m.finish()
		})
	}
}

func FuzzScheduleKeepsOrderWatermarkAndBounds(f *testing.F) {
	f.Add([]byte("add take finish drain"))
	f.Add([]byte{0, 3, 0, 5, 2, 1, 3, 7, 0, 10, 0, 3, 13, 2, 15, 0, 1, 1})
	f.Fuzz(func(t *testing.T, schedule []byte) {
		if len(schedule) > 1024 { // longer ones find no more, slower
			return
		}
		synctest.Test(t, func(t *testing.T) {
			at := 0
			m := newModel(t, func(n int) int {
				if at >= len(schedule) {
					return 0
				}
				at++
				return int(schedule[at-1]) % n
			})
			m.open()
			for at < len(schedule) {
				m.step()
			}
			m.finish()
		})
	})
}
