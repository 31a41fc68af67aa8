// Package kafka makes the options of a franz-go client out of how a cluster is
// reached, the same for everything that reads or writes by that library.
package kafka

import (
	"context"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/tidings-bus/tidings/connection"
)

// Options are those of a client that reaches the cluster of conn and logs its
// warnings and errors to log.
func Options(conn connection.Config, log *slog.Logger) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(conn.Brokers...),
		kgo.ClientID(conn.Client()),
		kgo.WithLogger(logger{log}),
		// A handful of attempts a second is enough for a broker that is away.
		kgo.RetryBackoffFn(func(n int) time.Duration { return min(time.Second, 50*time.Millisecond<<min(n, 6)) }),
	}
	if conn.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(conn.TLS.Clone()))
	}
	if a := conn.SASL; a != nil {
		opts = append(opts, kgo.SASL(mechanism(*a)))
	}
	return opts
}

func mechanism(a connection.SASL) sasl.Mechanism {
	switch a.Mechanism {
	case connection.ScramSHA256:
		return scram.Auth{User: a.Username, Pass: a.Password}.AsSha256Mechanism()
	case connection.ScramSHA512:
		return scram.Auth{User: a.Username, Pass: a.Password}.AsSha512Mechanism()
	case connection.Plain:
	}
	return plain.Auth{User: a.Username, Pass: a.Password}.AsMechanism()
}

// logger passes the client's warnings and errors on.
type logger struct{ log *slog.Logger }

func (l logger) Level() kgo.LogLevel { return kgo.LogLevelWarn }

func (l logger) Log(level kgo.LogLevel, msg string, pairs ...any) {
	at := slog.LevelWarn
	if level == kgo.LogLevelError {
		at = slog.LevelError
	}
	l.log.Log(context.Background(), at, "kafka client: "+msg, pairs...)
}
