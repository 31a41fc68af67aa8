// Package outage tells an outage of what a handler depends on from events that
// fail by themselves. It only judges: who asks it holds back and tries again.
//
// Guarantees:
//   - An outage begins when many keys at once fail at their first try: at least
//     Config.Keys different ones, and at least half of the latest events; or when
//     the handler's database admits none of several. An event that fails again
//     and again is one event: a few poisonous keys never make an outage, however
//     often they are tried.
//   - During an outage Ask lets single probes through, one at a time (one that
//     does not return is not waited for beyond two of the longest intervals), at growing
//     intervals, and gives the turn to another key when one is there: a poisonous
//     key cannot keep an outage alive.
//   - Any success ends it; that the database answers without the handler, as it
//     does of duplicates and of events behind parked ones, ends an outage of that
//     database only, and hides none. For Config.Strict after that, only failures without a
//     single success between them begin another: where half of the keys are
//     poisonous, the others are not held up for them.
//   - Nothing grows with the number of keys.
package outage
