package demo

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/tidings-bus/tidings/admin"
	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/router"
	"github.com/tidings-bus/tidings/subscriber"
)

// Member is one process of a consuming service: billing, shipping or mail.
type Member struct {
	Service    string
	Connection connection.Config
	Store      StoreConfig
	// Topic to read. Empty: "order".
	Topic string
	// Group to read as. Empty: the service's name.
	Group string
	// Instance, when set, makes it a static member: see subscriber.Config.
	Instance string
	// MailURL is the mail provider's, of the service mail.
	MailURL string
	// Admin is the address of the admin port. Empty: none.
	Admin string
	// Logger. Nil: slog.Default().
	Logger *slog.Logger
}

func (m Member) validate() error {
	for _, s := range services {
		if s.name == m.Service {
			if m.Service == mail && m.MailURL == "" {
				return fmt.Errorf("service %s needs the mail provider's URL", mail)
			}
			return m.Store.validate()
		}
	}
	return fmt.Errorf("service %q is none of billing, shipping, mail", m.Service)
}

// Stats are what a service counts while it runs.
type Stats struct {
	Ready   bool `json:"ready,omitempty"`
	Applied int  `json:"applied,omitempty"`
	Refused int  `json:"refused,omitempty"` // duplicates
	Retries int  `json:"retries,omitempty"`
	Held    int  `json:"held,omitempty"`
}

// statsEvery is how often a service reports its stats.
const statsEvery = 200 * time.Millisecond

// Run handles events until ctx ends. Stats, when it is given, hears now and
// then how the service stands, from one goroutine at a time.
func (m Member) Run(ctx context.Context, stats func(Stats)) error {
	if err := m.validate(); err != nil {
		return err
	}
	m.Topic, m.Group = orElse(m.Topic, aggregateType), orElse(m.Group, m.Service)
	if m.Logger == nil {
		m.Logger = slog.Default()
	}
	db, err := openStore(ctx, m.Store)
	if err != nil {
		return err
	}
	defer db.close()
	registry := prometheus.NewRegistry()
	r, err := m.router(db, registry)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	if m.Admin != "" {
		srv, err := admin.New(admin.Config{Addr: m.Admin, Registry: registry, Logger: m.Logger, Checks: []admin.Check{
			{Name: "router", Live: r.Live, Ready: r.Ready, Warnings: r.Warnings},
		}})
		if err != nil {
			return err
		}
		g.Go(func() error { return srv.Run(ctx) })
	}
	g.Go(func() error { return r.Run(ctx) })
	if stats != nil {
		g.Go(func() error {
			m.report(ctx, r, registry, stats)
			return nil
		})
	}
	err = g.Wait()
	if stats != nil {
		stats(gather(registry))
	}
	return err
}

func (m Member) router(db store, registry *prometheus.Registry) (*router.Router, error) {
	cat, err := catalog()
	if err != nil {
		return nil, err
	}
	hs, err := db.handlers(role{service: m.Service, member: m.Instance, mailer: newMailer(m.MailURL)})
	if err != nil {
		return nil, err
	}
	sub, err := subscriber.New(subscriber.Config{
		Connection: m.Connection,
		Group:      m.Group,
		InstanceID: m.Instance,
		Logger:     m.Logger,
		Metrics:    registry,
	})
	if err != nil {
		return nil, err
	}
	r, err := router.New(router.Config{Group: m.Group, Catalog: cat, Logger: m.Logger, Metrics: registry})
	if err != nil {
		return nil, err
	}
	return r, r.Subscribe(router.Subscription{Topic: m.Topic, Subscriber: sub, Handlers: hs})
}

func (m Member) report(ctx context.Context, r *router.Router, registry *prometheus.Registry, stats func(Stats)) {
	tick := time.NewTicker(statsEvery)
	defer tick.Stop()
	for {
		s := gather(registry)
		s.Ready = r.Ready(ctx) == nil
		stats(s)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// gather reads the router's own metrics.
func gather(registry *prometheus.Registry) Stats {
	var s Stats
	families, err := registry.Gather()
	if err != nil {
		return s
	}
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			outcome := ""
			for _, l := range metric.GetLabel() {
				if l.GetName() == "outcome" {
					outcome = l.GetValue()
				}
			}
			switch {
			case f.GetName() == "tidings_router_events_total" && outcome == "applied":
				s.Applied += int(metric.GetCounter().GetValue())
			case f.GetName() == "tidings_router_events_total" && outcome == "duplicate":
				s.Refused += int(metric.GetCounter().GetValue())
			case f.GetName() == "tidings_router_retries_total":
				s.Retries += int(metric.GetCounter().GetValue())
			case f.GetName() == "tidings_router_held_keys":
				s.Held += int(metric.GetGauge().GetValue())
			}
		}
	}
	return s
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
