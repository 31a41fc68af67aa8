// Package subscriber reads Kafka into watermill with key lanes.
package subscriber
