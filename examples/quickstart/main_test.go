package main

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/tidings-bus/tidings/internal/broker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEveryOrderIsInvoicedOnceAlsoAfterARestart(t *testing.T) {
	b, err := broker.Start(broker.Config{Addr: "127.0.0.1:0"})
	require.NoError(t, err)
	defer b.Close()
	file := filepath.Join(t.TempDir(), "quickstart.db")
	db, err := open(t.Context(), file)
	require.NoError(t, err)
	defer db.Close()
	for start := 1; start <= 2; start++ { // each start places three orders
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- run(ctx, b.Addr(), file) }()
		require.Eventually(t, func() bool {
			var n int
			require.NoError(t, db.QueryRowContext(t.Context(), `SELECT count(*) FROM invoice`).Scan(&n))
			return n == 3*start
		}, 20*time.Second, 10*time.Millisecond)
		stop()
		require.NoError(t, <-done)
	}
	var sum int
	require.NoError(t, db.QueryRowContext(t.Context(), `SELECT sum(total) FROM invoice`).Scan(&sum))
	require.Equal(t, 2*(100+200+300), sum)
}
