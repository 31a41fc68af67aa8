package connection

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// DefaultClientID is the client ID of a Config that names none.
const DefaultClientID = "tidings"

// Config says how to reach a Kafka cluster.
type Config struct {
	// Brokers are the bootstrap addresses, host:port. At least one; two or more
	// let a process start while one of them is away.
	Brokers []string
	// ClientID names this process in the brokers' logs, metrics and quotas.
	// Empty: "tidings".
	ClientID string
	// TLS, when set, encrypts every connection. It is cloned, never changed. An
	// empty ServerName stands for the host that is dialled.
	TLS *tls.Config
	// SASL, when set, authenticates every connection.
	SASL *SASL
}

// SASL holds the credentials of one user.
type SASL struct {
	Mechanism Mechanism
	Username  string
	Password  string
}

// Mechanism is a SASL mechanism, by its registered name.
type Mechanism string

// The mechanisms that publisher and subscriber speak. PLAIN (RFC 4616) sends
// the password as it is: use it under TLS only. SCRAM (RFC 5802, RFC 7677)
// does not.
const (
	Plain       Mechanism = "PLAIN"
	ScramSHA256 Mechanism = "SCRAM-SHA-256"
	ScramSHA512 Mechanism = "SCRAM-SHA-512"
)

// Client returns the client ID to send: ClientID, or DefaultClientID when it is
// empty.
func (c Config) Client() string {
	if c.ClientID == "" {
		return DefaultClientID
	}
	return c.ClientID
}

// Validate reports what is wrong with c, all of it at once, or nil. It does not
// use the network.
func (c Config) Validate() error {
	var errs []error
	if len(c.Brokers) == 0 {
		errs = append(errs, errors.New(`connection: Brokers is empty: give at least one address, such as "localhost:9092"`))
	}
	for i, b := range c.Brokers {
		if err := validAddress(b); err != nil {
			errs = append(errs, fmt.Errorf("connection: Brokers[%d] is %q: %w", i, b, err))
		}
	}
	if c.SASL != nil {
		errs = append(errs, c.SASL.validate()...)
	}
	return errors.Join(errs...)
}

// String describes c without its password, for logs and errors.
func (c Config) String() string {
	var b strings.Builder
	b.WriteString(strings.Join(c.Brokers, ","))
	if c.TLS != nil {
		b.WriteString(" over TLS")
	}
	if c.SASL != nil {
		b.WriteString(" as " + c.SASL.String())
	}
	return b.String()
}

// String describes s without its password.
func (s SASL) String() string {
	return fmt.Sprintf("user %q by %s", s.Username, s.Mechanism)
}

// GoString keeps the password out of %#v.
func (s SASL) GoString() string {
	return fmt.Sprintf("connection.SASL{Mechanism:%q, Username:%q, Password:<hidden>}", s.Mechanism, s.Username)
}

func (s SASL) validate() []error {
	var errs []error
	switch s.Mechanism {
	case Plain, ScramSHA256, ScramSHA512:
	case "":
		errs = append(errs, fmt.Errorf("connection: SASL.Mechanism is empty: set one of %s, %s, %s", Plain, ScramSHA256, ScramSHA512))
	default:
		errs = append(errs, fmt.Errorf("connection: SASL.Mechanism is %q: set one of %s, %s, %s",
			string(s.Mechanism), Plain, ScramSHA256, ScramSHA512))
	}
	if s.Username == "" {
		errs = append(errs, errors.New("connection: SASL.Username is empty: name the user, or leave SASL nil for a cluster without authentication"))
	}
	if s.Password == "" {
		errs = append(errs, fmt.Errorf("connection: SASL.Password of user %q is empty: no broker accepts an empty password", s.Username))
	}
	return errs
}

func validAddress(address string) error {
	if address != strings.TrimSpace(address) {
		return errors.New("it has blanks around it: write host:port")
	}
	if strings.Contains(address, "://") {
		return errors.New("it has a scheme: write host:port alone, and set TLS for an encrypted connection")
	}
	if strings.Contains(address, ",") {
		return errors.New("it holds several addresses: give each its own element")
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return errors.New(`write host:port, such as "localhost:9092" or "[::1]:9092"`)
	}
	if host == "" {
		return errors.New("the host is missing: write host:port")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("port %q is not a number from 1 to 65535", port)
	}
	return nil
}
