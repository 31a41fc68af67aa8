// Package testenv gives tests real brokers and real databases, in containers.
//
//   - [Kafka] and [Postgres] share one container within a test binary, started
//     at the first call; each call of Postgres gets a database of its own, each
//     test of Kafka picks topic and group names of its own ([Name]).
//   - [StartKafka] and [StartPostgres] start a container for one test, which may
//     kill, stop, pause and start it again: its address stays the same.
//   - What was started is removed: at the end of the test, or by [Run] or [Main]
//     at the end of the binary, whatever the tests did to it.
//   - Without Docker a test that asks for a container is skipped, and its name
//     goes to the file that TIDINGS_LEFT_OUT names, so that a run can say at its
//     end what it did not prove. With CI=true it fails instead.
//
// The images come from TIDINGS_KAFKA_IMAGE and TIDINGS_POSTGRES_IMAGE; the
// defaults are apache/kafka:4.3.1 and postgres:17.
package testenv
