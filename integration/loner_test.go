package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/deadletter/kafkastore"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/router"
	"github.com/tidings-bus/tidings/subscriber"
)

// loner is a process of a group that has no database: plain handlers, whose
// effects are records of a topic, and whose dead letters are in Kafka.
type loner struct {
	Name     string
	Group    string
	Brokers  []string
	Topic    string
	Ledger   string // topic of one partition: what took effect, in order
	Parked   string // topic of the dead letters
	Handlers []string
	// Work is how long an effect takes.
	Work time.Duration
	// Poison is the sequence that fails in the first handler, by key.
	Poison map[string]int64
	// Cured is a file: once it is there nothing fails any more.
	Cured string
}

// line is an effect in the ledger.
type line struct {
	Handler  string
	Key      string
	Sequence int64
	Member   string
	Cured    bool
}

const (
	lonerSession = 6 * time.Second
	lonerLease   = 3 * time.Second
)

// letters are the group's dead letters, as a process of its own has them.
func (l *loner) letters() (*kafkastore.Store, error) {
	return kafkastore.New(kafkastore.Config{
		Connection: connection.Config{Brokers: l.Brokers, ClientID: l.Name}, Group: l.Group, Topic: l.Parked,
	})
}

// run handles events until ctx ends.
func (l *loner) run(ctx context.Context) error {
	catalog, err := newCatalog()
	if err != nil {
		return err
	}
	store, err := l.letters()
	if err != nil {
		return err
	}
	ledger, err := kgo.NewClient(kgo.SeedBrokers(l.Brokers...), kgo.DefaultProduceTopic(l.Ledger), kgo.ProducerLinger(0))
	if err != nil {
		return fmt.Errorf("connect to the ledger: %w", err)
	}
	defer ledger.Close()
	sub, err := subscriber.New(subscriber.Config{
		Connection: connection.Config{Brokers: l.Brokers, ClientID: l.Name},
		Group:      l.Group, Timings: subscriber.Timings{Session: lonerSession},
	})
	if err != nil {
		return err
	}
	defer func() { _ = sub.Close() }()
	r, err := router.New(router.Config{
		Group: l.Group, Catalog: catalog, Member: l.Name, Metrics: prometheus.NewRegistry(),
		DeadLetters: router.DeadLetters{Poll: 200 * time.Millisecond, Lease: lonerLease},
	})
	if err != nil {
		return err
	}
	hs := make([]handlers.Handler, 0, len(l.Handlers))
	for i, name := range l.Handlers {
		hs = append(hs, handlers.On(name, func(ctx context.Context, e event.Of[orderChanged]) error {
			return l.apply(ctx, ledger, i, e.Event)
		}).ParkIn(store).With(handlers.Settings{Tries: 3, MinBackoff: 10 * time.Millisecond, MaxBackoff: 50 * time.Millisecond}))
	}
	if err := r.Subscribe(router.Subscription{Topic: l.Topic, Subscriber: sub, Handlers: hs}); err != nil {
		return err
	}
	if err := r.Run(ctx); err != nil {
		return err
	}
	return sub.Close()
}

// apply has the effect of an event in a handler.
func (l *loner) apply(ctx context.Context, ledger *kgo.Client, handler int, e event.Event) error {
	if err := work(ctx, l.Work); err != nil {
		return err
	}
	_, err := os.Stat(l.Cured)
	cured := err == nil
	if handler == 0 && !cured && l.Poison[e.Aggregate().ID] == e.Sequence() {
		return errOnPurpose
	}
	text, err := json.Marshal(line{Handler: l.Handlers[handler], Key: e.Aggregate().ID, Sequence: e.Sequence(), Member: l.Name, Cured: cured})
	if err != nil {
		return err
	}
	// What is on its way when ctx ends may arrive: the handler says what became of it.
	return ledger.ProduceSync(context.WithoutCancel(ctx), &kgo.Record{Value: text}).FirstErr()
}
