// Package connection says how to reach a Kafka cluster. The publisher, the
// subscriber and the CLI take the same [Config], so that a service is
// configured once.
//
// What is promised:
//
//   - A Config is a value. It is never changed by those who are given one, and
//     may be shared.
//   - [Config.Validate] finds what can be wrong without the network, and names
//     the field, the value and what would do. It never prints a password.
//   - Nothing here connects. Whoever is given a Config connects when it has
//     something to say.
//
// The package imports the standard library only.
package connection
