// Package dispatch collects the domain events that are raised while a unit of
// work runs, and hands them to a sink once the work has succeeded.
//
// What is promised:
//
//   - Nothing is published unless the work returned nil: after an error or a
//     panic its events are forgotten.
//   - The events go to the sink in one call, in the order raised: as [Raise] and
//     [Collect] were called, and within an aggregate as it recorded them.
//   - An aggregate's recorded events are cleared only when the sink has
//     confirmed all of them, so that the work can be done again with the same
//     event IDs.
//   - That the caller's context ends after the work has succeeded does not lose
//     the events: they are published under a limit of their own
//     (Config.PublishTimeout).
//
// What is not: the work's transaction and the sink's are two. When the process
// dies after the work has committed and before the sink has confirmed, the
// events are lost, and nobody will know. So they are when the work fails though it
// has committed: a commit that is cut off by the end of its context may have
// happened. Commit under a context that a stop does not end. When the sink fails, the work is
// done all the same; [*UnpublishedError] holds the events for the caller to
// publish again. Where that must not happen, the events have to be stored in
// the work's own transaction.
package dispatch
