package handlers

import "fmt"

// Concurrency bounds how many tries of one handler run at once in one process,
// so that what it depends on is not pushed over. Tries that wait for their turn
// hold the slots of their messages; the wait counts for no timeout. The zero
// value bounds nothing: the subscriber's limits hold, for all handlers together.
type Concurrency struct {
	// Max is the bound. Zero: none; with Adaptive DefaultMaxConcurrency.
	Max int
	// Adaptive finds the bound between Min and Max by itself: it falls while tries
	// get slower the more of them run, and rises while more cost nothing. It learns
	// from tries that went well or ran into their timeout.
	Adaptive bool
	// Min is the least that Adaptive comes to. Zero: 1.
	Min int
}

// DefaultMaxConcurrency is the Max of an adaptive Concurrency that names none.
const DefaultMaxConcurrency = 200

func (c Concurrency) withDefaults() Concurrency {
	if c.Adaptive {
		if c.Max == 0 {
			c.Max = max(DefaultMaxConcurrency, c.Min)
		}
		c.Min = max(c.Min, 1)
	}
	return c
}

func (c Concurrency) validate() error {
	switch {
	case c.Max < 0:
		return fmt.Errorf("settings: Concurrency.Max is %d; use 1 or more, or 0 for no bound", c.Max)
	case c.Min < 0:
		return fmt.Errorf("settings: Concurrency.Min is %d; use 1 or more, or 0 for 1", c.Min)
	case c.Min > 0 && !c.Adaptive:
		return fmt.Errorf("settings: Concurrency.Min is %d, and Adaptive is off; Min is for Adaptive, a fixed bound is Max alone", c.Min)
	case c.Max > 0 && c.Min > c.Max:
		return fmt.Errorf("settings: Concurrency.Min is %d, above Max %d; lower the first or raise the second", c.Min, c.Max)
	}
	return nil
}
