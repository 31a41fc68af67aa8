package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/publisher"
)

// Config says how big the demo is and what it runs on.
type Config struct {
	// Events over Orders, in all. Zero: 5,000 over 500.
	Events int
	Orders int
	// Seed of the orders, the duplicates and the provider's failures.
	Seed uint64

	// Kafka to run on. Nil: an embedded broker, which is also restarted.
	Kafka *Kafka
	// Postgres is the URL of a server to run on, in a database of the demo's
	// own that is dropped afterwards. Empty: SQLite files.
	Postgres string

	// Keep leaves the files, or the database and topic, behind. They are kept
	// after a failure, too.
	Keep bool
	// Timeout bounds the run. Zero: 5 minutes.
	Timeout time.Duration

	// Command makes a command that runs this program with args: the demo's
	// processes are its own. Needed.
	Command func(args ...string) *exec.Cmd
	// Out shows progress: by bars when it is a terminal, whose columns Width
	// tells, by lines when Width is nil. Nil: none is shown.
	Out   io.Writer
	Width func() int
}

// Kafka is a cluster that is not the demo's own.
type Kafka struct {
	Connection connection.Config
	// Options are franz-go's for the same connection.
	Options []kgo.Opt
	// Args are the flags by which a process of the demo gets the same connection.
	Args []string
}

func (c Config) withDefaults() Config {
	if c.Events == 0 {
		c.Events = DefaultEvents
	}
	if c.Orders == 0 {
		c.Orders = max(1, c.Events/10)
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Minute
	}
	return c
}

// Validate reports the first field that cannot be used.
func (c Config) Validate() error {
	c = c.withDefaults()
	switch {
	case c.Events < MinEvents:
		return fmt.Errorf("events: %d are too few: with less than %d there is no middle in which to break things", c.Events, MinEvents)
	case c.Orders < 0:
		return fmt.Errorf("orders: %d must be 1 or more, or 0 for a tenth of the events", c.Orders)
	case c.Events < c.Orders:
		return fmt.Errorf("%d events over %d orders: every order has at least one event; raise the events or lower the orders", c.Events, c.Orders)
	case c.Timeout < 0:
		return fmt.Errorf("timeout %s must be positive", c.Timeout)
	case c.Command == nil:
		return errors.New("demo: Command is nil: give a function that runs this program again")
	}
	return nil
}

const (
	// DefaultEvents is how many events a demo has when nothing else is said.
	DefaultEvents = 5000
	// MinEvents is how few it can have.
	MinEvents = 100
)

// Report is how the demo went.
type Report struct {
	Seed           uint64  `json:"seed"`
	Events         int     `json:"events"`
	Orders         int     `json:"orders"`
	Kafka          string  `json:"kafka"`
	Database       string  `json:"database"`
	Seconds        float64 `json:"seconds"`
	PublishedTwice int     `json:"published_twice"`
	Kills          int     `json:"processes_killed"`
	KilledAmid     int     `json:"unfinished_when_killed"` // events of its partitions
	AfterRestart   int     `json:"handled_after_restart"`  // by the process that was killed
	BrokerRestarts int     `json:"broker_restarts"`
	MailFailures   int     `json:"mail_failures"`
	MailsRepeated  int     `json:"mails_asked_for_again"`
	Audit          Audit   `json:"audit"`
	OK             bool    `json:"ok"`
	Kept           string  `json:"kept,omitempty"` // where the evidence is
	evidence       evidence
}

// Run runs the demo. The error says what kept it from running to its end; an
// audit that does not add up is no error but a Report that is not OK. When it
// returns, everything it started has ended.
func Run(ctx context.Context, cfg Config) (rep Report, err error) {
	if err := cfg.Validate(); err != nil {
		return Report{}, err
	}
	cfg = cfg.withDefaults()
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.Timeout, fmt.Errorf("the demo did not end within %s", cfg.Timeout))
	defer cancel()
	dir, err := os.MkdirTemp("", "tidings-demo-")
	if err != nil {
		return Report{}, fmt.Errorf("making a directory for the demo: %w", err)
	}
	r := &run{
		Config: cfg,
		dir:    dir,
		id:     "demo-" + uuid.Must(uuid.NewV7()).String()[24:],
		screen: newScreen(cfg.Out, cfg.Width),
		begun:  time.Now(),
		live:   map[string]*process{},
		past:   map[string]Stats{},
	}
	rep, err = r.run(ctx)
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = context.Cause(ctx)
	}
	// What an interrupted run leaves proves nothing.
	interrupted := errors.Is(err, context.Canceled)
	err = errors.Join(err, r.end(context.WithoutCancel(ctx), interrupted || err == nil && rep.OK))
	rep.Kept = r.kept
	return rep, err
}

