// Package handlers turns typed functions into handlers of events.
//
// What is promised:
//
//   - On: at least once. The function may run again for an event after a crash
//     or an error; the event's ID is the idempotency key. With Remember, events
//     whose effect is known to have happened are not handed out again: the inbox
//     row follows the effect.
//   - InTx: once in effect. The function's writes through its transaction and
//     the inbox row commit together or not at all. What it does elsewhere (an
//     HTTP call) is at least once.
//   - Batch: as InTx, for many events in one transaction, all or none. When it
//     fails it is split until the failing event is alone, which is retried as
//     ever; so the function runs again for the others, after a rollback.
//   - Order: for one key, a handler first applies events in the log's order.
//     InTx and Batch handlers are one at a time per key across all members; plain
//     ones may overlap with an attempt that outlived its deadline in another
//     member.
//   - The function's context ends with the attempt's timeout and carries the
//     event as the cause of events made with it (event.CauseFrom), the attempt's
//     number (Attempt) and what the one before ended with (LastError). That of a
//     batch carries no event.
//
// A function steers what happens next by its error: nil finishes the event,
// RetryAfter waits, Reject gives up at once, any other error is tried again by
// the handler's Settings. Timeouts cover the function, not the wait for the key.
//
// What is given up is parked in the handler's database, with what follows it
// under its key, and retried from there: see package deadletter. A delay of more
// than MaxHold is parked too, and tried again when it is due. A plain handler has
// such a place when it names one: by Remember, or in a group without a database by
// ParkIn.
package handlers
