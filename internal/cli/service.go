package cli

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"sync"

	"github.com/spf13/cobra"

	"github.com/tidings-bus/tidings/admin"
	"github.com/tidings-bus/tidings/internal/broker"
	"github.com/tidings-bus/tidings/internal/demo"
)

// serviceCommand runs one process of the demo's shop: what 'tidings demo' starts,
// and what the containers of the compose file run.
func serviceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:    "service",
		Short:  "Run one service of the demo",
		Hidden: true,
		Args:   noArgs,
		RunE:   showHelp,
	}
	cmd.AddCommand(orderServiceCommand(), brokerServiceCommand(),
		memberCommand("billing", "keep the books of orders"),
		memberCommand("shipping", "hand parcels over"),
		memberCommand("mail", "write to customers"))
	return cmd
}

// serviceFlags are those of every service.
type serviceFlags struct {
	kafka kafkaFlags
	store demo.StoreConfig
	topic string
	admin string
	child bool
}

func (s *serviceFlags) register(cmd *cobra.Command) {
	s.kafka.register(cmd)
	f := cmd.Flags()
	f.StringVar(&s.store.Postgres, "postgres", "", "URL of the service's PostgreSQL database")
	f.StringVar(&s.store.SQLite, "sqlite", "", "path of the service's SQLite database")
	f.BoolVar(&s.store.Migrate, "migrate", false, "migrate the database at start, instead of 'tidings migrate' before")
	f.StringVar(&s.topic, "topic", "order", "topic of the orders' events")
	f.StringVar(&s.admin, "admin", admin.DefaultAddr, "address of the admin port (empty: none)")
	childFlag(cmd, &s.child)
}

func childFlag(cmd *cobra.Command, child *bool) {
	cmd.Flags().BoolVar(child, "child", false, "end when stdin closes, and report on stdout")
	_ = cmd.Flags().MarkHidden("child") // it was defined a line above
}

func memberCommand(service, does string) *cobra.Command {
	var (
		flags serviceFlags
		m     = demo.Member{Service: service}
	)
	cmd := &cobra.Command{
		Use:     service,
		Short:   "Consume orders' events: " + does,
		Example: "  tidings demo service " + service + " --brokers kafka:9092 --postgres postgres://shop@db/shop",
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := flags.kafka.config()
			if err != nil {
				return err
			}
			m.Connection, m.Store, m.Topic, m.Admin = conn, flags.store, flags.topic, flags.admin
			m.Logger = serviceLogger(cmd.ErrOrStderr()).With("service", service)
			ctx, tell := attach(cmd.Context(), flags.child, cmd.InOrStdin(), cmd.OutOrStdout())
			var stats func(demo.Stats)
			if flags.child {
				stats = func(s demo.Stats) { tell(demo.Message{Stats: s}) }
			}
			return m.Run(ctx, stats)
		},
	}
	flags.register(cmd)
	f := cmd.Flags()
	f.StringVar(&m.Group, "group", service, "consumer group")
	f.StringVar(&m.Instance, "instance", "", "name of a static member, unique in the group (default: a dynamic member)")
	if service == "mail" {
		f.StringVar(&m.MailURL, "mail-url", "", "URL of the mail provider")
	}
	return cmd
}

func orderServiceCommand() *cobra.Command {
	var (
		flags serviceFlags
		shop  demo.Shop
	)
	cmd := &cobra.Command{
		Use:     "order",
		Short:   "Place, pay, ship and cancel orders, and publish what happened",
		Example: "  tidings demo service order --rate 20 --brokers kafka:9092 --postgres postgres://shop@db/shop",
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := flags.kafka.config()
			if err != nil {
				return err
			}
			shop.Connection, shop.Store, shop.Topic, shop.Admin = conn, flags.store, flags.topic, flags.admin
			shop.Logger = serviceLogger(cmd.ErrOrStderr()).With("service", "order")
			ctx, tell := attach(cmd.Context(), flags.child, cmd.InOrStdin(), cmd.OutOrStdout())
			return shop.Run(ctx, func() { tell(demo.Message{Stats: demo.Stats{Ready: true}}) })
		},
	}
	flags.register(cmd)
	f := cmd.Flags()
	f.IntVar(&shop.Orders, "orders", 0, "orders to make, with --events")
	f.IntVar(&shop.Events, "events", 0, "events to make in all (0: go on until interrupted)")
	f.Uint64Var(&shop.Seed, "seed", 0, "what happens follows from it, with --events")
	f.Float64Var(&shop.Rate, "rate", 0, "events a second (0: as fast as it goes)")
	f.IntVar(&shop.Workers, "workers", 8, "orders worked on at once")
	f.BoolVar(&shop.WithoutControlTopic, "without-control-topic", false, "record no partition count")
	return cmd
}

func brokerServiceCommand() *cobra.Command {
	var (
		cfg   broker.Config
		child bool
	)
	cmd := &cobra.Command{
		Use:    "broker",
		Short:  "Run the demo's broker",
		Hidden: true,
		Args:   exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Logger = serviceLogger(cmd.ErrOrStderr())
			b, err := broker.Start(cfg)
			if err != nil {
				return err
			}
			defer b.Close()
			ctx, tell := attach(cmd.Context(), true, cmd.InOrStdin(), cmd.OutOrStdout())
			tell(demo.Message{Stats: demo.Stats{Ready: true}, Addr: b.Addr()})
			<-ctx.Done()
			return nil
		},
	}
	cmd.Flags().StringVar(&cfg.Addr, "addr", "127.0.0.1:0", "address to listen on")
	cmd.Flags().StringVar(&cfg.DataDir, "data", "", "directory for topics, records and offsets")
	childFlag(cmd, &child)
	return cmd
}

// attach ties a child process to the one that started it: its context ends when
// stdin does, because it was closed on purpose or because the parent died. What
// is said goes to stdout as lines of JSON. Others are left alone.
func attach(ctx context.Context, child bool, stdin io.Reader, stdout io.Writer) (context.Context, func(demo.Message)) {
	if !child {
		return ctx, func(demo.Message) {}
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, stdin) // ends with the parent
	}()
	var mu sync.Mutex
	enc := json.NewEncoder(stdout)
	return ctx, func(m demo.Message) {
		mu.Lock()
		defer mu.Unlock()
		_ = enc.Encode(m) // a parent that is gone does not listen
	}
}

func serviceLogger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelInfo}))
}
