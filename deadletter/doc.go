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
//   - Every act is in the audit log.
package deadletter
