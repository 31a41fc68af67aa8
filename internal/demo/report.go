package demo

import (
	"io"
	"text/tabwriter"
)

// Print writes the report for people; the last line is the verdict.
func (r Report) Print(out io.Writer) {
	a := r.Audit
	putf(out, "\nAudit, event by event\n\n")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	putf(w, "%s\n", "\tevents\thandled\teffects\trefused\tdoubled\tdisorder\tlost\t")
	for _, s := range a.Services {
		putf(w, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", s.Name, thousands(s.Expected), thousands(s.Handled), thousands(s.Effects),
			thousands(s.Refused), thousands(s.Doubled), thousands(s.OrderBreaks), thousands(s.Lost))
	}
	_ = w.Flush() // out is where it fails, if at all
	putf(out, "\n  refused: duplicates without a second effect; disorder: effects out of order\n")
	putf(out, "  in the topic: %s of %s, %s second copies, %s out of order\n",
		thousands(a.Published), count(a.Events, "event"), thousands(a.Copies), thousands(a.LogBreaks))
	putf(out, "  on purpose: %s published twice, %s,\n    %s of the mail provider\n",
		count(r.PublishedTwice, "event"), count(r.BrokerRestarts, "broker restart"), count(r.MailFailures, "failure"))
	for _, s := range a.Services {
		if s.Explained > 0 {
			putf(out, "  the restart cut handlers of %s off: %s asked for again\n", s.Name, count(s.Explained, "letter"))
		}
	}
	putf(out, "  %s was killed with %s unfinished, and handled %s after its restart\n\n",
		victim, count(r.KilledAmid, "event"), thousands(r.AfterRestart))
	for _, m := range a.Mismatches {
		putf(out, "  MISMATCH  %s\n", m)
	}
	if r.OK {
		putf(out, "OK: %s, each with its effect once and in order, in %.1f s (seed %d)\n", count(a.Events, "event"), r.Seconds, r.Seed)
	} else {
		putf(out, "\nFAILED: the audit does not add up (seed %d)\n", r.Seed)
	}
	if r.Kept != "" {
		putf(out, "Kept: %s\n", r.Kept)
	}
}

func count(n int, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case what[len(what)-1] == 's':
		return thousands(n) + " " + what + "es"
	}
	return thousands(n) + " " + what + "s"
}
