package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/tidings-bus/tidings/connection"
)

// kafkaFlags are the flags of every command that talks to Kafka.
type kafkaFlags struct {
	flag          string // by which the addresses were given
	brokers       []string
	clientID      string
	tls           bool
	tlsCA         string
	tlsCert       string
	tlsKey        string
	saslMechanism string
	saslUsername  string
	saslPassword  string
	saslFile      string
	timeout       time.Duration
}

func (k *kafkaFlags) register(cmd *cobra.Command) {
	k.registerAs(cmd, "brokers", []string{"127.0.0.1:9092"}, "bootstrap brokers, host:port")
}

// registerAs names the flag of the addresses.
func (k *kafkaFlags) registerAs(cmd *cobra.Command, flag string, brokers []string, usage string) {
	k.registerOn(cmd.Flags(), flag, brokers, usage)
}

func (k *kafkaFlags) registerOn(f *pflag.FlagSet, flag string, brokers []string, usage string) {
	k.flag = "--" + flag
	f.StringSliceVar(&k.brokers, flag, brokers, usage)
	f.StringVar(&k.clientID, "client-id", "tidings-cli", "name in the brokers' logs and quotas")
	f.BoolVar(&k.tls, "tls", false, "encrypt the connections")
	f.StringVar(&k.tlsCA, "tls-ca", "", "PEM file of the authorities to trust (default: the system's); implies --tls")
	f.StringVar(&k.tlsCert, "tls-cert", "", "PEM file of the client's certificate; implies --tls")
	f.StringVar(&k.tlsKey, "tls-key", "", "PEM file of the client's key")
	f.StringVar(&k.saslMechanism, "sasl-mechanism", "", "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
	f.StringVar(&k.saslUsername, "sasl-username", "", "user to authenticate as")
	f.StringVar(&k.saslPassword, "sasl-password", "", "the user's password; better TIDINGS_SASL_PASSWORD or --sasl-password-file, which other users cannot list")
	f.StringVar(&k.saslFile, "sasl-password-file", "", "file with the user's password")
	f.DurationVar(&k.timeout, "timeout", 30*time.Second, "how long to wait for the brokers")
}

// config returns the connection the flags describe. Its errors are usage errors.
func (k *kafkaFlags) config() (connection.Config, error) {
	cfg := connection.Config{Brokers: k.brokers, ClientID: k.clientID}
	if k.timeout <= 0 {
		return cfg, usageError{fmt.Errorf("--timeout %s must be positive", k.timeout)}
	}
	var err error
	if cfg.TLS, err = k.tlsConfig(); err != nil {
		return cfg, usageError{err}
	}
	if cfg.SASL, err = k.sasl(); err != nil {
		return cfg, usageError{err}
	}
	if err := cfg.Validate(); err != nil {
		return cfg, usageError{err}
	}
	return cfg, nil
}

func (k *kafkaFlags) tlsConfig() (*tls.Config, error) {
	if !k.tls && k.tlsCA == "" && k.tlsCert == "" && k.tlsKey == "" {
		return nil, nil //nolint:nilnil // nil is how connection.Config says "no TLS"
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if k.tlsCA != "" {
		pem, err := os.ReadFile(k.tlsCA)
		if err != nil {
			return nil, fmt.Errorf("--tls-ca: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--tls-ca %s: no PEM certificate in it", k.tlsCA)
		}
	}
	switch {
	case k.tlsCert != "" && k.tlsKey == "":
		return nil, errors.New("--tls-cert needs --tls-key")
	case k.tlsCert == "" && k.tlsKey != "":
		return nil, errors.New("--tls-key needs --tls-cert")
	case k.tlsCert != "":
		pair, err := tls.LoadX509KeyPair(k.tlsCert, k.tlsKey)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert %s with --tls-key %s: %w", k.tlsCert, k.tlsKey, err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

func (k *kafkaFlags) sasl() (*connection.SASL, error) {
	if k.saslPassword != "" && k.saslFile != "" {
		return nil, errors.New("--sasl-password and --sasl-password-file are both set (flag, environment or file); leave one out")
	}
	if k.saslMechanism == "" {
		if k.saslUsername != "" || k.saslPassword != "" || k.saslFile != "" {
			return nil, errors.New("--sasl-username or a password is set but --sasl-mechanism is not; say PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
		}
		return nil, nil //nolint:nilnil // nil is how connection.Config says "no SASL"
	}
	s := &connection.SASL{
		Mechanism: connection.Mechanism(strings.ToUpper(k.saslMechanism)),
		Username:  k.saslUsername,
		Password:  k.saslPassword,
	}
	if k.saslFile != "" {
		raw, err := os.ReadFile(k.saslFile)
		if err != nil {
			return nil, fmt.Errorf("--sasl-password-file: %w", err)
		}
		s.Password = strings.TrimRight(string(raw), "\r\n")
	}
	return s, nil
}

// client connects to the brokers and returns once one of them has answered, or
// an error that says what to look at. Close the client.
func (k *kafkaFlags) client(ctx context.Context, more ...kgo.Opt) (*kgo.Client, connection.Config, error) {
	cfg, err := k.config()
	if err != nil {
		return nil, cfg, err
	}
	cl, err := k.dial(ctx, cfg, more...)
	return cl, cfg, err
}

func (k *kafkaFlags) dial(ctx context.Context, cfg connection.Config, more ...kgo.Opt) (*kgo.Client, error) {
	opts := append(clientOpts(cfg), kgo.DialTimeout(min(5*time.Second, k.timeout)), kgo.RetryTimeout(k.timeout),
		kgo.RequestTimeoutOverhead(max(100*time.Millisecond, min(10*time.Second, k.timeout))))
	cl, err := kgo.NewClient(append(opts, more...)...)
	if err != nil {
		return nil, usageError{err}
	}
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	if err := cl.Ping(ctx); err != nil {
		cl.Close()
		return nil, k.explain(cfg, err)
	}
	return cl, nil
}

// args are the flags by which another process of this program gets the same
// connection. The password goes by the environment, which it inherits, or by the
// file; on the command line others could read it.
func (k *kafkaFlags) args() []string {
	args := []string{"--brokers", strings.Join(k.brokers, ",")}
	for _, f := range []struct{ name, value string }{
		{"tls-ca", k.tlsCA},
		{"tls-cert", k.tlsCert},
		{"tls-key", k.tlsKey},
		{"sasl-mechanism", k.saslMechanism},
		{"sasl-username", k.saslUsername},
		{"sasl-password-file", k.saslFile},
	} {
		if f.value != "" {
			args = append(args, "--"+f.name, f.value)
		}
	}
	if k.tls {
		args = append(args, "--tls")
	}
	return args
}

func clientOpts(cfg connection.Config) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(cfg.Brokers...),
		kgo.ClientID(cfg.ClientID),
		kgo.DialTimeout(5 * time.Second),
		kgo.RequestRetries(3),
	}
	if cfg.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(cfg.TLS.Clone()))
	}
	if s := cfg.SASL; s != nil {
		switch s.Mechanism {
		case connection.Plain:
			opts = append(opts, kgo.SASL(plain.Auth{User: s.Username, Pass: s.Password}.AsMechanism()))
		case connection.ScramSHA256:
			opts = append(opts, kgo.SASL(scram.Auth{User: s.Username, Pass: s.Password}.AsSha256Mechanism()))
		case connection.ScramSHA512:
			opts = append(opts, kgo.SASL(scram.Auth{User: s.Username, Pass: s.Password}.AsSha512Mechanism()))
		}
	}
	return opts
}

// explain turns the first failure to talk to the brokers into an error with the
// way out.
func (k *kafkaFlags) explain(cfg connection.Config, err error) error {
	addrs := strings.Join(cfg.Brokers, ",")
	var (
		op  *net.OpError
		dns *net.DNSError
		ca  *tls.CertificateVerificationError
	)
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &ca):
		return unreachableError{fmt.Errorf("brokers %s: their certificate is not trusted: %w; name the authority with --tls-ca", addrs, ca.Err)}
	case isRefused(err) && cfg.SASL != nil:
		return fmt.Errorf("brokers %s refused user %q with %s: %w; check --sasl-username and the password", addrs, cfg.SASL.Username, cfg.SASL.Mechanism, err)
	case errors.As(err, &dns):
		return unreachableError{fmt.Errorf("no broker reachable at %s: %w; check %s", addrs, dns, k.flag)}
	case errors.As(err, &op) && op.Op == "dial" && !op.Timeout():
		return unreachableError{fmt.Errorf("no broker reachable at %s: %w; check %s, or start one with 'tidings broker'", addrs, op, k.flag)}
	case errors.Is(err, io.EOF) && cfg.SASL != nil:
		return unreachableError{fmt.Errorf("brokers %s hung up on user %q with %s: check --sasl-username and the password, and whether they want --tls", addrs, cfg.SASL.Username, cfg.SASL.Mechanism)}
	case errors.Is(err, io.EOF) && cfg.TLS == nil:
		return unreachableError{fmt.Errorf("brokers %s hung up at once: if they want TLS, add --tls (with --tls-ca for an authority of your own); if they want a user, --sasl-mechanism", addrs)}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, kerr.RequestTimedOut), errors.As(err, &op) && op.Timeout():
		return unreachableError{fmt.Errorf("no broker at %s answered within %s (--timeout)", addrs, k.timeout)}
	}
	return unreachableError{fmt.Errorf("no broker at %s answered: %w; is it a Kafka broker, and does it want --tls or --sasl-mechanism?", addrs, err)}
}
