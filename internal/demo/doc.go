// Package demo is a small shop of several processes that shows the bus at work,
// breaks things on purpose, and counts afterwards.
//
// What the demo promises:
//
//   - What it shows is real: separate processes, a broker, databases on disk
//     with synchronous=FULL, SIGKILL. Nothing is simulated but the mail provider,
//     which is a local HTTP server that fails on purpose.
//   - The audit is independent of the bus: it compares the order service's own
//     journal, event by event, with the rows the handlers wrote and with what is
//     in the topic. Effects have no unique key that could hide a second one.
//   - The process it kills is in the middle of its work: it has had effects, holds
//     partitions, and has not finished their events; afterwards it goes on. The
//     audit says so where that was not the case.
//   - A letter that the mail service asks for twice is a mismatch, unless the
//     broker's restart cut its handler off: outside of a transaction effects are
//     at least once.
//   - Everything it started has ended when Run returns, on every path; children
//     also end when their parent is killed, because their stdin closes.
//   - Equal seeds give equal orders, duplicates and failures of the mail
//     provider. Event IDs, timing and interleaving differ from run to run.
//
// The order service publishes straight to Kafka after its transaction, which
// loses events when it dies in between. The demo therefore does not kill it; it
// kills a consumer and restarts the broker.
//
// The services also run on their own, on Kafka and PostgreSQL, as
// docker-compose.yml does.
package demo
