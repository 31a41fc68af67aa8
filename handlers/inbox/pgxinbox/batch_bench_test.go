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

	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/handlers/inbox/pgxinbox"
)

// BenchmarkBatch compares, in one run and alternating, events admitted one by
// one with batches of 500, over 16 connections; each effect is one row.
func BenchmarkBatch(b *testing.B) {
	const singles, batches, size, rounds, keys = 16, 16, 500, 4, 1000
	_, pool := migrated(b)
	config := pool.Config()
	config.MaxConns = singles
	wide := openConfig(b, config)
	box := newInbox(b, pgxinbox.Config{Pool: wide})
	ctx, cancel := context.WithCancel(b.Context())
	kept := make(chan error, 1)
	go func() { kept <- box.Keep(ctx) }()
	for len(partitions(b, pool)) == 0 {
		time.Sleep(time.Millisecond)
	}

	sequence := map[string]int64{}
	next := func(lane, i int) inbox.Admission {
		key := fmt.Sprintf("o-%d-%d", lane, i%keys)
		sequence[key]++
		a := admission(key)
		a.EventID, a.Source, a.AggregateType, a.AggregateID, a.Sequence, a.Place.Offset = uuid.Must(uuid.NewV7()), "/orders", "order", key, sequence[key], int64(i)
		return a
	}
	measure := func(lanes [][]inbox.Admission, f func(lane []inbox.Admission) error) time.Duration {
		started := time.Now()
		var group errgroup.Group
		for _, lane := range lanes {
			group.Go(func() error { return f(lane) })
		}
		require.NoError(b, group.Wait())
		return time.Since(started)
	}
	offset := 0
	cut := func(lanes, n int) [][]inbox.Admission {
		all := make([][]inbox.Admission, lanes)
		for l := range all {
			for i := range n {
				all[l] = append(all[l], next(l, offset+i))
			}
		}
		offset += n
		return all
	}
	one := func(lane []inbox.Admission) error {
		for _, a := range lane {
			if _, err := box.Apply(b.Context(), a, func(ctx context.Context, tx pgx.Tx) error { return put(ctx, tx, string(a.Place.Key), "e") }); err != nil {
				return err
			}
		}
		return nil
	}
	many := func(lane []inbox.Admission) error {
		for at := 0; at < len(lane); at += size {
			batch := lane[at : at+size]
			_, err := box.ApplyBatch(b.Context(), batch, func(ctx context.Context, tx pgx.Tx, fresh []int) error {
				names := make([]string, 0, len(fresh))
				for _, i := range fresh {
					names = append(names, string(batch[i].Place.Key))
				}
				_, err := tx.Exec(ctx, `INSERT INTO effect (key, event) SELECT k, 'e' FROM unnest($1::text[]) AS k`, names)
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	measure(cut(singles, 50), one)
	measure(cut(batches, size), many)
	perBatchLane := max(b.N/batches/rounds/size, 1) * size
	perLane := max(perBatchLane*batches/10/singles, 1)
	var oneByOne, inBatches time.Duration
	b.ResetTimer()
	for range rounds {
		oneByOne += measure(cut(singles, perLane), one)
		inBatches += measure(cut(batches, perBatchLane), many)
	}
	b.StopTimer()
	singleRate := float64(perLane*singles*rounds) / oneByOne.Seconds()
	batchRate := float64(perBatchLane*batches*rounds) / inBatches.Seconds()
	b.ReportMetric(singleRate, "one-by-one/s")
	b.ReportMetric(batchRate, "in-batches/s")
	b.ReportMetric(batchRate/singleRate, "times")
	cancel()
	require.NoError(b, <-kept)
}
