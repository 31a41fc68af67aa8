// Package parking is what the inbox drivers, which park events, and the stores
// of dead letters, which hand them out, agree on:
//
//   - the key under which a lock and a row are found, for keys and names of any
//     length, and the lock of an event without a key;
//   - how a record stands in a column: exactly, with null and empty bytes told
//     apart and header names that are no text;
//   - how much room a parked event counts for.
package parking
