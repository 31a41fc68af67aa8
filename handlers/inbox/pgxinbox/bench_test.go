package pgxinbox_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tidings-bus/tidings/handlers/inbox/pgxinbox"
)

// BenchmarkEffect compares, in one run and alternating, a transaction with one
// insert and the same one admitted by the inbox, over 16 connections.
func BenchmarkEffect(b *testing.B) {
	const workers, rounds, keys = 16, 6, 64
	_, pool := migrated(b)
	config := pool.Config()
	config.MaxConns = workers
	wide := openConfig(b, config)
	box := newInbox(b, pgxinbox.Config{Pool: wide})
	ctx, cancel := context.WithCancel(b.Context())
	kept := make(chan error, 1)
	go func() { kept <- box.Keep(ctx) }()
	for len(partitions(b, pool)) == 0 {
		time.Sleep(time.Millisecond)
	}

	bare := func(worker, i int) error {
		return pgx.BeginFunc(b.Context(), wide, func(tx pgx.Tx) error {
			return put(b.Context(), tx, fmt.Sprintf("o-%d-%d", worker, i%keys), "e")
		})
	}
	var sequence [workers]int64
	admitted := func(worker, i int) error {
		key := fmt.Sprintf("o-%d-%d", worker, i%keys)
		a := admission(key)
		sequence[worker]++
		a.EventID, a.Source, a.AggregateType, a.AggregateID, a.Sequence, a.Place.Offset = uuid.Must(uuid.NewV7()), "/orders", "order", key, sequence[worker], sequence[worker]
		_, err := box.Apply(b.Context(), a, func(ctx context.Context, tx pgx.Tx) error { return put(ctx, tx, key, "e") })
		return err
	}
	measure := func(n int, f func(worker, i int) error) time.Duration {
		started := time.Now()
		var group errgroup.Group
		for worker := range workers {
			group.Go(func() error {
				for i := range n {
					if err := f(worker, i); err != nil {
						return err
					}
				}
				return nil
			})
		}
		require.NoError(b, group.Wait())
		return time.Since(started)
	}
	measure(50, bare)
	measure(50, admitted)
	n := max(b.N/workers/rounds, 1)
	var plain, withInbox time.Duration
	b.ResetTimer()
	for range rounds {
		plain += measure(n, bare)
		withInbox += measure(n, admitted)
	}
	b.StopTimer()
	total := float64(n * workers * rounds)
	b.ReportMetric(total/plain.Seconds(), "bare/s")
	b.ReportMetric(total/withInbox.Seconds(), "admitted/s")
	b.ReportMetric(plain.Seconds()/withInbox.Seconds(), "of-bare")
	cancel()
	require.NoError(b, <-kept)
}
