package subscriber

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/internal/kafka"
)

// connect makes the client that joins the group, after a probe without the group
// has found the brokers and the topic: a member that cannot read would only
// disturb the others.
func (s *subscription) connect(ctx context.Context) error {
	probe, err := kgo.NewClient(kafka.Options(s.config.Connection, s.log)...)
	if err != nil {
		return err
	}
	defer probe.Close()
	if err := reach(ctx, probe, s.config); err != nil {
		return err
	}
	if err := s.checkTopic(ctx, probe); err != nil {
		return err
	}
	if !s.config.WithoutControlTopic {
		s.refreshGroup(ctx, probe)
	}

	// The callbacks must not run before s.client is set: they wait for this.
	s.mu.Lock()
	defer s.mu.Unlock()
	client, err := kgo.NewClient(append(kafka.Options(s.config.Connection, s.log), s.groupOptions()...)...)
	if err != nil {
		return err
	}
	s.client = client
	return nil
}

func (s *subscription) groupOptions() []kgo.Opt {
	c := s.config
	start := kgo.NewOffset().AtStart()
	if c.StartAt == Newest {
		start = kgo.NewOffset().AtEnd()
	}
	opts := []kgo.Opt{
		kgo.ConsumerGroup(c.Group),
		kgo.ConsumeTopics(s.topic),
		// KIP-429: a rebalance stops only the partitions that move.
		kgo.Balancers(s.balancer()),
		kgo.DisableAutoCommit(),
		kgo.ConsumeStartOffset(start),
		// When the committed offset is no longer in the log: rather again than lost.
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // to move the watermark over them
		kgo.SessionTimeout(c.Timings.Session),
		kgo.RebalanceTimeout(c.Timings.Rebalance),
		kgo.HeartbeatInterval(c.Timings.heartbeat()),
		kgo.FetchMaxBytes(c.Fetch.MaxBytes),
		kgo.FetchMaxPartitionBytes(c.Fetch.PartitionMaxBytes),
		kgo.MaxConcurrentFetches(c.Fetch.Concurrent),
		kgo.FetchMaxWait(c.Fetch.MaxWait),
		kgo.OnPartitionsAssigned(s.assigned),
		kgo.OnPartitionsRevoked(s.revoked),
		kgo.OnPartitionsLost(s.lost),
		kgo.OnOffsetsFetched(s.fetched),
		kgo.WithHooks(&s.health),
	}
	if c.InstanceID != "" {
		opts = append(opts, kgo.InstanceID(s.instance()))
	}
	return opts
}

// instance names the static member of this topic.
func (s *subscription) instance() string {
	id := s.config.InstanceID + "-" + s.topic
	if s.number > 1 {
		id = fmt.Sprintf("%s-%d", id, s.number)
	}
	return id
}

// reach returns when a broker has answered. It is patient with brokers that are
// away, as when everything starts at once, not with those that refuse us.
func reach(ctx context.Context, client *kgo.Client, c Config) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timings.Connect)
	defer cancel()
	var last error
	for {
		err := client.Ping(ctx)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		if refused := refusal(last, c.Connection); refused != nil {
			return refused
		}
		select {
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), context.Canceled) {
				return ctx.Err()
			}
			return fmt.Errorf("no broker reachable at %v within %v: %w; %s", c.Connection.Brokers, c.Timings.Connect, last, wayOut(last, c.Connection))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// wayOut says what to look at when no broker has answered. Some brokers hang up
// on what they do not like, without a word.
func wayOut(err error, conn connection.Config) string {
	var firstRead *kgo.ErrFirstReadEOF
	hungUp := errors.Is(err, io.EOF) || errors.As(err, &firstRead)
	switch {
	case hungUp && conn.SASL != nil:
		return fmt.Sprintf("the broker hung up during the login: wrong credentials for %v? Check Connection.SASL", conn.SASL)
	case hungUp:
		return "the broker hung up: if it wants TLS or a login, set Connection.TLS or Connection.SASL"
	case conn.TLS != nil:
		return "check Connection.Brokers, that the brokers listen there, and that they speak TLS there"
	default:
		return "check Connection.Brokers and that the brokers listen there"
	}
}

// refusal explains errors that waiting does not cure, or returns nil.
func refusal(err error, conn connection.Config) error {
	var record tls.RecordHeaderError
	var certificate *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed), errors.Is(err, kerr.UnsupportedSaslMechanism), errors.Is(err, kerr.IllegalSaslState):
		if conn.SASL == nil {
			return fmt.Errorf("the brokers at %v want credentials: %w; set Connection.SASL", conn.Brokers, err)
		}
		return fmt.Errorf("wrong credentials for %v at %v: %w; check Connection.SASL", conn.SASL, conn.Brokers, err)
	case errors.As(err, &record):
		return fmt.Errorf("the brokers at %v do not speak TLS: %w; set Connection.TLS to nil or use their TLS port", conn.Brokers, err)
	case errors.As(err, &certificate), errors.As(err, &authority):
		return fmt.Errorf("the certificate of the brokers at %v is not trusted: %w; check Connection.TLS", conn.Brokers, err)
	}
	return nil
}

// checkTopic fails when the topic is missing or may not be read.
func (s *subscription) checkTopic(ctx context.Context, client *kgo.Client) error {
	ctx, cancel := context.WithTimeout(ctx, s.config.Timings.Connect)
	defer cancel()
	topics, err := kadm.NewClient(client).ListTopics(ctx, s.topic)
	if err != nil {
		return fmt.Errorf("look it up: %w", err)
	}
	switch err := topics[s.topic].Err; {
	case err == nil:
		s.topicID = topics[s.topic].ID // nobody else runs yet
		return nil
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		if s.config.WaitForTopic {
			s.log.Warn("the topic does not exist yet: waiting for it")
			return nil
		}
		return fmt.Errorf("%w: create it with `tidings topics create %s`, or set WaitForTopic", ErrTopicMissing, s.topic)
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return fmt.Errorf("not allowed to see it: %w; grant DESCRIBE and READ on the topic", err)
	default:
		return err
	}
}

// createTopic makes the topic unless it exists.
func (s *Subscriber) createTopic(topic string) error {
	ctx, cancel := context.WithTimeout(s.stop, 2*s.config.Timings.Connect)
	defer cancel()
	if s.config.CreateTopic != nil {
		return s.config.CreateTopic(ctx, topic)
	}
	client, err := kgo.NewClient(kafka.Options(s.config.Connection, s.config.Logger)...)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := reach(ctx, client, s.config); err != nil {
		return err
	}
	resp, err := kadm.NewClient(client).CreateTopic(ctx, -1, -1, nil, topic)
	if err == nil {
		err = resp.Err
	}
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return nil
	}
	return err
}
