package publisher

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
	"github.com/segmentio/kafka-go/protocol/metadata"
	"github.com/segmentio/kafka-go/sasl"

	"github.com/tidings-bus/tidings/connection"
)

// idleLimit is how long an unused connection is kept for the next request:
// less than the ten minutes after which brokers close it, and than the few
// after which load balancers forget it.
const idleLimit = 3 * time.Minute

// wire is the publisher's own transport: connections to brokers, each used by
// one request at a time in the goroutine that makes it, kept for the next. It
// starts no goroutine, caches no metadata, and hides no cause: what kafka-go's
// Transport does behind its caller's back (refreshing at random moments, asking
// for every topic of the cluster, answering "topic not found" when a password
// is wrong) is what a publisher must be exact about.
//
// It is a kafka.RoundTripper: a kafka.Client on it sends each request to the
// address that the request names.
type wire struct {
	bootstrap      []string
	clientID       string
	tls            *tls.Config
	sasl           sasl.Mechanism
	user           string
	dialTimeout    time.Duration
	requestTimeout time.Duration

	mu     sync.Mutex
	known  []string // brokers named by the last metadata
	idle   map[string][]*link
	open   map[*link]struct{}
	closed bool
}

// link is one connection.
type link struct {
	*protocol.Conn

	address string
	used    time.Time // when it was last given back
	expires time.Time // when its SASL session ends; zero: never
}

// unsentError is an error before the request was written: it cannot have had an
// effect.
type unsentError struct{ err error }

func (e *unsentError) Error() string { return e.err.Error() }
func (e *unsentError) Unwrap() error { return e.err }

func newWire(c connection.Config, dialTimeout, requestTimeout time.Duration) (*wire, error) {
	w := &wire{
		bootstrap:      c.Brokers,
		clientID:       c.Client(),
		dialTimeout:    dialTimeout,
		requestTimeout: requestTimeout,
		idle:           make(map[string][]*link),
		open:           make(map[*link]struct{}),
	}
	if c.TLS != nil {
		w.tls = c.TLS.Clone()
	}
	if c.SASL != nil {
		m, err := mechanism(*c.SASL)
		if err != nil {
			return nil, err
		}
		w.sasl, w.user = m, c.SASL.String()
	}
	return w, nil
}

// RoundTrip sends req to addr and returns the answer.
func (w *wire) RoundTrip(ctx context.Context, addr net.Addr, req kafka.Request) (kafka.Response, error) {
	return w.roundTrip(ctx, addr.String(), req)
}

// roundTrip sends req to the broker at address and waits for the answer, for at
// most the request timeout, or until ctx ends. An *unsentError says that nothing
// was sent.
func (w *wire) roundTrip(ctx context.Context, address string, req protocol.Message) (protocol.Message, error) {
	l, err := w.take(ctx, address)
	if err != nil {
		return nil, &unsentError{fmt.Errorf("broker %s: %w", address, err)}
	}
	deadline := time.Now().Add(w.requestTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	_ = l.SetDeadline(deadline)
	stop := interrupt(ctx, l)
	res, err := l.RoundTrip(req)
	if !stop() || err != nil {
		w.drop(l)
		w.forget(address) // the other idle ones have most likely gone with it
	} else {
		w.give(l)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("broker %s: %w", address, err)
	}
	return res, nil
}

// interrupt ends l's reads and writes when ctx ends. The function returned stops
// that, and is false when it was too late.
func interrupt(ctx context.Context, l *link) func() bool {
	if ctx.Done() == nil {
		return func() bool { return true }
	}
	return context.AfterFunc(ctx, func() { _ = l.SetDeadline(time.Unix(1, 0)) })
}

// take returns an idle connection to address, or a new one.
func (w *wire) take(ctx context.Context, address string) (*link, error) {
	now := time.Now()
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil, ErrClosed
	}
	var stale []*link
	var found *link
	for links := w.idle[address]; found == nil && len(links) > 0; {
		l := links[len(links)-1] // the last used first: the others may age and go
		links = links[:len(links)-1]
		w.idle[address] = links
		if now.Sub(l.used) > idleLimit || (!l.expires.IsZero() && now.After(l.expires)) {
			stale = append(stale, l)
			continue
		}
		found = l
	}
	w.mu.Unlock()
	for _, l := range stale {
		w.drop(l)
	}
	if found != nil {
		return found, nil
	}
	return w.connect(ctx, address)
}

func (w *wire) give(l *link) {
	l.used = time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.idle[l.address] = append(w.idle[l.address], l)
	}
}