// run is one run of the demo.
type run struct {
	Config

	dir    string
	id     string // unique to the run
	screen *screen
	begun  time.Time

	broker   *process // nil on a cluster of somebody else
	conn     connection.Config
	connArgs []string
	opts     []kgo.Opt
	topic    string
	cluster  *cluster
	provider *provider
	database *database        // nil with SQLite
	stores   map[string]store // by service, for looking
	live     map[string]*process
	past     map[string]Stats // of processes that have ended, by service
	faults   faults
	planned  map[string]int // events by type
	kept     string
}

func (r *run) run(ctx context.Context) (Report, error) {
	rep := Report{Seed: r.Seed, Events: r.Events, Orders: r.Orders, Kafka: "an embedded broker", Database: "SQLite with synchronous=FULL"}
	if r.Kafka != nil {
		rep.Kafka = r.Kafka.Connection.String()
	}
	if r.Postgres != "" {
		rep.Database = "PostgreSQL"
	}
	r.screen.sayf("%s events over %s orders, seed %d", thousands(r.Events), thousands(r.Orders), r.Seed)
	r.screen.sayf("on %s and %s", rep.Kafka, rep.Database)
	if err := r.setUp(ctx); err != nil {
		return rep, err
	}
	if err := r.startServices(ctx); err != nil {
		return rep, err
	}
	if err := r.watch(ctx); err != nil {
		return rep, err
	}
	if err := r.stopServices(); err != nil {
		return rep, err
	}
	ev, err := r.collect(ctx)
	if err != nil {
		return rep, err
	}
	rep.evidence = ev
	rep.Audit = audit(ev)
	if p := r.live[victim]; p != nil && r.faults.kills > 0 {
		r.faults.after = p.said().Applied + p.said().Refused
	}
	rep.Audit.Mismatches = append(rep.Audit.Mismatches, r.faults.missing(r.broker != nil)...)
	rep.Kills, rep.KilledAmid, rep.AfterRestart, rep.BrokerRestarts = r.faults.kills, r.faults.unfinished, r.faults.after, r.faults.restarts
	_, rep.MailFailures, rep.MailsRepeated = r.provider.counts()
	for _, j := range ev.Journal {
		if j.Twice {
			rep.PublishedTwice++
		}
	}
	if rep.Audit.Events != r.Events {
		rep.Audit.Mismatches = append(rep.Audit.Mismatches, fmt.Sprintf("journal: %d events were recorded, %d were asked for", rep.Audit.Events, r.Events))
	}
	rep.OK = rep.Audit.OK()
	rep.Seconds = time.Since(r.begun).Seconds()
	return rep, nil
}

// setUp makes what the services stand on: broker, topic, databases, provider.
func (r *run) setUp(ctx context.Context) (err error) {
	if r.Kafka == nil {
		if err := r.startBroker(ctx, "127.0.0.1:0"); err != nil {
			return err
		}
		addr := *r.broker.addr.Load()
		r.conn = connection.Config{Brokers: []string{addr}, ClientID: "tidings-demo"}
		r.connArgs = []string{"--brokers", addr}
		r.opts = []kgo.Opt{kgo.SeedBrokers(addr)}
		r.topic = aggregateType
		r.screen.sayf("broker on %s, data in %s", addr, r.dir)
	} else {
		r.conn, r.connArgs, r.opts = r.Kafka.Connection, r.Kafka.Args, r.Kafka.Options
		r.topic = "tidings-" + r.id
	}
	if r.cluster, err = openCluster(r.opts, r.topic); err != nil {
		return err
	}
	topics, err := publisher.NewTopics(publisher.TopicsConfig{Connection: r.conn, WithoutControlTopic: r.Kafka != nil})
	if err != nil {
		return err
	}
	defer topics.Close() //nolint:errcheck // it was only asked
	if err := topics.Create(ctx, publisher.TopicSpec{Name: r.topic, Partitions: 6, Retention: 24 * time.Hour}); err != nil {
		return err
	}
	if r.Postgres != "" {
		if r.database, err = createDatabase(ctx, r.Postgres, r.id); err != nil {
			return err
		}
	}
	r.provider, err = startProvider(ctx, r.Seed)
	return err
}

