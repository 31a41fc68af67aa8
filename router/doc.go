// Package router brings messages to typed handlers: it wires subscriptions to
// handlers by event type, on a real watermill message.Router.
//
// What it promises:
//
//   - A message is acknowledged only when every handler of its type has applied
//     it (or its inbox knew it already) or has parked it, or when no handler of
//     its subscription takes its type. Nothing else is acknowledged (I5).
//   - The handlers of one message run one after the other, in the order they
//     were listed, each independently: one that fails does not keep the others
//     from applying the event, and they are not run again when it is retried,
//     as long as this process keeps the message (I6).
//   - An event that spent its tries, was rejected, came late, missed its
//     handler's deadline or asked to be tried much later is parked for that
//     handler, in the handler's database; what follows it under its key goes
//     behind it, untried (I6). A message that cannot be decoded is parked under
//     its raw key for every handler of its subscription, and holds it back for
//     all of them (I7). It is logged once and counted.
//   - An outage of what a handler depends on is told from events that fail by
//     themselves (Config.Outage): its events wait, their partitions pause when
//     they are full, and single ones are tried at growing intervals. None is
//     parked for want of tries. It ends by itself with the first success. That
//     it began and ended is logged once each; since when is in Warnings and in
//     the metrics.
//   - How many tries of a handler run at once may be bounded, by a number or by
//     what its latency shows (handlers.Settings.Concurrency).
//   - Parked events are retried when somebody asks (tidings dlq retry) or when
//     they are due, by the same code as messages, in the order of their key, and not
//     while the group is paused.
//   - A handler without an inbox has no dead letters: its event is held. It is not
//     acknowledged, is logged once with all its coordinates, counted, and tried
//     again slowly. With a subscriber that has lanes it holds its own key only.
//     So is an event for which the dead letters have no room (Settings.Bounds).
//   - Memory is bounded (I8): the router keeps nothing of a message that went
//     well, and what it remembers of failing ones has a limit.
//   - Run blocks until its context ends and everything it started has stopped:
//     it stops taking messages, lets running handlers finish within
//     StopTimeout, then cancels their contexts. Handlers that ignore that are
//     named in a StuckError, with their stacks. Subscribers and inboxes that were given are not
//     closed.
//
// The order of one key, and how many messages run side by side, come from the
// subscriber: the router adds no goroutine and no queue of its own. With package
// subscriber's, the goroutine in which watermill's router handled a message goes
// on with others that are ready, a few dozen at most, before it returns: the way
// through watermill costs more than most handlers. A subscriber that is wrapped
// in another one, such as a decorator, sends each message through watermill.
//
// # Batches
//
// A handler made by handlers.Batch is alone in its group. With package
// subscriber's, a batch is gathered in one partition: messages that are ready,
// and what follows them under their keys. Each is finished on its own. When the
// batch fails it is halved until the failing event is alone: that one counts a
// try and is retried, held or parked as any other, what follows it under its key
// goes back behind it, and the others are applied and acknowledged. It is not
// gathered again with others. When the database is away nothing is split and
// nothing counted: the messages come again together. Messages of types that
// nobody takes are finished with the batch; those that cannot be decoded, or are
// late, take the ordinary way in their place.
//
// # Subscribers without lanes
//
// Any watermill message.Subscriber will do. One that knows no lanes (stock
// watermill-kafka, gochannel) cannot put a message aside, so that the router
// waits out the delay of a failing handler before it refuses the message: this
// stops everything behind it in that subscriber, usually its partition, and a
// held event stops it until it is applied. Which handlers have finished is
// remembered by the message's UUID, for Config.Remember unfinished messages;
// beyond that the oldest is forgotten, and its handlers start over: those with
// an inbox answer "duplicate", plain ones run again.
package router
