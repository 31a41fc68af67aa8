// Package connection says how to reach a Kafka cluster. The publisher, the
// subscriber and the CLI take the same Config, so that a service is configured once.
package connection

import "crypto/tls"

// Config says how to reach a Kafka cluster.
type Config struct {
	// Brokers are the bootstrap addresses, host:port. At least one.
	Brokers []string
	// ClientID names this process in the brokers' logs, metrics and quotas.
	// Empty: "tidings".
	ClientID string
	// TLS, when set, encrypts every connection. It is cloned, never changed.
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

// The mechanisms that publisher and subscriber speak.
const (
	Plain       Mechanism = "PLAIN"
	ScramSHA256 Mechanism = "SCRAM-SHA-256"
	ScramSHA512 Mechanism = "SCRAM-SHA-512"
)
