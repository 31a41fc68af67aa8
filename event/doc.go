// Package event has the domain event: what it is, what Go type it is, and how
// it looks on the wire.
//
// Guarantees:
//
//   - An Event is immutable and valid: New and the decoders return one that
//     keeps the rules of CloudEvents 1.0.2, or an *InvalidError that names the
//     field, its value and what would do.
//   - Encoding loses nothing: an event written by ToKafka, MarshalCloudEvent or
//     MarshalCloudEventBatch is read back Equal. What a decoder accepts is an
//     event of which the same holds, whoever produced it.
//   - Decoders take any bytes: no panic, and work linear in their length but for
//     the sorting of headers.
//   - The identity of an event is the same at every read: its UUID, or one
//     derived from source and id when another producer's id is no UUID.
//   - A Catalog tells an event type that nobody registered (ErrUnknownType) from
//     one that is registered but cannot be decoded (*UndecodableError), and that
//     from one of a newer schema (ErrNewerVersion). Mistakes in registering are
//     errors at start that say what to do; a chain of upcasters has no gap.
//   - Correlation, causation and W3C trace context of a new event follow from
//     the event being handled, by way of the context.
//
// On Kafka the key is the aggregate's ID, so that all events of one aggregate
// are in one partition, in order. The wire is CloudEvents 1.0.2 in binary mode;
// see ToKafka. The attributes beyond the core specification are its extensions
// sequence, partitionkey (the aggregate's ID), correlationid and causationid,
// traceparent and tracestate; and two of ours: aggregatetype, and dataversion,
// the version of the payload's schema.
package event
