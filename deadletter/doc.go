// Package deadletter keeps events that handlers could not apply, with their keys
// in order.
//
// Guarantees:
//   - An event that keeps failing stops its own key for its own handler only
//     (I6). Later events of the key are parked behind it without being tried,
//     decided in the transaction that admits them: no rebalance or restart slips
//     one past.
//   - A key is retried from its first event, in order, and stops at its first
//     failure. New events of the key go behind what is parked until the last
//     one has left; then they are handled directly again.
//   - An event leaves with its effect, in one transaction, or by Discard with a
//     reason. Nothing else removes one: full stores refuse (inbox.ErrFull).
//   - Every act is in the audit log: who, when, why, before and after.
//
// A Letter is a parked event, a Key its key with all that waits behind it. Stores
// list and count keys; people select keys by a Filter of what their first events
// are.
//
// What people ask for, a member of the group carries out, for only members have
// the handlers: a Request is recorded, and goes on when the asker has gone. A key is
// part of one open request at a time, and of one member's work at a time, by a
// claim with a lease (Worker). Acts that need no handler are done at once: Discard,
// Reassign, Import.
//
// After Discard, what waited behind the event stays parked until somebody asks
// for its retry. A key whose first event was due by itself goes on by itself.
//
// # Export
//
// MarshalLetter writes a letter as one line of JSON, and UnmarshalLetter reads it
// back exactly: export and import are such lines (NDJSON). Fields keep their names
// in all releases: v (the form's version, 1), id, group, handler, epoch, topic,
// partition, offset, event_id, type, source, aggregate_type, aggregate_id,
// sequence, time, key, value, headers ([{"name", "value"}, ...]), original
// ({"value", "headers"}, of an edited one), cause, error, stack, attempts,
// first_failed, last_failed, due, parked. Key, value and names and values of headers
// are null, or a text where they are one, or {"base64": "..."}; a null value is not
// an empty one. Times are RFC 3339. What is empty may be left out, but for v,
// group, handler, topic, event_id and cause.
package deadletter
