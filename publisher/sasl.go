package publisher

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/tidings-bus/tidings/connection"
)

func mechanism(s connection.SASL) (sasl.Mechanism, error) {
	switch s.Mechanism {
	case connection.Plain:
		return plain.Mechanism{Username: s.Username, Password: s.Password}, nil
	case connection.ScramSHA256:
		return scram.Mechanism(scram.SHA256, s.Username, s.Password)
	case connection.ScramSHA512:
		return scram.Mechanism(scram.SHA512, s.Username, s.Password)
	}
	return nil, fmt.Errorf("sasl mechanism %q: not known", string(s.Mechanism))
}

// authenticate runs the SASL exchange on l (KIP-43, KIP-152), and notes when the
// session ends where the broker limits it (KIP-368).
func authenticate(ctx context.Context, l *link, m sasl.Mechanism, user string) error {
	r, err := l.RoundTrip(&saslhandshake.Request{Mechanism: m.Name()})
	if err != nil {
		return fmt.Errorf("sasl handshake: %w", err)
	}
	if res, _ := r.(*saslhandshake.Response); res.ErrorCode != 0 {
		return fmt.Errorf("%w: %s: %w: the broker offers %s: set SASL.Mechanism to one of them",
			ErrCredentials, user, kafka.Error(res.ErrorCode), strings.Join(res.Mechanisms, ", "))
	}
	session, message, err := m.Start(ctx)
	if err != nil {
		return fmt.Errorf("sasl %s: %w", m.Name(), err)
	}
	for done := false; !done; {
		r, err := l.RoundTrip(&saslauthenticate.Request{AuthBytes: message})
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return errHungUp
		}
		if err != nil {
			return fmt.Errorf("sasl authenticate: %w", err)
		}
		res, _ := r.(*saslauthenticate.Response)
		if res.ErrorCode != 0 {
			return refused(user, kafka.Error(res.ErrorCode))
		}
		if res.SessionLifetimeMs > 0 {
			life := time.Duration(res.SessionLifetimeMs) * time.Millisecond
			l.expires = time.Now().Add(life * 9 / 10)
		}
		if done, message, err = session.Next(ctx, res.AuthBytes); err != nil {
			// SCRAM proves both ends: a server that does not know the password
			// fails here.
			return refused(user, err)
		}
	}
	return nil
}

// errHungUp says that the broker closed the connection instead of answering the
// authentication: it does not like the credentials, or it just stopped.
var errHungUp = errors.New("sasl authenticate: the broker closed the connection")

func refused(user string, cause error) error {
	return fmt.Errorf("%w: the broker refused %s: %w: check SASL.Username, SASL.Password and SASL.Mechanism", ErrCredentials, user, cause)
}

// fatalConnection tells a failure to connect that waiting does not mend.
func fatalConnection(err error) bool {
	var certificate *tls.CertificateVerificationError
	var noTLS tls.RecordHeaderError
	return errors.Is(err, ErrCredentials) || errors.As(err, &certificate) || errors.As(err, &noTLS)
}
