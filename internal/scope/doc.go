// Package scope has a context that costs next to nothing until somebody waits
// for its end. Package context starts a timer and registers with the parent when
// a context is made; most handlers of messages never look.
//
// Guarantees, as those of package context:
//   - A Context ends when it is cancelled, when its parent ends, and at its
//     deadline, with the same errors; context.Cause tells why.
//   - What derives from it by package context ends with it and keeps no
//     goroutine.
//   - After Cancel it holds no timer, and its parent knows nothing of it.
package scope