func (r *run) startBroker(ctx context.Context, addr string) error {
	p, err := start("broker", r.dir, r.Command("demo", "service", "broker", "--addr", addr, "--data", r.dir+"/broker"))
	if err != nil {
		return err
	}
	r.broker = p
	return p.awaitReady(ctx)
}

// storeArgs are the flags of a service's database.
func (r *run) storeArgs(service string) []string {
	c := r.storeConfig(service)
	if c.Postgres != "" {
		return []string{"--postgres", c.Postgres, "--migrate"}
	}
	return []string{"--sqlite", c.SQLite, "--migrate"}
}

func (r *run) storeConfig(service string) StoreConfig {
	if r.database != nil {
		return StoreConfig{Postgres: r.database.url}
	}
	return StoreConfig{SQLite: r.dir + "/" + service + ".db"}
}

// members are the processes of the consuming services.
var members = []struct{ name, service string }{
	{"billing-1", billing}, {"billing-2", billing}, {"shipping-1", shipping}, {"mail-1", mail},
}

func (r *run) group(service string) string {
	if r.Kafka == nil {
		return service
	}
	return r.id + "-" + service
}

func (r *run) groups() []string {
	groups := make([]string, len(services))
	for i, s := range services {
		groups[i] = r.group(s.name)
	}
	return groups
}

func (r *run) startMember(name, service string) error {
	args := []string{"demo", "service", service, "--group", r.group(service), "--instance", name, "--topic", r.topic}
	args = append(append(args, r.connArgs...), r.storeArgs(service)...)
	if service == mail {
		args = append(args, "--mail-url", r.provider.url())
	}
	p, err := start(name, r.dir, r.Command(append(args, childArgs...)...))
	if err == nil {
		r.live[name] = p
	}
	return err
}

// childArgs make a service end with its stdin and keep its admin port shut.
var childArgs = []string{"--child", "--admin", ""}

func (r *run) startServices(ctx context.Context) error {
	for _, m := range members {
		if err := r.startMember(m.name, m.service); err != nil {
			return err
		}
	}
	for _, m := range members {
		if err := r.live[m.name].awaitReady(ctx); err != nil {
			return err
		}
	}
	r.screen.sayf("4 processes are ready: billing-1, billing-2, shipping-1, mail-1")
	r.stores = map[string]store{}
	for _, name := range []string{shop, billing, shipping, mail} {
		s, err := openStore(ctx, r.storeConfig(name))
		if err != nil {
			return err
		}
		r.stores[name] = s
	}
	args := []string{
		"demo", "service", shop, "--topic", r.topic,
		"--orders", strconv.Itoa(r.Orders), "--events", strconv.Itoa(r.Events),
		"--seed", strconv.FormatUint(r.Seed, 10), "--rate", strconv.Itoa(max(100, r.Events/publishSeconds)),
	}
	if r.Kafka != nil {
		args = append(args, "--without-control-topic")
	}
	args = append(append(args, r.connArgs...), r.storeArgs(shop)...)
	p, err := start("order-1", r.dir, r.Command(append(args, childArgs...)...))
	if err != nil {
		return err
	}
	r.live["order-1"] = p
	return p.awaitReady(ctx)
}

// shop is the name of the order service.
const shop = "order"

// publishSeconds is about how long the order service takes: long enough to
// break things while it publishes.
const publishSeconds = 6
