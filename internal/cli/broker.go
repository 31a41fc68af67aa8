package cli

import (
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/tidings-bus/tidings/internal/broker"
)

func brokerCommand() *cobra.Command {
	var cfg broker.Config
	cmd := &cobra.Command{
		Use:   "broker",
		Short: "Run the embedded Kafka-compatible broker, for development",
		Long: `Runs a Kafka-compatible broker in this process until it is interrupted. One node,
no replication: for development and tests. With --data it keeps topics, records
and group offsets over a restart, also after kill -9. Topics are never created
silently: make them with 'tidings topics create'.`,
		Example: `  tidings broker
  tidings broker --addr 127.0.0.1:9092 --data ./kafka`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.Validate(); err != nil {
				return usageError{err}
			}
			cfg.Logger = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
			b, err := broker.Start(cfg)
			if err != nil {
				return err
			}
			defer b.Close()
			where := "in memory"
			if cfg.DataDir != "" {
				where = "in " + cfg.DataDir
			}
			sayf(cmd.OutOrStdout(), "broker ready on %s, data %s; Ctrl-C stops\n", b.Addr(), where)
			<-cmd.Context().Done()
			return nil
		},
	}
	cmd.Flags().StringVar(&cfg.Addr, "addr", "127.0.0.1:9092", "address to listen on and to advertise; port 0 takes a free one")
	cmd.Flags().StringVar(&cfg.DataDir, "data", "", "directory for topics, records and offsets (default: in memory)")
	return cmd
}
