// Package pathmodel holds the property test of the whole way of an event behind
// the log: lanes, router, admission, parking and redrive, each the real one,
// under random schedules, against a model small enough to be believed. It has no
// code but tests.
//
// What is not real is the log and its group: a slice for each partition, whose
// committed watermarks the schedule hands from member to member, by drain, by
// loss or by a crash after which nothing of the old member reaches anybody.
//
// What must hold of any schedule, and is looked at with every effect and every
// commit:
//
//   - a handler's first effects of a key are in the log's order: an effect comes
//     only when all before it under its key are applied or discarded (I3), and
//     no two tries of a key run at once;
//   - a transactional handler applies an event once; a plain one once or, when it
//     was read again or its dead letters answered with errors, more often (I4);
//   - a committed watermark passes only what each handler has applied, parked or
//     discarded, or does not take (I5);
//   - in the end, when every failure has ended, everything published is applied or
//     was discarded, and everything is acknowledged (I6, I7).
package pathmodel
