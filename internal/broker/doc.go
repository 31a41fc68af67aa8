// Package broker is a Kafka-compatible broker in this process, for development,
// tests and the demo. It is not for production: one node, no replication.
//
// It promises:
//   - an acknowledged record survives the end of the process, SIGKILL included,
//     when DataDir is set (not the end of the machine: writes are not synced);
//   - committed group offsets, topics and their settings survive a restart too;
//   - topics are never created silently: an unknown topic is an error, as it is
//     on a well-kept cluster;
//   - one process at a time uses a data directory.
//
// It is built on franz-go's kfake.
package broker
