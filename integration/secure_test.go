package integration

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/internal/testenv"
	"github.com/tidings-bus/tidings/publisher"
	"github.com/tidings-bus/tidings/subscriber"
)

// Publisher and subscriber share one connection configuration, with TLS and
// SCRAM; and both say what is wrong with credentials, without the password.
func TestPublisherAndSubscriberSpeakTLSAndSCRAM(t *testing.T) {
	broker := testenv.StartKafka(t, testenv.KafkaOptions{Secure: true})
	secure := func(mechanism connection.Mechanism, password string) connection.Config {
		return connection.Config{
			Brokers: broker.Secure,
			TLS:     broker.TLS,
			SASL:    &connection.SASL{Mechanism: mechanism, Username: testenv.User, Password: password},
		}
	}
	for _, mechanism := range []connection.Mechanism{connection.ScramSHA256, connection.ScramSHA512, connection.Plain} {
		t.Run(string(mechanism), func(t *testing.T) {
			s := newScene(t, stage{brokers: broker.Brokers})
			s.expect(plan("o", shape{20, 5}))
			hs := every(0, 0)
			s.takes("billing", hs)
			config := secure(mechanism, testenv.Password)
			stop := s.inside(member{Name: "a", Group: "billing", Handlers: hs, secure: &config})
			p := producer{Brokers: broker.Brokers, Prefix: s.prefix, Postgres: s.postgres, secure: &config}
			require.NoError(t, p.run(s.ctx))
			s.awaitDrained("billing")
			require.NoError(t, stop())
			s.requireEffectsOnce("billing")
		})
	}
	s := newScene(t, stage{brokers: broker.Brokers})
	const wrong = "not-the-password"
	for _, mechanism := range []connection.Mechanism{connection.ScramSHA256, connection.ScramSHA512, connection.Plain} {
		t.Run("wrong password by "+string(mechanism), func(t *testing.T) {
			config := secure(mechanism, wrong)
			require.ErrorIs(t, s.publishError(config), publisher.ErrCredentials)
			for who, err := range map[string]error{"publisher": s.publishError(config), "subscriber": s.subscribeError(config)} {
				requireSays(t, who, err, testenv.User, string(mechanism), "credentials")
				require.NotContains(t, err.Error(), wrong, who)
			}
		})
	}
	t.Run("no TLS where the listener wants it", func(t *testing.T) {
		config := secure(connection.ScramSHA256, testenv.Password)
		config.TLS = nil
		for who, err := range map[string]error{"publisher": s.publishError(config), "subscriber": s.subscribeError(config)} {
			requireSays(t, who, err, broker.Secure[0])
		}
	})
	t.Run("a certificate nobody vouches for", func(t *testing.T) {
		config := secure(connection.ScramSHA256, testenv.Password)
		config.TLS = broker.TLS.Clone()
		config.TLS.RootCAs = nil
		for who, err := range map[string]error{"publisher": s.publishError(config), "subscriber": s.subscribeError(config)} {
			requireSays(t, who, err, "certificate")
		}
	})
}

// inside runs a member in this process. Stop ends it and returns Run's error.
func (s *scene) inside(m member) (stop func() error) {
	s.t.Helper()
	m.Brokers, m.Topic, m.Postgres = s.brokers, s.topic, s.postgres
	m.logger = slog.New(slog.NewTextHandler(s.t.Output(), nil))
	ctx, cancel := context.WithCancel(s.ctx)
	ended := make(chan error, 1)
	go func() { ended <- m.run(ctx) }()
	s.t.Cleanup(cancel)
	return func() error {
		cancel()
		return <-ended
	}
}

// patience is how long calls that cannot succeed may try.
const patience = 3 * time.Second

// publishError publishes one event and returns the error.
func (s *scene) publishError(config connection.Config) error {
	s.t.Helper()
	return s.publishOne(publisher.Config{Connection: config, TopicPrefix: s.prefix}, plan("x", shape{1, 1})[0])
}

// publishOne publishes an event by a publisher of its own.
func (s *scene) publishOne(config publisher.Config, p planned) error {
	s.t.Helper()
	config.Logger = slog.New(slog.DiscardHandler)
	pub, err := publisher.New(config)
	require.NoError(s.t, err)
	defer func() { require.NoError(s.t, pub.Close(context.WithoutCancel(s.ctx))) }()
	catalog, err := newCatalog()
	require.NoError(s.t, err)
	e, err := p.event(s.ctx, catalog)
	require.NoError(s.t, err)
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	return pub.Publish(ctx, e)
}

// subscribeError subscribes to the scene's topic and returns the error.
func (s *scene) subscribeError(config connection.Config) error {
	s.t.Helper()
	return s.subscribe(subscriber.Config{Connection: config, Group: testenv.Name("group")}, s.topic)
}

// subscribe joins and leaves a group and returns what that said.
func (s *scene) subscribe(config subscriber.Config, topic string) error {
	s.t.Helper()
	config.Logger = slog.New(slog.DiscardHandler)
	config.Timings.Connect = patience
	sub, err := subscriber.New(config)
	require.NoError(s.t, err)
	defer func() { require.NoError(s.t, sub.Close()) }()
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	_, err = sub.Subscribe(ctx, topic)
	return err
}