func (w *wire) drop(l *link) {
	w.mu.Lock()
	delete(w.open, l)
	w.mu.Unlock()
	_ = l.Close()
}

// forget closes the idle connections to address.
func (w *wire) forget(address string) {
	w.mu.Lock()
	links := w.idle[address]
	delete(w.idle, address)
	w.mu.Unlock()
	for _, l := range links {
		w.drop(l)
	}
}

// close closes every connection, also those in use.
func (w *wire) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for l := range w.open {
		_ = l.Close()
	}
	clear(w.open)
	clear(w.idle)
}

// connect makes a connection to address. Some brokers only hang up on those whose
// credentials they refuse; so does one that stops, but not twice.
func (w *wire) connect(ctx context.Context, address string) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, w.dialTimeout)
	defer cancel()
	l, err := w.dial(ctx, address)
	if errors.Is(err, errHungUp) {
		if l, err = w.dial(ctx, address); errors.Is(err, errHungUp) {
			err = refused(w.user, err)
		}
	}
	return l, err
}

// dial dials address, and negotiates TLS, API versions and authentication.
func (w *wire) dial(ctx context.Context, address string) (*link, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if w.tls != nil {
		config := w.tls
		if config.ServerName == "" {
			config = config.Clone()
			config.ServerName, _, _ = net.SplitHostPort(address)
		}
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("tls handshake: %w: check Connection.TLS", err)
		}
		conn = secure
	}
	l := &link{Conn: protocol.NewConn(conn, w.clientID), address: address}
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		_ = conn.Close()
		return nil, ErrClosed
	}
	w.open[l] = struct{}{}
	w.mu.Unlock()

	deadline, _ := ctx.Deadline()
	_ = l.SetDeadline(deadline)
	stop := interrupt(ctx, l)
	if err := w.greet(ctx, l); err != nil || !stop() {
		w.drop(l)
		if ctx.Err() != nil {
			err = errors.Join(ctx.Err(), err)
		}
		return nil, err
	}
	return l, nil
}

func (w *wire) greet(ctx context.Context, l *link) error {
	m, err := l.RoundTrip(new(apiversions.Request))
	if err != nil {
		if w.tls == nil {
			return fmt.Errorf("negotiate versions: %w (does this listener want TLS? then set Connection.TLS)", err)
		}
		return fmt.Errorf("negotiate versions: %w", err)
	}
	res, _ := m.(*apiversions.Response)
	if res.ErrorCode != 0 {
		return fmt.Errorf("negotiate versions: %w", kafka.Error(res.ErrorCode))
	}
	versions := make(map[protocol.ApiKey]int16, len(res.ApiKeys))
	for _, k := range res.ApiKeys {
		key := protocol.ApiKey(k.ApiKey)
		versions[key] = key.SelectVersion(k.MinVersion, k.MaxVersion)
	}
	l.SetVersions(versions)
	if w.sasl != nil {
		return authenticate(ctx, l, w.sasl, w.user)
	}
	return nil
}

// metadata asks one broker after the other, in random order, until one answers
// for topics; nil asks for all topics, an empty slice for none. Topics are never
// created by it.
func (w *wire) metadata(ctx context.Context, topics []string) (*metadata.Response, error) {
	w.mu.Lock()
	known := append([]string(nil), w.known...)
	w.mu.Unlock()
	rand.Shuffle(len(known), func(i, j int) { known[i], known[j] = known[j], known[i] }) //nolint:gosec // an order is no secret
	seen := make(map[string]bool)
	var causes []error
	for _, address := range append(known, w.bootstrap...) {
		if seen[address] {
			continue
		}
		seen[address] = true
		m, err := w.roundTrip(ctx, address, &metadata.Request{TopicNames: topics})
		if err == nil {
			res, _ := m.(*metadata.Response)
			w.learn(res)
			return res, nil
		}
		causes = append(causes, err)
		if ctx.Err() != nil || fatalConnection(err) {
			break
		}
	}
	last := causes[len(causes)-1]
	if fatalConnection(last) || errors.Is(last, ErrClosed) {
		return nil, last
	}
	return nil, fmt.Errorf("%w of %s: %w", ErrUnreachable, strings.Join(w.bootstrap, ", "), errors.Join(causes...))
}

func (w *wire) learn(res *metadata.Response) {
	known := make([]string, len(res.Brokers))
	for i, b := range res.Brokers {
		known[i] = brokerAddress(b)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.known = known
}

func brokerAddress(b metadata.ResponseBroker) string {
	return net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
}
