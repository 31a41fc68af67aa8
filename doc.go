// Package tidings is a domain-event bus for Go services on Kafka. This page says
// what the whole promises, what it does not, and which package does what; each
// package's documentation opens with its own guarantees. The package itself has
// no code.
//
// # The way of an event
//
//	aggregate   records what happened                        event.Recorder
//	dispatch    collects it while the work runs, and publishes after its commit
//	publisher   Kafka: topic = aggregate type, key = aggregate ID
//	subscriber  Kafka -> lanes: a key in order, keys side by side
//	router      watermill Router: typed handlers by event type
//	handlers    one transaction: admitted by the inbox + effect
//	ack         offsets up to the last event before which all are finished
//
// # Promised
//
//   - Publishing: Publish returns nil only when all in-sync replicas have every
//     event; its error names exactly those they have not.
//   - Order in the log: for one key, a later event is never acknowledged unless
//     every earlier one was. This holds for one publisher, its concurrent callers
//     and its retries. Two publishers have no order between them.
//   - Delivery: at least once. An offset is committed only when every handler has
//     applied everything up to it, parked it, or skipped it as not its type.
//   - Order of handling: for one key, a handler first applies events in the log's
//     order, one at a time. [handlers.InTx] handlers keep to that across members
//     whatever happens; [handlers.On] handlers may overlap with an attempt that
//     outlived its deadline in another member.
//   - Effect: a handler in a transaction has its effect once. Effect and inbox row
//     commit together or not at all. A plain handler runs at least once, and the
//     event's ID is the idempotency key.
//   - Failure: an event that keeps failing, is rejected or comes late is parked in
//     its handler's database, durably, with what follows it under its key, for
//     that handler only; other keys go on. What cannot be read is parked for all
//     handlers of its subscription. Parked events are retried in order. A plain
//     handler without an inbox may park in Kafka, by a weaker promise (ParkIn); one
//     without any such place holds the event and its key, in this process, and is
//     tried again slowly. Nothing is dropped.
//   - Memory is bounded at every stage, by count and by bytes; a slow stage slows
//     the one before it.
//   - Nothing runs behind the caller's back: Run blocks until its context ends and
//     everything it started has stopped; what was given is not closed.
//
// # Not promised
//
//   - That an event is published when the process dies between the commit of the
//     work and the acknowledgement of Kafka: it is lost then. An event store in the
//     work's own transaction will close this gap.
//   - That Kafka holds an event once. A lost reply makes the publisher send again;
//     the inbox removes the second. Readers without an inbox see both.
//   - Order between keys, between topics, or between publishers.
//   - Order for messages without a key.
//   - Effects outside the handler's database, such as a mail, happening once.
//   - That events held for want of dead letters survive as such: which they are is
//     known to this process only. After a restart they are read again, from the
//     committed offset.
//   - A transaction across broker and database: see docs/decisions.
//   - A partition count that grows: that moves keys. A grown topic is refused.
//
// # Packages
//
//   - [github.com/tidings-bus/tidings/event]: events, their Go types, their wire form.
//   - [github.com/tidings-bus/tidings/dispatch]: a unit of work and what it raised.
//   - [github.com/tidings-bus/tidings/publisher]: to Kafka, by kafka-go; topics.
//   - [github.com/tidings-bus/tidings/subscriber]: from Kafka, by franz-go;
//     subscriber/watermillkafka for services on watermill-kafka.
//   - [github.com/tidings-bus/tidings/router] and
//     [github.com/tidings-bus/tidings/handlers]: from messages to typed handlers.
//   - [github.com/tidings-bus/tidings/handlers/inbox]: the processed-ID table, with
//     drivers pgxinbox and sqlinbox and a suite for further ones.
//   - [github.com/tidings-bus/tidings/deadletter]: parked events and their retries,
//     in the inbox's database (sqlstore) or in Kafka (kafkastore).
//   - [github.com/tidings-bus/tidings/groups]: pausing and resuming consumer groups.
//   - [github.com/tidings-bus/tidings/schema]: its tables, made and checked.
//   - [github.com/tidings-bus/tidings/connection]: how to reach a cluster.
//   - [github.com/tidings-bus/tidings/admin]: metrics, health and profiles.
package tidings
