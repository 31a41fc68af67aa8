package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

var measures = []measure{
	publishBatch,
	publishMany,
	publishLone,
	consume10ms,
	consume0ms,
	consumeSQL,
	lanesDropIn10ms,
	lanesPC0ms,
	lanesPC1ms,
	lanesPC10ms,
	routerOverhead,
	inboxEffect,
	inboxBatch,
	parkedOthers,
	dlqList,
	rebalance,
}

func main() {
	begin := run
	if spec := os.Getenv(memberEnv); spec != "" {
		begin = func() error { return runMember(spec) }
	}
	if err := begin(); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	only := flag.String("only", "", "measures to take, by name, separated by commas; empty: all")
	rounds := flag.Int("rounds", 3, "rounds of each measure")
	seconds := flag.Int("seconds", 5, "length of one side of one round, in seconds")
	out := flag.String("out", "results.json", "where the results are written as JSON")
	profile := flag.String("cpuprofile", "", "write a CPU profile of this process here")
	strict := flag.Bool("strict", false, "fail when a goal is not reached")
	side := flag.String("side", "", "run one side alone, ours or peer, to profile it")
	list := flag.Bool("list", false, "list the measures and stop")
	flag.Parse()
	if *rounds < 1 || *seconds < 1 {
		return fmt.Errorf("-rounds %d and -seconds %d: at least 1 each", *rounds, *seconds)
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	if *list {
		for _, m := range chosen {
			_, _ = fmt.Fprintf(os.Stdout, "%-17s %s\n", m.name, m.what)
			for _, p := range m.parts {
				_, _ = fmt.Fprintf(os.Stdout, "  %-25s %s\n", p.name, p.what)
			}
		}
		return nil
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	e := &env{}
	defer func() { err = join(err, e.close()) }()

	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer func() { pprof.StopCPUProfile(); err = join(err, f.Close()) }()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
	}

	var results []result
	for _, m := range chosen {
		r, err := m.run(ctx, e, *side, *rounds, time.Duration(*seconds)*time.Second)
		if errors.Is(err, errLeftOut) {
			e.logf("%v", err)
			continue
		}
		if err != nil {
			return err
		}
		results = append(results, r...)
	}
	if *side != "" {
		return nil // half a comparison is no result
	}
	table(results)
	if err := write(*out, results); err != nil {
		return err
	}
	if missed := missing(results); *strict && len(missed) > 0 {
		return fmt.Errorf("goals not reached: %s", strings.Join(missed, ", "))
	}
	return nil
}

func choose(only string) ([]measure, error) {
	if only == "" {
		return measures, nil
	}
	var chosen []measure
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(measures, func(m measure) bool { return m.goes(strings.TrimSpace(name)) })
		if i < 0 {
			var known []string
			for _, m := range measures {
				known = append(known, m.name)
			}
			return nil, fmt.Errorf("no measure is called %q; there are %s", name, strings.Join(known, ", "))
		}
		chosen = append(chosen, measures[i])
	}
	return chosen, nil
}

func table(results []result) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "measure\tours\tpeer\tunit\tby\tfigure\tspread\tgoal\tholds\t")
	for _, r := range results {
		holds, peer, kind := "yes", fmt.Sprintf("%.4g", r.Peer), string(r.By)
		if !r.Holds {
			holds = "NO"
		}
		switch r.By {
		case byRatio:
			kind = "ratio"
		case alone:
			peer = "-"
		case byDifference:
		}
		least, most := r.spread()
		_, _ = fmt.Fprintf(w, "%s\t%.4g\t%s\t%s\t%s\t%.3g\t%.3g-%.3g\t%.3g\t%s\t\n", r.Measure, r.Ours, peer, r.Unit, kind, r.Ratio, least, most, r.Goal, holds)
	}
	_ = w.Flush()
}

// write puts the results into the file. What it has of measures that were not
// taken now stays.
func write(path string, results []result) error {
	var kept []result
	b, err := os.ReadFile(path) //nolint:gosec // the caller names the file
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		if err := json.Unmarshal(b, &kept); err != nil {
			return fmt.Errorf("read the earlier results in %s (move it away to begin anew): %w", path, err)
		}
	}
	for _, r := range results {
		i := slices.IndexFunc(kept, func(k result) bool { return k.Measure == r.Measure })
		if i < 0 {
			kept = append(kept, r)
			continue
		}
		kept[i] = r
	}
	if b, err = json.MarshalIndent(kept, "", "  "); err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o600)
}

func missing(results []result) []string {
	var names []string
	for _, r := range results {
		if !r.Holds {
			names = append(names, r.Measure)
		}
	}
	return names
}
